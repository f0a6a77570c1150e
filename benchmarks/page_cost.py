"""Sizes and CPU times of pages against their aims: rendering, and sorting in Chromium where it is installed.

    PYTHONPATH=. python benchmarks/page_cost.py

The results with many rows have the records, sample grids and curves of the committed ones under other names, with other
values. Rendering is the whole command `genbench report`.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from genbench.records import Record, read_records, slug, write_records

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "reports" / "reference"
SORTS = 5
CLICK = "document.querySelector('th[data-metric={}] button.sort').click(); document.body.offsetHeight"


@dataclass(frozen=True)
class Case:
    """One result. make: writes it into a folder. size: MB, render: CPU seconds, sort: seconds; None: no aim."""

    name: str
    make: Callable[[Path], object]
    size: float | None = None
    render: float | None = None
    sort: float | None = None


def copied(name: str) -> Callable[[Path], object]:
    """A committed result."""
    return lambda folder: shutil.copytree(REFERENCE / name, folder, dirs_exist_ok=True)


def many(name: str, rows: int, seeds: int) -> Callable[[Path], object]:
    """A result with so many models, made of those of a committed one."""

    def make(folder: Path) -> None:
        source = REFERENCE / name
        records = read_records(source / "records.jsonl")
        models = list(dict.fromkeys(r.model for r in records if r.role == "model"))
        scale = [r for r in records if r.role == "scale"]
        gen = np.random.default_rng(0)
        made = [again for row in range(rows) for seed in range(seeds)
                for again in _again(records, models[row % len(models)], f"model-{row}", seed, gen)]  # fmt: skip
        write_records(folder / "records.jsonl", [*made, *scale])
        for row in range(rows):
            _copy_pictures(source, folder, models[row % len(models)], f"model-{row}", seeds)

    return make


def _again(records: list[Record], model: str, name: str, seed: int, gen: np.random.Generator) -> Iterator[Record]:
    for r in records:
        if r.model != model:
            continue
        factor = 1 + 0.05 * gen.standard_normal()
        numbers = {n: None if v is None else factor * v for n, v in (("value", r.value), ("lo", r.lo), ("hi", r.hi))}
        yield replace(r, model=name, cell=f"{name}/{r.dataset}/s{seed}", seed=seed, **numbers)  # type: ignore[arg-type]


def _copy_pictures(source: Path, folder: Path, model: str, name: str, seeds: int) -> None:
    for kind, prefix, suffix in (
        ("figures", "samples-", "png"),
        ("figures", "neighbours-", "png"),
        ("curves", "", "csv"),
    ):
        path = source / kind / f"{prefix}{slug(model)}-s0.{suffix}"
        (folder / kind).mkdir(exist_ok=True)
        for seed in range(seeds) if path.is_file() else ():
            shutil.copyfile(path, folder / kind / f"{prefix}{slug(name)}-s{seed}.{suffix}")


CASES = (
    Case("digits", copied("digits"), size=0.8),
    Case("Fashion-MNIST on a CPU", copied("fashion_mnist_cpu"), size=2.5),
    Case("12 models, 3 seeds", many("digits", 12, 3), render=4.0),
    Case("200 models", many("fashion_mnist_cpu", 200, 1), size=8.0, render=10.0, sort=0.2),
)


def rendering_seconds(folder: Path) -> float:
    """CPU seconds of `genbench report`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    variables = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(
        [sys.executable, "-m", "genbench", "report", folder], check=True, env=variables, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def sorting_seconds(folder: Path) -> float | None:
    """Median CPU seconds of the page after a click on a head, with the new layout; None without Chromium."""
    sys.path.insert(0, str(ROOT / "tests" / "report"))
    from chromium import Browser, find_chromium

    if find_chromium() is None:
        return None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(Path(profile))
        try:
            browser.open((folder / "leaderboard.html").as_uri())
            browser.call("Performance.enable", timeDomain="threadTicks")
            times = [_working(browser)]
            for metric in ["fid", "recall"] * SORTS:
                browser.run(CLICK.format(metric))
                times.append(_working(browser))
            return statistics.median(after - before for before, after in pairwise(times))
        finally:
            browser.close()


def _working(browser: Any) -> float:
    """CPU seconds that the page's thread has worked."""
    found = browser.call("Performance.getMetrics")["metrics"]
    return float(next(metric["value"] for metric in found if metric["name"] == "TaskDuration"))


def _shown(value: float | None, aim: float | None, unit: str) -> str:
    if value is None:
        return "-"
    return f"{value:.3g} {unit}" + (f" (aim: {aim:g})" if aim is not None else "")


def main() -> None:
    """Prints a table, and fails where an aim is missed."""
    print("| result | page | rendering, CPU | sorting, CPU |\n|---|---|---|---|")
    missed = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "result"
            folder.mkdir()
            case.make(folder)
            render = rendering_seconds(folder)
            size = (folder / "leaderboard.html").stat().st_size / 1e6
            sort = sorting_seconds(folder)
        values = ((size, case.size, "MB"), (render, case.render, "s"), (sort, case.sort, "s"))
        print(f"| {case.name} | {' | '.join(_shown(*value) for value in values)} |", flush=True)
        missed += [case.name for value, aim, _ in values if aim is not None and value is not None and value > aim]
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
