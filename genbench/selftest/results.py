"""Test problems for results: what a key depends on, what a folder keeps, and what is refused before anything runs.

Each writes small files and plans suites on them; nothing is trained.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from genbench.contract import Model, Recipe, Stage
from genbench.errors import GenbenchError, StoreError, SuiteError
from genbench.evaluate.cell import failed_record
from genbench.machine import pinned_globals, use_threads
from genbench.metrics.base import Value, cut_interval
from genbench.plan.planner import Plan, make_plan
from genbench.progress import Report
from genbench.reasons import explain
from genbench.records import OK, Record, unique_records
from genbench.runner.folder import ResultFolder
from genbench.runner.launcher import Outcome, Task
from genbench.runner.pool import Pool
from genbench.selftest.base import KnownProblem, Measurement
from genbench.store import Store
from genbench.suite.schema import Suite
from genbench.train.doubts import budget_doubts, loss_doubts
from genbench.train.loop import CurvePoint

READER = """
import torch
from genbench.contract import Draws
from helper import START


class Wrapped(Draws):
    @classmethod
    def files(cls, config):
        return ("graph.txt",)

    def sample(self, n, gen, condition=None):
        return torch.full((n, *self.data.shape), START)


class Other(Draws):
    # a comment
    def sample(self, n, gen, condition=None):
        return torch.zeros(n, *self.data.shape)
"""
FAULTY = """
import torch
from genbench.contract import Loss, Model


class Lossy(Model):
    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        self.net = torch.nn.Linear(3, 3)

    def loss(self, batch, player, step, gen):
        return Loss(self.net(batch.x).mean())

    def sample(self, n, gen, condition=None):
        return torch.zeros(n, *self.data.shape)


class Narrow(Lossy):
    def loss(self, batch, player, step, gen):
        return Loss(self.net.weight.mean())

    def sample(self, n, gen, condition=None):
        return torch.zeros(n, 1, 2, 2)
"""
Entry = dict[str, Any]


class Workbench:
    """A folder with a dataset of random images, files of images a.npz and b.npz, and a module with a neighbour."""

    def __init__(self, folder: Path, shape: tuple[int, int, int] = (120, 4, 4)) -> None:
        self.folder = folder
        draws = np.random.default_rng(0)
        for name, count in (("data", shape[0]), ("a", 60), ("b", 60)):
            np.savez(folder / f"{name}.npz", images=draws.integers(0, 256, (count, *shape[1:]), dtype=np.uint8))
        files = {"reader.py": READER, "helper.py": "START = 0.5\n", "graph.txt": "1", "faulty.py": FAULTY}
        for name, text in files.items():
            (folder / name).write_text(text)

    def edit(self, name: str, before: str, after: str) -> None:
        """Replaces a part of a file."""
        (self.folder / name).write_text((self.folder / name).read_text().replace(before, after))

    def suite(self, *models: Entry, **more: Any) -> Suite:
        """A suite of these models, by default of the files a and b."""
        entries = list(models) or [{"name": name, "samples": str(self.folder / f"{name}.npz")} for name in ("a", "b")]
        keys = {"suite": "s", "dataset": {"name": "npz", "path": str(self.folder / "data.npz")}, "features": "pixels"}
        return Suite.model_validate({**keys, "samples": 60, "metrics": ["fid"], "models": entries, **more})

    def code(self, name: str) -> Entry:
        """The entry of a class."""
        return {"name": f"{self.folder}/{name}"}

    def key(self) -> str:
        """The key of the samples of the class Wrapped."""
        return make_plan(self.suite(self.code("reader.py:Wrapped"))).cells[0].samples_key

    def results(self, plan: Plan) -> ResultFolder:
        """The folder of results, as a run of this plan opens it."""
        return ResultFolder(self.folder / "out", plan, Store(self.folder / "store"))

    def finish(self, plan: Plan) -> tuple[Record, ...]:
        """The records of the folder after a run of this plan in which nothing could be measured."""
        records = [failed_record(cell, metric, "not measured") for cell in plan.cells for metric in cell.metrics]
        return self.results(plan).finish({(record.cell, record.metric): record for record in records})


def in_bench(
    measure: Callable[[Workbench], float], true: float, shape: tuple[int, int, int] = (120, 4, 4)
) -> Measurement:
    """A number measured in a bench of its own, and its exact value."""
    with tempfile.TemporaryDirectory() as name:
        return Measurement(float(measure(Workbench(Path(name), shape))), true, 0.0)


def refusals(attempts: Iterable[Callable[[], object]], error: type[GenbenchError] = GenbenchError) -> int:
    """How many of the attempts are refused."""
    refused = 0
    for attempt in attempts:
        try:
            attempt()
        except error:
            refused += 1
    return refused


def keys_of_a_file(bench: Workbench) -> int:
    """Different keys of a model before and after the file that it reads is replaced, and after it is put back."""
    keys = [bench.key()]
    for content in ("2", "1"):
        (bench.folder / "graph.txt").write_text(content)
        keys.append(bench.key())
    return len(set(keys))


def keys_of_code(bench: Workbench) -> int:
    """Different keys of a class, as it is and after edits of a comment, another class, a module that it imports."""
    keys = [bench.key()]
    for name, before, after in (
        ("reader.py", "# a comment", "# another"), ("reader.py", "torch.zeros", "torch.ones"),
        ("helper.py", "0.5", "0.25"),
    ):  # fmt: skip
        bench.edit(name, before, after)
        keys.append(bench.key())
    return len(set(keys))


def kept_rows(bench: Workbench) -> int:
    """Rows of models in a folder after a run of all, and one of `--models a`."""
    bench.finish(make_plan(bench.suite()))
    records = bench.finish(make_plan(bench.suite(), models=["a"]))
    return len({record.model for record in records if record.role == "model"})


def refused_folders(bench: Workbench) -> int:
    """Runs into a folder that are refused: with --limit-images, of another suite of the same name, of its own suite."""
    bench.finish(make_plan(bench.suite()))
    other = bench.suite({"name": "c", "samples": str(bench.folder / "a.npz")})
    plans = [make_plan(bench.suite(), limit_images=60), make_plan(other), make_plan(bench.suite())]
    return refusals(lambda plan=plan: bench.results(plan) for plan in plans)  # type: ignore[misc]


def refused_labels(bench: Workbench) -> int:
    """Labels that are refused, as they are those of built-in rows or of another row up to case: three of four."""
    labels = (["Gaussian"], ["held-out real"], ["a", "A"], ["a", "b"])
    file = str(bench.folder / "a.npz")
    entries = [[{"name": "x", "label": label, "samples": file} for label in row] for row in labels]
    return refusals(lambda models=models: make_plan(bench.suite(*models)) for models in entries)  # type: ignore[misc]


def refused_pairs(bench: Workbench) -> int:
    """Two records of one cell and metric: refused where their values differ, and not where only their runs do."""
    record = replace(bench.finish(make_plan(bench.suite()))[0], status=OK, reason="", value=1.0)
    pairs = ([record, replace(record, value=2.0)], [record, replace(record, run="another")])
    return refusals((lambda pair=pair: unique_records(pair) for pair in pairs), StoreError)  # type: ignore[misc]


def refused_plans(bench: Workbench) -> int:
    """Of six suites the five that cannot be run: sizes that models cannot have, too few, a wrong loss, wrong images."""
    file = str(bench.folder / "a.npz")
    models: list[list[Entry]] = [
        [{"name": "glow"}], [{"name": "dcgan", "config": {"doublings": 5}}], [{"name": "a", "samples": file}],
        [bench.code("faulty.py:Lossy")], [bench.code("faulty.py:Narrow")], [{"name": "vae"}],
    ]  # fmt: skip
    counts = (60, 60, 61, 60, 60, 60)
    return refusals(
        (
            lambda entries=entries, count=count: make_plan(  # type: ignore[misc]
                bench.suite(*entries, samples=count), try_models=True
            )
            for entries, count in zip(models, counts, strict=True)
        ),
        SuiteError,
    )


def ends_beyond_bounds() -> Measurement:
    """Ends of intervals that cannot be: of shares near 0 and 1, of a likelihood near 0."""
    cases = (("share", Value(0.004, -0.013, 0.021)), ("share", Value(0.99, 0.9, 1.08)),
             ("bits/dim", Value(0.2, -0.3, 0.7)))  # fmt: skip
    cut = [(unit, cut_interval(unit, v.value, v.lo, v.hi)) for unit, v in cases]
    beyond = sum((lo or 0) < 0 or (unit == "share" and (hi or 0) > 1) for unit, (lo, hi) in cut)
    return Measurement(float(beyond), 0.0, 0.0)


class OneStage(Model):
    """A model of one player; only its stages are read."""

    stages = (Stage("fit", turns=("all",)),)


def doubts() -> Measurement:
    """Warnings of trainings: within the warm-up, shorter than the average of weights, a rising loss."""
    stages = OneStage.stages
    recipes = (Recipe(batch=10, warmup=200), Recipe(batch=10, ema=0.9999), Recipe(batch=10, warmup=10, ema=0.9))
    known = [len(budget_doubts(recipe, 1_000, stages)) for recipe in recipes]
    curves = [[CurvePoint("fit", i, i, 0.0, "loss", 1 + slope * i / 100) for i in range(20)] for slope in (1, -1)]
    seen = [len(loss_doubts(OneStage, curve)) for curve in curves]  # type: ignore[arg-type]
    return Measurement(float(sum(known) + sum(seen)), 3.0, 0.0)


def changed_globals() -> Measurement:
    """Global settings of torch that code of a model changed, and that the next model would compute with."""
    before = torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()
    try:
        with pinned_globals():
            torch.set_default_dtype(torch.float64)
            torch.use_deterministic_algorithms(True)
        with pinned_globals():
            changed = [torch.get_default_dtype() != torch.float32, torch.are_deterministic_algorithms_enabled()]
    finally:
        torch.set_default_dtype(before[0])
        torch.use_deterministic_algorithms(before[1])
    return Measurement(float(sum(changed)), 0.0, 0.0)


def threads_of_worker(report: Report) -> int:
    """In a worker: how many threads torch uses."""
    return torch.get_num_threads()


def workers(bench: Workbench) -> int:
    """How often a script that starts two workers runs again; plus the workers that do not have one thread."""
    script, mark = ModuleType("__main__"), bench.folder / "ran"
    script.__file__ = str(bench.folder / "script.py")
    Path(script.__file__).write_text(f"open({str(mark)!r}, 'a').write('x')\n")
    outcomes: list[Outcome] = []
    before, sys.modules["__main__"] = sys.modules["__main__"], script
    try:
        tasks = [Task(name, threads_of_worker, ()) for name in ("first", "second")]
        Pool(2, 2, use_threads, explain).run(tasks, lambda *_: None, lambda task, outcome: outcomes.append(outcome))
    finally:
        sys.modules["__main__"] = before
    again = len(mark.read_text()) if mark.exists() else 0
    return again + sum(outcome.result != 1 for outcome in outcomes)


def files(measure: Callable[[Workbench], float], true: float) -> Callable[[], Measurement]:
    """A problem that is measured in a bench."""
    return lambda: in_bench(measure, true)


RESULT_PROBLEMS = (
    KnownProblem("keys of a model whose file is replaced", "two contents", files(keys_of_a_file, 2)),
    KnownProblem("keys of a class whose neighbour is edited", "two values", files(keys_of_code, 2)),
    KnownProblem("rows after a run of one of two", "a run replaces its own", files(kept_rows, 2)),
    KnownProblem("runs refused by a folder of others", "2 of 3 by construction", files(refused_folders, 2)),
    KnownProblem("labels of built-in rows refused", "3 of 4 by construction", files(refused_labels, 3)),
    KnownProblem("two values of a cell refused", "1 of 2 by construction", files(refused_pairs, 1)),
    KnownProblem("plans of what cannot be run refused", "5 of 6 by construction",
                 lambda: in_bench(refused_plans, 5, (120, 5, 7))),
    KnownProblem("ends of intervals that cannot be", "shares 0..1, bits at least 0", ends_beyond_bounds),
    KnownProblem("warnings of trainings that cannot work", "3 by construction", doubts),
    KnownProblem("settings that a model leaves behind", "none", changed_globals),
    KnownProblem("workers that run their script again", "none, each of one thread", files(workers, 0)),
)  # fmt: skip
