"""Runs a suite: missing work is done, in parallel where that is faster; every number becomes a record at once."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from genbench import data
from genbench.evaluate.cell import failed_record, stored_record
from genbench.machine import (
    device_name,
    environment_facts,
    timing_machine,
    visible_gpus,
)
from genbench.plan.cells import Cell, MetricPlan
from genbench.plan.planner import Plan, make_plan
from genbench.provenance import command_line
from genbench.records import FAILED, OK, Record
from genbench.report.poor import poor_rows
from genbench.report.result import Result, read_result
from genbench.runner.early import begin_workers, default_folder
from genbench.runner.execution import Execution, LaunchRequest
from genbench.runner.executors import choose_execution, make_launcher
from genbench.runner.folder import ResultFolder
from genbench.runner.launcher import Outcome, Task
from genbench.runner.tasks import evaluate_task, sound, train_task
from genbench.runner.timed import on_timed_machine
from genbench.runner.trials import cells_by_trial, verdicts_of
from genbench.runner.tryouts import TrialResult
from genbench.screen import Screen
from genbench.sources.base import DataPlan
from genbench.sources.trained import Fit, Trained
from genbench.store import DiskLease, Kind, Store, held, make_folder
from genbench.suite.schema import Suite, read_suite
from genbench.team import Launched
from genbench.text import duration

LOCK = ".run.lease"  # in the folder of a result, while a run writes it


def run(
    suite: Path | str | Suite,
    *,
    out: Path | str | None = None,
    models: Collection[str] | None = None,
    seeds: Collection[int] | None = None,
    device: str = "auto",
    limit_images: int | None = None,
    cell_timeout: float | None = None,
    executor: str = "local",
    executor_options: Collection[str] = (),
    processes: int | None = None,
    screen: Screen | None = None,
) -> Result:
    """Runs or continues a suite and writes its folder (default `reports/<suite>/`); finished work is never repeated.

    suite: a Suite, the path of a YAML file, or the name of a shipped suite. models, seeds: only these. device: auto,
    cpu, cuda (all GPUs of this machine), cuda:0,2 (these) or mps. limit_images: cap on budgets, samples and held-out
    images, to try a suite out. cell_timeout: seconds after which a training or evaluation fails. executor: where it
    runs: local, ray or submitit; executor_options: KEY=VALUE of it (docs/scaling.md). processes: that compute each
    training and evaluation together; None: those that torchrun has started, else one. Raises GenbenchError for a wrong
    suite or argument; a failure during the run becomes a record.

        result = genbench.run("suites/digits.yaml", models=["vae", "glow"], out="reports/two")
        table = result.leaderboard[["model", "fid", "bits_per_dim"]]
    """
    launched = Launched.from_environment()
    if launched is not None and launched.rank:
        launched.serve()
        return read_result(_directory(out, suite if isinstance(suite, Suite) else read_suite(suite)))
    with nullcontext() if launched is None else launched.leading():
        suite = suite if isinstance(suite, Suite) else read_suite(suite)
        execution = choose_execution(executor, device, executor_options, processes)
        if execution.here:
            begin_workers(suite, _directory(out, suite))
        plan = make_plan(
            suite,
            models=models,
            seeds=seeds,
            limit_images=limit_images,
            machine=_machine(execution),
            device=execution.device,
        )
        return _execute(plan, execution, make_folder(_directory(out, suite)), cell_timeout, screen or Screen())


def _execute(plan: Plan, execution: Execution, directory: Path, limit: float | None, screen: Screen) -> Result:
    store = Store()
    with held(DiskLease(directory / LOCK), str(directory)), screen:
        launch = LaunchRequest(
            execution, _modules(each.entry for each in plan.datasets), directory, limit, partial(_stalled, screen)
        )
        return _Run(plan, store, ResultFolder(directory, plan, store), launch, screen).go()


def _modules(datasets: Iterable[dict[str, Any]]) -> tuple[str, ...]:
    """What tasks need: the code that runs them, and what loading these datasets imports."""
    return ("genbench.runner.tasks", *(module for entry in datasets for module in data.imports(entry)))


def _directory(out: Path | str | None, suite: Suite) -> Path:
    return default_folder(suite) if out is None else Path(out)


def _machine(execution: Execution) -> str:
    """The machine of timings; "" where it is not known before they run."""
    if not execution.here:
        return ""
    number = visible_gpus().index(execution.gpus[0]) if execution.gpus else None
    return timing_machine(execution.device if number is None else f"{execution.device}:{number}")


def _stalled(screen: Screen, task: Task, seconds: float) -> None:
    screen.say(f"{task.name}: no progress for {duration(seconds)}; --cell-timeout SECONDS ends it", "yellow")


class _Run:
    def __init__(self, plan: Plan, store: Store, folder: ResultFolder, launch: LaunchRequest, screen: Screen) -> None:
        self.plan, self.store, self.folder, self.launch, self.screen = plan, store, folder, launch, screen
        self.records: dict[tuple[str, str], Record] = {}
        self.measured = 0
        self.seconds: dict[str, float] = {}  # of trainings and of drawing by key, where a trial has shown them

    def go(self) -> Result:
        start = time.perf_counter()
        self._collect_stored()
        tasks = self.tasks()
        if tasks:
            self.folder.start(self.records.values())
            self._try_models(tasks)
            self._work(self.tasks())
        records = self.folder.finish(self.records)
        seconds = time.perf_counter() - start
        self.folder.write(self._facts(seconds) if tasks else None)
        result = Result(self.folder.directory, records, self.measured)
        self._show_end(result, seconds)
        return result

    def tasks(self) -> list[Task]:
        """What is missing: trainings, then evaluations, then timings."""
        fits = {fit.key: self._training(fit) for fit in self.plan.fits if not self.store.intact(Kind.WEIGHTS, fit.key)}
        tasks: list[Task] = []
        for views in self.plan.views:
            training = fits.get(views[0].source.weights_key)
            needs = frozenset({training.name} if training else ())
            for alone in (False, True):
                missing = tuple(cell for cell in views if self._missing(cell, alone))
                tasks += [self._evaluation(missing, alone, needs)] if missing else []
        needed = {name for task in tasks for name in task.needs}
        return [task for task in fits.values() if task.name in needed] + tasks

    def _training(self, fit: Fit) -> Task:
        plan = next(plan for plan in self.plan.datasets if plan.fingerprint == fit.fingerprint)
        name = f"{self._shown(fit.label, plan)} s{fit.seed} train"
        execution = self.launch.execution
        arguments = (fit, plan, self.store.location, execution.device, execution.processes)
        seconds = self.seconds.get(fit.key) or max(self.seconds.values(), default=0.0)  # unknown: of a large model
        return Task(name, train_task, arguments, seconds=seconds)

    def _shown(self, label: str, plan: DataPlan) -> str:
        """A row on the screen: with its dataset where the suite has several."""
        return label if len(self.plan.datasets) == 1 else f"{label} {plan.name}"

    def _evaluation(self, views: tuple[Cell, ...], alone: bool, needs: frozenset[str]) -> Task:
        cell = views[0]
        name = f"{self._shown(cell.label, cell.data)} s{cell.seed} {'speed' if alone else 'evaluate'}"
        execution, seconds = self.launch.execution, 0.0 if alone else self.seconds.get(cell.samples_key, 0.0)
        arguments = (views, alone, self.store.location, execution.device, execution.processes)
        shared = execution.device == "cpu" and execution.processes == 1 and not alone
        group = cell.source.code if shared else ""
        return Task(name, evaluate_task, arguments, needs, alone, group, sound, seconds)

    def _missing(self, cell: Cell, alone: bool) -> list[MetricPlan]:
        absent = [m for m in cell.metrics if (cell.id, m.name) not in self.records]
        return [m for m in absent if m.metric.reads.alone == alone]

    def _collect_stored(self) -> None:
        for planned_cell in self.plan.cells:
            cell = planned_cell
            if not self.launch.execution.here:
                cell = on_timed_machine(cell, self.folder.earlier, self.store)
            for planned in cell.metrics:
                record = self.folder.known(cell, stored_record(cell, planned, self.store), planned.name)
                if record is not None:
                    self.records[cell.id, planned.name] = record

    def _try_models(self, tasks: list[Task]) -> None:
        """Where anything is to be trained: rows whose models cannot work fail first."""
        if not any(task.run is train_task for task in tasks):
            return
        missing = [c for c in self.plan.cells if any(self._missing(c, alone) for alone in (False, True))]
        cells = cells_by_trial(missing, self.store)
        for trial, verdict in verdicts_of(list(cells), self.launch).items():
            self._judge(cells[trial], verdict)
            for cell in cells[trial]:
                self.seconds[cell.samples_key] = cell.drawing.n * verdict.image
                self.seconds |= {cell.source.fit.key: verdict.training} if isinstance(cell.source, Trained) else {}

    def _judge(self, cells: list[Cell], verdict: TrialResult) -> None:
        """Shows what a trial of these cells' model found, and fails the cells that cannot work."""
        rows = ", ".join(dict.fromkeys(f"{self._shown(cell.label, cell.data)} s{cell.seed}" for cell in cells))
        if verdict.no_likelihood:
            self.screen.say(f"{rows}: the likelihood cannot be computed: {verdict.no_likelihood}", "yellow")
        if verdict.failure:
            self.screen.say(f"✗ {rows}: cannot work: {verdict.failure}", "red")
        for cell in cells if verdict.failure else ():
            missing = [m for alone in (False, True) for m in self._missing(cell, alone)]
            self._keep([failed_record(cell, metric, verdict.failure) for metric in missing])

    def _work(self, tasks: list[Task]) -> None:
        self.screen.expect({task.name: task.seconds for task in tasks})
        launcher = make_launcher(self.launch)
        launcher.run(tasks, lambda task, progress: self.screen.progress(task.name, progress), self._ended)

    def _ended(self, task: Task, outcome: Outcome) -> None:
        if task.run is train_task:
            self.screen.end(task.name, outcome.failure or outcome.result, bool(outcome.failure))
            return
        views, alone = task.args[0], task.args[1]
        new = outcome.result or [
            failed_record(cell, m, outcome.failure) for cell in views for m in self._missing(cell, alone)
        ]
        fresh = [r for r in new if (r.cell, r.metric) not in self.records]
        self._keep(fresh)
        self.measured += sum(r.status == OK for r in fresh)
        bad = [r for r in fresh if r.status == FAILED]
        self.screen.end(task.name, bad[0].reason if bad else _headline(fresh), bool(bad))

    def _keep(self, records: list[Record]) -> None:
        self.folder.add(records)
        self.records |= {(r.cell, r.metric): r for r in records}

    def _facts(self, seconds: float) -> dict[str, Any]:
        """What environment.json holds: the machine if it is this one, the run's duration, and its command."""
        execution, facts = self.launch.execution, environment_facts()
        if execution.here:
            device = execution.device
            facts |= {"device": device_name(device), "machine": timing_machine(device)}
        facts |= {"processes": execution.processes} if execution.processes > 1 else {}
        facts |= {"executor": execution.executor, "seconds": round(seconds, 1), "command": command_line(sys.argv)}
        return facts | {"finished": datetime.now(UTC).isoformat(timespec="seconds")}

    def _show_end(self, result: Result, seconds: float) -> None:
        values = sum(r.status == OK for r in result.records)
        if self.folder.removed:
            rows = ", ".join(self.folder.removed)
            self.screen.say(f"no longer in the suite, kept in {self.folder.directory / 'removed.jsonl'}: {rows}")
        if self.folder.replaced:
            rows = ", ".join(self.folder.replaced)
            self.screen.say(f"replaced values of another configuration, code, machine or data: {rows}", "yellow")
        if not self.measured and not result.failed:
            cells = len(self.plan.cells)
            self.screen.say(f"nothing to do: {cells} cells, {values} values; {self.folder.page}")
            return
        for text in poor_rows(result.records):
            self.screen.say(f"warning: {text}", "yellow")
        failed = f", {len(result.failed)} failed" if result.failed else ""
        self.screen.say(f"{values} values{failed} in {duration(seconds)}; {self.folder.page}")


def _headline(records: list[Record]) -> str:
    shown = [
        f"{r.metric} {r.value:.4g}{' (busy)' if r.busy else ''}"
        for r in records
        if r.status == OK and r.value is not None
    ]
    return ", ".join(shown[:6]) or "nothing to measure"
