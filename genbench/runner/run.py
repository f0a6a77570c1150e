"""Runs a suite: what is missing is done, side by side where that is faster; every number becomes a record at once."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import yaml

from genbench import data, report
from genbench.evaluate.cell import failed_record, stored_record
from genbench.machine import (
    choose_device,
    cores_available,
    device_name,
    environment,
    explain,
    timing_machine,
    use_threads,
)
from genbench.plan.cells import Cell, MetricPlan
from genbench.plan.planner import Plan, make_plan
from genbench.records import FAILED, OK, Record, append_records, read_records, write_records
from genbench.report.grids import rows_by_class, save_grid
from genbench.runner.pool import Outcome, Pool, Task, worker_count
from genbench.runner.tasks import evaluate_task, train_task
from genbench.screen import Screen, duration
from genbench.sources.trained import CURVES_FILE, Fit, Trained
from genbench.store import Kind, Store, make_folder
from genbench.suite.schema import Suite, read_suite

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Result:
    """A finished run: where it is, its records in the suite's order, and how many of them were measured now."""

    directory: Path
    records: tuple[Record, ...]
    measured: int

    @property
    def failed(self) -> list[Record]:
        """Records of what failed."""
        return [r for r in self.records if r.status == FAILED]

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """A row per model and dataset; columns as in leaderboard.csv."""
        return report.leaderboard(list(self.records))


def run(
    suite: Path | str | Suite,
    *,
    out: Path | str | None = None,
    models: Collection[str] | None = None,
    seeds: Collection[int] | None = None,
    device: str = "auto",
    limit_images: int | None = None,
    screen: Screen | None = None,
) -> Result:
    """Runs or continues a suite and writes its folder (default reports/<suite>/); done work is never repeated.

    models, seeds: only these. device: auto, cpu, cuda or mps. limit_images: cap on budgets, samples and held-out
    images, to try a suite out. Raises GenbenchError for a mistake of the user's; what fails while running becomes a
    record. Call it below `if __name__ == "__main__":` in a script, as it starts worker processes.
    """
    suite = suite if isinstance(suite, Suite) else read_suite(Path(suite))
    place = choose_device(device)
    plan = make_plan(suite, models=models, seeds=seeds, limit_images=limit_images, machine=timing_machine(place))
    directory = make_folder(Path(out) if out is not None else Path("reports") / suite.suite)
    store = Store()
    with store.lock("runs", directory.resolve().as_posix().replace("/", "-")), screen or Screen() as shown:
        return _Run(plan, store, directory, place, shown).go()


class _Run:
    def __init__(self, plan: Plan, store: Store, directory: Path, device: str, screen: Screen) -> None:
        self.plan, self.store, self.directory, self.device, self.screen = plan, store, directory, device, screen
        self.records: dict[tuple[str, str], Record] = {}
        self.cells = {c.id: c for c in plan.cells}
        self.measured = 0

    def go(self) -> Result:
        start = time.perf_counter()
        self._collect_stored()
        tasks = self.tasks()
        if tasks:
            write_records(self.path, self.records.values())
            self._work(tasks)
        ordered = tuple(self.records[c.id, m.name] for c in self.plan.cells for m in c.metrics)
        write_records(self.path, ordered)
        self._write_folder(bool(tasks), time.perf_counter() - start)
        result = Result(self.directory, ordered, self.measured)
        self._say_end(result, time.perf_counter() - start)
        return result

    @property
    def path(self) -> Path:
        return self.directory / "records.jsonl"

    def tasks(self) -> list[Task]:
        """What is missing: trainings, then evaluations, then timings."""
        fits = {fit.key: self._training(fit) for fit in self.plan.fits if not self.store.intact(Kind.WEIGHTS, fit.key)}
        tasks: list[Task] = []
        for cell in self.plan.cells:
            training = fits.get(cell.source.weights_key)
            needs = frozenset({training.name} if training else ())
            tasks += [self._evaluation(cell, alone, needs) for alone in (False, True) if self._missing(cell, alone)]
        needed = {name for task in tasks for name in task.needs}
        return [task for task in fits.values() if task.name in needed] + tasks

    def _training(self, fit: Fit) -> Task:
        users = sum(c.source.weights_key == fit.key for c in self.plan.cells)
        name = f"{fit.label} s{fit.seed} train"
        return Task(name, train_task, (fit, self.plan.data, self.store.root, self.device), first=10 * users)

    def _evaluation(self, cell: Cell, alone: bool, needs: frozenset[str]) -> Task:
        name = f"{cell.label} s{cell.seed} {'speed' if alone else 'evaluate'}"
        arguments = (cell, alone, self.store.root, self.device)
        return Task(name, evaluate_task, arguments, needs, alone=alone, first=5 if cell.source.weights_key else 1)

    def _missing(self, cell: Cell, alone: bool) -> list[MetricPlan]:
        absent = [m for m in cell.metrics if (cell.id, m.name) not in self.records]
        return [m for m in absent if m.metric.reads.alone == alone]

    def _collect_stored(self) -> None:
        """Values in the store; a record that says what the folder's says keeps the folder's provenance."""
        earlier = {(r.cell, r.metric): r for r in read_records(self.path)} if self.path.is_file() else {}
        for cell in self.plan.cells:
            for planned in cell.metrics:
                record, before = stored_record(cell, planned, self.store), earlier.get((cell.id, planned.name))
                if record is not None:
                    same = before is not None and replace(before, **vars(cell.provenance)) == record
                    self.records[cell.id, planned.name] = before if same and before is not None else record

    def _work(self, tasks: list[Task]) -> None:
        cores, preload = cores_available(), ("genbench.runner.tasks", *data.imports(self.plan.data.entry))
        pool = Pool(worker_count(torch.device(self.device).type, cores), cores, use_threads, explain, preload)
        pool.run(tasks, lambda task, progress: self.screen.progress(task.name, progress), self._ended)

    def _ended(self, task: Task, outcome: Outcome) -> None:
        if task.run is train_task:
            self.screen.end(task.name, outcome.failure or outcome.result, bool(outcome.failure))
            return
        cell, alone = task.args[0], task.args[1]
        new = outcome.result or [failed_record(cell, m, outcome.failure) for m in self._missing(cell, alone)]
        fresh = [r for r in new if (r.cell, r.metric) not in self.records]
        append_records(self.path, fresh)
        self.records |= {(r.cell, r.metric): r for r in fresh}
        self.measured += sum(r.status == OK for r in fresh)
        bad = [r for r in fresh if r.status == FAILED]
        self.screen.end(task.name, bad[0].reason if bad else _headline(fresh), bool(bad))

    def _write_folder(self, worked: bool, seconds: float) -> None:
        self._write_pictures()
        page = self.directory / "leaderboard.html"
        stamp = self.directory / "environment.json"
        if worked or not stamp.is_file():
            facts = environment() | {"device": device_name(self.device), "machine": timing_machine(self.device)}
            facts |= {"seconds": round(seconds, 1), "command": " ".join(["genbench", *sys.argv[1:]])}
            facts["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
            stamp.write_text(json.dumps(facts, indent=1))
        as_run = self.directory / "suite.yaml"
        text = yaml.safe_dump(self.plan.suite.model_dump(mode="json", exclude_unset=True), sort_keys=False)
        if not as_run.is_file() or as_run.read_text(encoding="utf-8") != text:
            as_run.write_text(text, encoding="utf-8")
        if not page.is_file() or any(page.stat().st_mtime < file.stat().st_mtime for file in (self.path, as_run)):
            report.render(self.directory)

    def _write_pictures(self) -> None:
        for cell in self.plan.cells:
            grid = make_folder(self.directory / "figures") / f"samples-{cell.slug}.png"
            if self._newer(Kind.SAMPLES, cell.samples_key, grid):
                shown = images_to_show(self.store.path(Kind.SAMPLES, cell.samples_key))
                save_grid(shown, self.plan.data.spec.levels, grid)
            curve = make_folder(self.directory / "curves") / f"{cell.slug}.csv"
            fit = cell.source.fit if isinstance(cell.source, Trained) else None
            if fit is not None and fit.label == cell.label and self._newer(Kind.WEIGHTS, fit.key, curve):
                shutil.copyfile(self.store.path(Kind.WEIGHTS, fit.key) / CURVES_FILE, curve)

    def _newer(self, kind: str, key: str, path: Path) -> bool:
        if not self.store.has(kind, key):
            return False
        made = (self.store.path(kind, key) / "meta.json").stat().st_mtime
        return not path.is_file() or path.stat().st_mtime < made

    def _say_end(self, result: Result, seconds: float) -> None:
        page = self.directory / "leaderboard.html"
        values = sum(r.status == OK for r in result.records)
        if not self.measured and not result.failed:
            self.screen.say(f"everything was there: {len(self.plan.cells)} cells, {values} values; {page}")
            return
        failed = f", {len(result.failed)} failed" if result.failed else ""
        self.screen.say(f"{values} values{failed} in {duration(seconds)}; {page}")


def images_to_show(folder: Path) -> np.ndarray:
    """The images of a grid (n, C, H, W): those laid out for it, else a row a class asked for, else the first 100."""
    if (folder / "shown.npy").is_file():
        laid_out: np.ndarray = np.load(folder / "shown.npy")
        return laid_out
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    if not (folder / "labels.npy").is_file():
        return np.asarray(pixels[:100])
    return np.asarray(pixels[rows_by_class(np.load(folder / "labels.npy"))])


def _headline(records: list[Record]) -> str:
    shown = [f"{r.metric} {r.value:.4g}" for r in records if r.status == OK and r.value is not None]
    return ", ".join(shown[:6]) or "nothing to measure"
