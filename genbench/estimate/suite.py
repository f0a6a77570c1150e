"""From a plan to its estimated cost: which trials are needed, and what the whole run takes according to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from genbench.draw.repeats import meter_for
from genbench.estimate.cost import RowCost, SuiteCost
from genbench.estimate.measuring import MeasuringTrial, measuring_task
from genbench.estimate.schedule import WorkItem, side_by_side
from genbench.estimate.span import ZERO, TimeRange, total
from genbench.estimate.trials import DrawingTrial, TrainingTrial, drawing_task, other_task, training_task
from genbench.keys import features_key, split_key
from genbench.metrics.readings import COST, LIKELIHOOD, TRANSLATION
from genbench.plan.cells import Cell, MetricPlan
from genbench.plan.planner import Plan
from genbench.runner.launcher import Launcher, Outcome, Task
from genbench.sources.network import NetworkSource
from genbench.sources.scale_row import ScaleRow
from genbench.sources.trained import Fit, Trained
from genbench.store import Kind, Store

FASTER, SLOWER = 0.8, 1.3  # how a run's pace may differ from that of the moments (docs/performance.md)


def estimate(
    plan: Plan, store: Store, device: str, launcher: Launcher, workers: int, say: Callable[[str], None]
) -> SuiteCost:
    """Tries the parts of a plan that the store does not hold, in so many workers, and adds up."""
    start, missing = time.perf_counter(), _Missing(plan, store, device)
    tasks = missing.trials()
    outcomes: dict[str, Outcome] = {}
    meter = meter_for(torch.device(device), 0.0, workers)
    if tasks:
        say(f"trying {len(tasks)} parts of {plan.suite.suite} for a moment each")
        launcher.run(tasks, lambda task, progress: None, lambda task, outcome: outcomes.update({task.name: outcome}))
    results = {name: outcome.result for name, outcome in outcomes.items() if not outcome.failure}
    failures = {name: outcome.failure for name, outcome in outcomes.items() if outcome.failure}
    busy = meter.found() if tasks else ""
    made = _Sum(missing, results, failures, workers).estimate()
    return replace(made, tried=time.perf_counter() - start, busy=busy)


class _Missing:
    """The cells, trainings and metrics of a plan that the store does not hold, and what is to be tried for them."""

    def __init__(self, plan: Plan, store: Store, device: str) -> None:
        self.plan, self.store, self.device = plan, store, device
        self.metrics = {id(cell): self._metrics(cell) for cell in plan.cells}
        self.cells = [cell for cell in plan.cells if self.metrics[id(cell)]]
        fits = {c.source.fit.key: (c.source.fit, c) for c in self.cells if isinstance(c.source, Trained)}
        self.fits = {key: made for key, made in fits.items() if not store.has(Kind.WEIGHTS, key)}

    def _metrics(self, cell: Cell) -> list[MetricPlan]:
        return [m for m in cell.metrics if not m.reason and not self.store.has(Kind.VALUES, m.key)]

    def draws(self, cell: Cell) -> bool:
        """Whether its samples are missing and a metric reads them."""
        needed = any(m.metric.reads.of_samples for m in self.metrics[id(cell)])
        return needed and not self.store.has(Kind.SAMPLES, cell.samples_key)

    def extracts(self, cell: Cell, pixels: str) -> bool:
        """Whether features of these pixels are missing and a metric reads them."""
        needed = any(m.metric.reads.through_extractor for m in self.metrics[id(cell)])
        return needed and not self.store.has(Kind.FEATURES, features_key(pixels, cell.facts.extractor))

    def trials(self) -> list[Task]:
        """One for each training, each row and each extractor, whatever the number of seeds."""
        tasks = {n: Task(n, training_task, (f, c.data, self.device)) for f, c in self.fits.values()
                 if (n := training_name(f, c))}  # fmt: skip
        rows: dict[str, tuple[Cell, dict[str, None]]] = {}
        views: dict[str, tuple[Cell, dict[str, MetricPlan]]] = {}
        for cell in self.cells:
            network = {m.name: None for m in self.metrics[id(cell)] if _uses_model(m)}
            if network or self.draws(cell):
                rows.setdefault(row_name(cell), (cell, {}))[1].update(network)
            read = {m.name: m for m in self.metrics[id(cell)] if not _uses_model(m)}
            if read:
                views.setdefault(view_name(cell), (self._without_network(cell), {}))[1].update(read)
        tasks |= {name: self._row_trial(name, cell, tuple(names)) for name, (cell, names) in rows.items()}
        for name, (cell, plans) in views.items():
            tasks[name] = Task(name, measuring_task, (cell, tuple(plans.values()), self.device))
        return list(tasks.values())

    def _row_trial(self, name: str, cell: Cell, metrics: tuple[str, ...]) -> Task:
        if isinstance(cell.source, NetworkSource):
            return Task(name, drawing_task, (cell, metrics, self.store.root, self.device))
        return Task(name, other_task, (cell, metrics, self.device))

    def _without_network(self, cell: Cell) -> Cell:
        """A scale row's cell with the same dataset and extractor."""
        return next(c for c in self.plan.cells if isinstance(c.source, ScaleRow) and view_name(c) == view_name(cell))


def _uses_model(planned: MetricPlan) -> bool:
    reads = planned.metric.reads
    return reads.needs_network or reads is LIKELIHOOD


def training_name(fit: Fit, cell: Cell) -> str:
    """Of the trial of a training; the same for all seeds."""
    return f"train {fit.label} {cell.data.name}"


def row_name(cell: Cell) -> str:
    """Of the trial of a row; the same for all seeds."""
    return f"draw {cell.label} {cell.data.name} {cell.extractor}"


def view_name(cell: Cell) -> str:
    """Of the trial of an extractor on a dataset."""
    return f"measure {cell.data.name} {cell.extractor}"


def _whole(times: Sequence[float], at_least: bool) -> TimeRange:
    low, likely, high = times
    return TimeRange(FASTER * low, likely, SLOWER * max(likely, high), at_least)


@dataclass(frozen=True)
class _CellCost:
    setup: TimeRange = ZERO
    draw: TimeRange = ZERO
    measure: TimeRange = ZERO
    timings: TimeRange = ZERO
    peak: float = 0.0
    disk: int = 0
    failure: str = ""


class _Sum:
    """The results of the trials, added up."""

    def __init__(self, missing: _Missing, results: dict[str, Any], failures: dict[str, str], workers: int) -> None:
        self.missing, self.results, self.failures, self.workers = missing, results, failures, workers
        self.counted: set[tuple[str, ...]] = set()
        self.costs = {id(cell): self._cell(cell) for cell in missing.cells}

    def estimate(self) -> SuiteCost:
        """The whole."""
        plan, rows = self.missing.plan, self._rows()
        ends = [side_by_side(self._jobs(name), self.workers) for name in ("low", "likely", "high")]
        guess = any(row.seconds.at_least for row in rows)
        together, alone = (_whole(times, guess) for times in zip(*ends, strict=True))
        memory = sum(sorted((row.peak for row in rows), reverse=True)[: self.workers])
        views = [r for r in self.results.values() if isinstance(r, MeasuringTrial)]
        untried = {name: reason for view in views for name, reason in view.untried.items()}
        untried |= {name: why for name, why in self.failures.items() if name.startswith("measure ")}
        disk = sum(row.disk for row in rows)
        return SuiteCost(
            plan.suite.suite, self.missing.device, self.workers, tuple(rows), together, alone, memory, disk, untried
        )

    def _once(self, *name: str) -> bool:
        """Whether something is counted for the first time."""
        known = name in self.counted
        self.counted.add(name)
        return not known

    def _cell(self, cell: Cell) -> _CellCost:
        missing, row = self.missing.metrics[id(cell)], self.results.get(row_name(cell), DrawingTrial(ZERO, ZERO))
        failure = self.failures.get(row_name(cell), "")
        if isinstance(cell.source, Trained) and cell.source.fit.key in self.missing.fits:
            failure = self.failures.get(training_name(cell.source.fit, cell), "") or failure
        if failure:
            return _CellCost(failure=failure)
        drawn = self.missing.draws(cell) and self._once("draw", cell.samples_key)
        measure, disk = self._measured(cell)
        for m in missing:
            shared = m.name in row.shared and not self._once("estimate", cell.source.weights_key, m.name)
            measure += ZERO if shared else row.metrics.get(m.name, ZERO)
        disk += cell.drawing.n * cell.data.spec.dims if drawn else 0
        timed = any(m.metric.reads is COST for m in missing)
        timings = row.timings if timed else ZERO
        return _CellCost(row.setup, row.draw if drawn else ZERO, measure, timings, row.peak, disk)

    def _measured(self, cell: Cell) -> tuple[TimeRange, int]:
        """Seconds of the metrics that read images, with features, and bytes of features."""
        view: MeasuringTrial | None = self.results.get(view_name(cell))
        if view is None:
            return ZERO, 0
        missing, images = self.missing.metrics[id(cell)], 0
        if self.missing.extracts(cell, cell.samples_key) and self._once("features", cell.samples_key, cell.extractor):
            images += cell.drawing.n
        for split, size in view.sizes.items():
            key = split_key(cell.data.fingerprint, split)
            if self.missing.extracts(cell, key) and self._once("features", key, cell.extractor):
                images += size
        spent = view.setup + view.image.times(images) + total(view.metrics.get(m.name, ZERO) for m in missing)
        spent += view.shared if self._once("shared", view_name(cell)) else ZERO
        if any(m.metric.reads is TRANSLATION for m in missing):
            spent += view.image.times(2 * (cell.drawing.n + view.sizes["train"]))
        return spent, images * view.bytes

    def _trained(self, fit: Fit, cell: Cell) -> TrainingTrial | None:
        trial: TrainingTrial | None = self.results.get(training_name(fit, cell))
        return trial

    def _rows(self) -> list[RowCost]:
        by_row: dict[tuple[str, str], list[Cell]] = {}
        for cell in self.missing.cells:
            by_row.setdefault((cell.label, cell.data.name), []).append(cell)
        rows = [self._row(cells) for cells in by_row.values()]
        return sorted(rows, key=lambda row: not row.ranked)

    def _row(self, cells: Sequence[Cell]) -> RowCost:
        first, costs = cells[0], [self.costs[id(cell)] for cell in cells]
        fits = [(f, c) for f, c in self.missing.fits.values() if f.label == first.label and c.data is first.data]
        trials = [t for f, c in fits if (t := self._trained(f, c)) is not None]
        disk = sum(t.weights for t in trials) + sum(c.disk for c in costs)
        return RowCost(
            first.label, first.data.name, first.source.ranked, len({cell.id for cell in cells}),
            total(t.setup + t.steps for t in trials), total(c.draw for c in costs),
            total(c.setup + c.measure for c in costs), total(c.timings for c in costs),
            max([0.0, *(t.peak for t in trials), *(c.peak for c in costs)]), disk,
            next((c.failure for c in costs if c.failure), ""),
        )  # fmt: skip

    def _jobs(self, end: str) -> list[WorkItem]:
        """The tasks of the run, each with one end of its range."""
        jobs = [WorkItem(key, getattr(t.setup + t.steps, end)) for key, (f, c) in self.missing.fits.items()
                if (t := self._trained(f, c)) is not None]  # fmt: skip
        trained = {job.name for job in jobs}
        for cell in self.missing.cells:
            cost, needs = self.costs[id(cell)], frozenset({cell.source.weights_key} & trained)
            name = f"{cell.id} {cell.extractor}"
            jobs.append(WorkItem(name, getattr(cost.setup + cost.draw + cost.measure, end), needs))
            jobs.append(WorkItem(f"{name} speed", getattr(cost.timings, end), alone=True))
        return jobs
