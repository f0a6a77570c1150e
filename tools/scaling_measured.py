"""What a run costs beside its models: measured against cells, images and processes.

    python -m tools.scaling_measured > table.md
    python -m tools.scaling_measured work_table images_table

Seconds are of the processor (of this process and its workers), so that other programs matter little; only the table of
processes has seconds of the clock, and its tasks sleep.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from genbench.contract import DataSpec
from genbench.draw.blocks import draw
from genbench.evaluate.score import score
from genbench.machine import use_threads
from genbench.metrics.frechet import distance, feature_moments
from genbench.progress import silent
from genbench.reasons import explain
from genbench.registry import resolve_model
from genbench.runner.launcher import Task
from genbench.runner.pool import Pool
from genbench.sources.build import build
from genbench.store import Kind, Store
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, fit
from tools.simulated_cluster import SimulatedCluster, pause

ROOT = Path(__file__).parent.parent
CELLS, IMAGES, PROCESSES = (1, 2, 4, 8), (1_000, 4_000, 16_000), (1, 2, 4, 8)
DIGITS = DataSpec(1, 8, 8, 17)
TASKS, SLEEP = 40, 0.25


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def spent(work: Callable[[], Any]) -> float:
    """Seconds of the processor that it takes."""
    before = processor_seconds()
    work()
    return processor_seconds() - before


def trivial_cells(count: int) -> Iterator[Task]:
    """For each cell a training, an evaluation that needs it, and a timing."""
    for i in range(count):
        need = frozenset({f"train {i}"})
        yield Task(f"train {i}", nothing, ())
        yield Task(f"evaluate {i}", nothing, (), need)
        yield Task(f"speed {i}", nothing, (), need, alone=True)


def nothing(report: Any) -> None:
    """A task that takes no time."""


def simulated(count: int) -> tuple[float, SimulatedCluster]:
    """Milliseconds of a cell, with 64 nodes of 8 slots that fail in 1 % of their steps; and the cluster."""
    cluster = SimulatedCluster(nodes=64, slots=8, failing=0.01)
    seconds = spent(lambda: cluster.run(trivial_cells(count), lambda *_: None, lambda *_: None))
    return 1000 * seconds / count, cluster


def simulation_table() -> Iterator[tuple[str, ...]]:
    """Overhead of the launcher in a cluster that fails."""
    yield "cells", "tasks", "node failures", "tasks sent again", "ms for each cell"
    for count in (500, 1_000, 2_000, 4_000):
        cost, cluster = simulated(count)
        again = sum(cluster.attempts.values()) - 3 * count
        yield f"{count:,}", f"{3 * count:,}", f"{cluster.failures:,}", f"{again:,}", f"{cost:.2f}"


def store_table() -> Iterator[tuple[str, ...]]:
    """One small artefact: made under its lock, and found again."""
    yield "store", "made (ms)", "found again (ms)"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["GENBENCH_COPIES"] = f"{folder}/copies"
        for location in (f"{folder}/store", f"file://{folder}/remote"):
            store = Store(location)

            def keep(store: Store = store) -> None:
                for i in range(100):
                    store.kept(Kind.VALUES, f"k{i}", lambda path: (path / "value.json").write_text("1") and None)

            yield location.replace(folder, "..."), f"{10 * spent(keep):.2f}", f"{10 * spent(keep):.2f}"


def suite_of(folder: Path, cells: int) -> Path:
    """A suite of models that do almost nothing, on 120 images of 8x8 pixels."""
    rng = np.random.default_rng(0)
    np.savez(folder / "data.npz", images=rng.integers(0, 256, (120, 8, 8), dtype=np.uint8))
    toy = {"name": "toy", "source": f"{ROOT}/tests/toys.py:Diagonal", "budget": {"images": 64}}
    models = [{**toy, "label": f"toy{i}", "config": {"scale": 0.3 + 0.01 * i}} for i in range(cells)]
    suite = {"suite": "cells", "dataset": {"name": "npz", "path": "data.npz"}, "features": "pixels", "samples": 60,
             "metrics": ["fid", "bits_per_dim"], "models": models}  # fmt: skip
    path = folder / f"cells{cells}.yaml"
    path.write_text(yaml.safe_dump(suite))
    return path


def cells_table() -> Iterator[tuple[str, ...]]:
    """Whole runs of trivial cells: the process of the command, without its workers."""
    yield "cells", "s"
    for cells in CELLS:
        with tempfile.TemporaryDirectory() as folder:
            path = suite_of(Path(folder), cells)
            command = [sys.executable, "-m", "genbench", "run", str(path), "--out", f"{folder}/out", "--device", "cpu"]
            variables = {**os.environ, "GENBENCH_CACHE": f"{folder}/cache", "OMP_NUM_THREADS": "1"}
            run = lambda: subprocess.run(command, env=variables, check=True, capture_output=True)  # noqa: E731, B023
            yield f"{cells}", f"{spent(run):.1f}"


def images_table() -> Iterator[tuple[str, ...]]:
    """FID from features of 256 numbers: what grows with the number of images."""
    yield "images", "moments (s)", "distance (s)"
    rng = np.random.default_rng(0)
    for count in IMAGES:
        rows = rng.standard_normal((count, 256)).astype(np.float32)
        both: list[Any] = []
        seconds = spent(lambda: both.append(feature_moments(rows)))  # noqa: B023
        yield f"{count:,}", f"{seconds:.3f}", f"{spent(lambda: distance(both[0], both[0])):.3f}"  # noqa: B023


def work_table() -> Iterator[tuple[str, ...]]:
    """Training and drawing of the zoo's VAE for 1x8x8 pixels, and FID of an array of such images by a small network."""
    yield "images", "trained with (s)", "drawn (s)", "scored (s)"
    model = build(resolve_model("vae"), DIGITS, {}, {}, 0)
    recipe = model.recipe(DIGITS)
    with tempfile.TemporaryDirectory() as name:
        os.environ["GENBENCH_CACHE"] = f"{name}/cache"
        _work_of(IMAGES[0], model, recipe, Path(name))  # imports, and the features of the reference
        costs = [_work_of(count, model, recipe, Path(name)) for count in IMAGES]
    for count, seconds in zip(IMAGES, costs, strict=True):
        yield f"{count:,}", *(f"{value:.2f}" for value in seconds)
    slopes = np.polyfit(IMAGES, np.array(costs), 1)[0]
    yield "1,000 more", *(f"{1000 * slope:.3f}" for slope in slopes)


def _work_of(count: int, model: Any, recipe: Any, folder: Path) -> list[float]:
    pixels = np.random.default_rng(0).integers(0, DIGITS.levels, (count, *DIGITS.shape), dtype=np.uint8)
    np.savez(folder / f"{count}.npz", images=pixels[:, 0])
    batches = Batches(torch.from_numpy(pixels), None, DIGITS.levels, 0)
    return [
        spent(lambda: fit(model, batches, recipe, FitOptions(count, 0))),
        spent(lambda: draw(model, count, 0)),
        spent(lambda: score(fake=folder / f"{count}.npz", reference="digits", metrics=["fid"], device="cpu")),
    ]


def processes_table() -> Iterator[tuple[str, ...]]:
    """Tasks that sleep, in worker processes: seconds of the clock."""
    yield "processes", "s", f"s if only the sleeping counted ({TASKS} tasks of {SLEEP} s)"
    for workers in PROCESSES:
        pool, start = Pool(workers, 1, use_threads, explain, ("genbench.runner.tasks",)), time.perf_counter()
        pool.run([Task(f"t{i}", pause, (SLEEP,)) for i in range(TASKS)], lambda *_: silent, lambda *_: None)
        yield f"{workers}", f"{time.perf_counter() - start:.1f}", f"{TASKS * SLEEP / workers:.1f}"


def markdown(rows: Iterator[tuple[str, ...]]) -> str:
    """A table; the first row is its head."""
    head, *others = rows
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *others))


def main() -> None:
    """Prints every table, or those whose names are given."""
    use_threads(1)
    for table in (simulation_table, store_table, cells_table, images_table, work_table, processes_table):
        if len(sys.argv) > 1 and table.__name__ not in sys.argv[1:]:
            continue
        print(f"{table.__doc__}\n\n{markdown(table())}\n", flush=True)


if __name__ == "__main__":
    main()
