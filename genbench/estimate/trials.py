"""What a worker process tries for a moment: the steps of a training, and what a row does with its network."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from genbench import data
from genbench.contract import Model
from genbench.draw.blocks import draw_block, on_device
from genbench.draw.clock import age, clock_of
from genbench.draw.cost import LEAST_SINGLE, MOST_CALLS
from genbench.draw.memory import MIB, resident_kib
from genbench.draw.repeats import LEAST_REPEATS
from genbench.estimate.moments import seconds_of_call
from genbench.estimate.span import ZERO, TimeRange, exactly
from genbench.estimate.training import training_seconds
from genbench.evaluate.cell_inputs import CellInputs
from genbench.halving import AtOnce
from genbench.metrics.base import Metric
from genbench.metrics.readings import COST, LIKELIHOOD, PATHS, TRANSLATION
from genbench.metrics.translation import there_and_back
from genbench.plan.cells import Cell
from genbench.progress import Report, silent
from genbench.records import ESTIMATE
from genbench.sources.base import DataPlan
from genbench.sources.likelihoods import LIKELIHOOD_BATCH, compute_log_probs, likelihood_of
from genbench.sources.network import NetworkSource, conditions_of
from genbench.sources.trained import Fit, Trained
from genbench.store import Kind, Store
from genbench.train.loop import FitOptions

PATHS_TRIED, OTHERS_TRIED = 8, 1_000


@dataclass(frozen=True)
class TrainingTrial:
    """setup: until the first step. steps: of the whole training. peak: MiB of the process. weights: bytes of a file."""

    setup: TimeRange
    steps: TimeRange
    peak: float
    weights: int


@dataclass(frozen=True)
class DrawingTrial:
    """setup: data and model. draw: all samples. metrics: those that use the network, by name. timings: of the costs.

    shared: metrics that are computed once for all rows with the same weights.
    """

    setup: TimeRange
    draw: TimeRange
    metrics: dict[str, TimeRange] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    timings: TimeRange = ZERO
    peak: float = 0.0


def training_task(fit: Fit, plan: DataPlan, device: str, report: Report) -> TrainingTrial:
    """Trains for a few steps and keeps nothing."""
    model = fit.network.build(plan, fit.seed).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert isinstance(model, Model)
    batches = fit.batches(data.load(plan.entry, plan.folder), device)
    if fit.compile:
        for child in model.children():
            child.compile()
    setup = exactly(age(device))
    weights = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    options = FitOptions(fit.images, fit.seed, fit.precision, fit.compile)
    steps = training_seconds(model, batches, fit.recipe, options)
    return TrainingTrial(setup, steps, process_peak(device), weights)


def drawing_task(cell: Cell, metrics: tuple[str, ...], root: Path, device: str, report: Report) -> DrawingTrial:
    """Begins to draw, and begins what these metrics do with the network; keeps nothing.

    The weights are random where the store has none, which takes the same time.
    """
    store, source = Store(root), cell.source
    assert isinstance(source, NetworkSource)
    inputs = CellInputs(cell, store, device, silent)
    if isinstance(source, Trained) and not store.intact(Kind.WEIGHTS, source.weights_key):
        inputs.opened.model = source.network.build(cell.data, cell.seed).to(device).eval()  # type: ignore[assignment]
    network = _Network(cell, inputs)
    setup = exactly(age(device))
    drawn = network.samples()
    chosen = [(m.name, m.metric) for m in cell.metrics if m.name in metrics]
    spent = {name: network.of_metric(metric) for name, metric in chosen if metric.reads is not COST}
    timings = network.timings() if any(metric.reads is COST for _, metric in chosen) else ZERO
    shared = frozenset(name for name, metric in chosen if metric.reads is LIKELIHOOD and network.estimates(metric))
    return DrawingTrial(setup, drawn, spent, shared, timings, process_peak(device))


class _Network:
    """A row's network, and seconds of what is done with it."""

    def __init__(self, cell: Cell, inputs: CellInputs) -> None:
        self.cell, self.inputs, self.opened = cell, inputs, inputs.opened
        self.model, self.conditions = self.opened.model, conditions_of(self.opened)

    def draw(self, n: int) -> None:
        """Draws a block of n images."""
        drawing = self.cell.drawing
        condition = on_device(self.conditions.block(0, drawing.seed, n), self.model.device)
        draw_block(self.model, 0, drawing.seed, n, drawing.precision, condition)

    def samples(self) -> TimeRange:
        """Of all samples."""
        drawing = self.cell.drawing
        return seconds_of_call(self.model, self.draw, drawing.block).times(-(-drawing.n // drawing.block))

    def timings(self) -> TimeRange:
        """Of the repeated calls of genbench.draw.cost."""
        speed = self.cell.facts.speed
        batch, one = (seconds_of_call(self.model, self.draw, n) for n in (speed["batch"], 1))
        return _repeated(batch, speed["seconds"], LEAST_REPEATS) + _repeated(one, speed["seconds"], LEAST_SINGLE)

    def estimates(self, metric: Metric) -> bool:
        """Whether the likelihood is an estimate, which depends on the weights alone."""
        return likelihood_of(self.model, metric)[0] == ESTIMATE

    def of_metric(self, metric: Metric) -> TimeRange:
        """Of a metric that reads a likelihood, paths in latent space or translations."""
        tried = {LIKELIHOOD: self._likelihood, PATHS: self._paths, TRANSLATION: self._translations}
        return tried[metric.reads](metric)

    def _likelihood(self, metric: Metric) -> TimeRange:
        images = self.opened.dataset.test.pixels[: self.cell.facts.images]
        kind, log_prob = likelihood_of(self.model, metric)

        def call(n: int) -> None:
            compute_log_probs(self.opened, images[:n], log_prob, AtOnce(lambda text: None))

        batch = min(LIKELIHOOD_BATCH, len(images))
        halved = 0.5 if kind == ESTIMATE else 0.0  # its convergence is checked with half of the steps
        return seconds_of_call(self.model, call, batch).times(len(images) / batch + halved)

    def _paths(self, metric: Metric) -> TimeRange:
        paths = metric.protocol["paths"]
        few = min(PATHS_TRIED, paths)
        return seconds_of_call(self.model, lambda n: self.inputs.path_distances(_with_paths(metric, n)), few).times(
            paths / few
        )

    def _translations(self, metric: Metric) -> TimeRange:
        source = self.opened.dataset.source
        assert source is not None
        images = source.test.pixels[: self.cell.drawing.n]
        call = lambda n: there_and_back(self.model, images[:n], "a_to_b")  # noqa: E731
        batch = min(len(images), self.cell.drawing.block)
        return seconds_of_call(self.model, call, batch).times(2 * len(images) / batch)


def _with_paths(metric: Metric, n: int) -> Metric:
    return replace(metric, protocol={**metric.protocol, "paths": n})


def _repeated(call: TimeRange, seconds: float, least: int) -> TimeRange:
    """Of a call's repeats, with the untimed one before them."""
    low, likely, high = (t * (1 + _repeats(t, seconds, least)) for t in (call.low, call.likely, call.high))
    return TimeRange(low, max(low, likely), max(low, likely, high), call.at_least)


def _repeats(call: float, seconds: float, least: int) -> int:
    """How often genbench.draw.repeats.time_loops makes a call of this duration."""
    return 1 if call > seconds else max(least, min(MOST_CALLS, math.ceil(seconds / max(call, 1e-9))))


def process_peak(device: str) -> float:
    """The peak of this process's memory in MiB, on a GPU of the GPU's; 0 where the system does not report it."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device) / MIB
    return resident_kib("VmHWM") / 1024 if sys.platform == "linux" else 0.0


def other_task(cell: Cell, metrics: tuple[str, ...], device: str, report: Report) -> DrawingTrial:
    """Draws a part of the images of a row without a network, and computes a part of its likelihoods."""
    part = replace(cell, drawing=replace(cell.drawing, n=min(OTHERS_TRIED, cell.drawing.n)))
    clock = clock_of(device)
    with tempfile.TemporaryDirectory() as folder:
        opened = CellInputs(part, Store(Path(folder)), device, silent).opened
        images = opened.dataset.test.pixels[: cell.facts.images]
        setup = exactly(age(device))
        drawn = _part(clock, lambda: cell.source.draw(opened), cell.drawing.n / part.drawing.n)
        tried = images[:OTHERS_TRIED]
        spent: dict[str, TimeRange] = {}
        for planned in cell.metrics:
            if planned.name in metrics and planned.metric.reads is LIKELIHOOD:
                call = partial(cell.source.log_probs, opened, planned.metric, tried)
                spent[planned.name] = _part(clock, call, len(images) / len(tried))
    return DrawingTrial(setup, drawn, spent, peak=process_peak(device))


def _part(clock: Callable[[], float], call: Callable[[], object], times: float) -> TimeRange:
    """Of work whose time grows at most with the number of images, of which `times` as many are to come."""
    start = clock()
    call()
    seconds = clock() - start
    return TimeRange(seconds, math.sqrt(times) * seconds, times * seconds)
