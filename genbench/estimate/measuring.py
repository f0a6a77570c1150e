"""The time of measuring from each metric on a part of the images: what a row costs, and what all rows share."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from genbench import data, features
from genbench.data import Dataset, Split
from genbench.draw.clock import clock_of
from genbench.estimate.span import TimeRange, exactly, total
from genbench.evaluate.cell_inputs import CellInputs
from genbench.evaluate.measure import measure_metric
from genbench.features import Features
from genbench.halving import AtOnce
from genbench.metrics.facts import Images
from genbench.plan.cells import Cell, MetricPlan
from genbench.progress import Report, silent
from genbench.records import OK
from genbench.space import seeded
from genbench.store import Store

MOST_ROWS = 2_000  # of the larger set, in the larger of two trials; the smaller has half of it
SECONDS = 2.0  # of extracting features
LONGEST, QUICK = 20.0, 1.0  # a metric of more seconds is not measured on more images, or not a second time
JITTER = 0.01  # by which rows that repeat differ
POWER = 2.0  # of the number of images, with which the time of no metric grows faster

Clock = Callable[[], float]
Item = TypeVar("Item")


@dataclass(frozen=True)
class MeasuringTrial:
    """Of one extractor on one dataset.

    setup: seconds of loading the extractor. image: seconds of extracting an image's features. metrics: of one row, by
    name. shared: what is computed of the reference once. bytes: of an image's features. sizes: images of train and
    test. untried: names and why.
    """

    setup: TimeRange
    image: TimeRange
    metrics: dict[str, TimeRange]
    shared: TimeRange
    bytes: int
    sizes: dict[str, int]
    untried: dict[str, str]


def measuring_task(cell: Cell, planned: tuple[MetricPlan, ...], device: str, report: Report) -> MeasuringTrial:
    """Measures the metrics on parts of the train split; keeps nothing.

    cell: of a scale row, with this extractor on this dataset. planned: metrics that read images.
    """
    dataset = data.load(cell.data.entry, cell.data.folder)
    clock = clock_of(device)
    start = clock()
    extractor = features.load_extractor(cell.extractor, data.origin(cell.data.entry), device, cell.extraction)
    setup = exactly(clock() - start)
    base, image = _extracted(extractor, dataset, clock)
    share = min(1.0, MOST_ROWS / max(cell.drawing.n, len(dataset.train), len(dataset.test)))
    half = _seconds(cell, device, dataset, base, share / 2, planned)
    quick = [m for m in planned if half.first.get(m.name, 0.0) < LONGEST]
    whole = _seconds(cell, device, dataset, base, share, quick)
    measured = {**half.again, **whole.again}
    spans = {name: grown(half.again.get(name), whole.again.get(name), share) for name in measured}
    once = total(grown(half.once(name), whole.once(name), share) for name in measured)
    nbytes = sum(array[:1].nbytes for array in _arrays(base).values())
    sizes = {name: len(getattr(dataset, name)) for name in ("train", "test")}
    return MeasuringTrial(setup, image, spans, once, nbytes, sizes, _without(half.untried | whole.untried, measured))


def _extracted(extractor: features.Extractor, dataset: Dataset, clock: Clock) -> tuple[Features, TimeRange]:
    """Features of as many train images as SECONDS suffice for, and seconds of one."""
    levels, pixels = dataset.spec.levels, dataset.train.pixels
    count, spent = min(8, len(pixels)), 0.0
    found = features.extract(extractor, pixels[:count], levels, AtOnce())
    while True:
        start = clock()
        found = features.extract(extractor, pixels[:count], levels, AtOnce())
        spent = clock() - start
        if count == len(pixels) or count >= MOST_ROWS or 5 * spent > SECONDS:
            each = spent / count
            return found, TimeRange(0.9 * each, each, 1.1 * each)
        count = min(len(pixels), 4 * count)


def _arrays(found: Features) -> dict[str, np.ndarray]:
    return {name: array for name, array in vars(found).items() if array is not None}


def _rows(base: Features, n: int, seed: int) -> Features:
    """N rows like those of `base`, no two of them equal."""
    gen = np.random.default_rng(seed)
    index = gen.integers(0, len(base.vectors), n)

    def grown(name: str, array: np.ndarray) -> np.ndarray:
        rows = array[index]
        return rows if name == "probabilities" else rows * (1 + JITTER * gen.standard_normal(rows.shape, np.float32))

    return Features(**{name: grown(name, array) for name, array in _arrays(base).items()})


@dataclass(frozen=True)
class _Seconds:
    """Of each metric, measured for a first row and for another one. untried: names and why."""

    first: dict[str, float]
    again: dict[str, float]
    untried: dict[str, str]

    def once(self, name: str) -> float | None:
        """What only the first row takes: that of the reference; None where the metric was not measured."""
        return max(0.0, self.first[name] - self.again[name]) if name in self.first else None


def _seconds(
    cell: Cell, device: str, dataset: Dataset, base: Features, share: float, planned: Sequence[MetricPlan]
) -> _Seconds:
    first, again, untried = dict[str, float](), dict[str, float](), dict[str, str]()
    with tempfile.TemporaryDirectory() as folder:
        for seconds in (first, again):
            inputs, clock = _PartOf(cell, Store(Path(folder)), device, dataset, base, share), clock_of(device)
            for plan in planned:
                start = clock()
                if first.get(plan.name, 0.0) >= QUICK:
                    continue
                measured = measure_metric(plan.metric, inputs, cell.facts_for(plan), device)
                seconds[plan.name] = clock() - start
                if measured.status != OK:
                    untried[plan.name] = measured.reason
    again = first | again
    return _Seconds(_without(first, untried), _without(again, untried), untried)


def _without(values: dict[str, Item], names: Collection[str]) -> dict[str, Item]:
    return {name: value for name, value in values.items() if name not in names}


class _PartOf(CellInputs):
    """The inputs of a row of train images, with a share of all images on both sides."""

    def __init__(self, cell: Cell, store: Store, device: str, dataset: Dataset, base: Features, share: float) -> None:
        n = max(2, round(share * cell.drawing.n))
        super().__init__(replace(cell, drawing=replace(cell.drawing, n=n)), store, device, silent)
        train, test = (_cut(split, share) for split in (dataset.train, dataset.test))
        self.opened.dataset = replace(dataset, train=train, test=test)
        index = torch.randint(len(dataset.train), (n,), generator=seeded(0))
        labels = dataset.train.labels
        self.generated = Images(dataset.train.pixels[index], None if labels is None else labels[index])
        self.base, self.fake = base, _rows(base, n, 0)

    def _split_features(self, split: str) -> Features:
        return _rows(self.base, len(getattr(self.dataset, split)), 1 if split == "train" else 2)


def _cut(split: Split, share: float) -> Split:
    n = max(2, round(share * len(split)))
    index = torch.randperm(len(split), generator=seeded(0))[:n]
    labels = None if split.labels is None else split.labels[index]
    texts = None if split.texts is None else tuple(split.texts[i] for i in index.tolist())
    return Split(split.pixels[index], labels, texts)


def grown(half: float | None, whole: float | None, share: float) -> TimeRange:
    """Seconds with all images, from those with a share of them and with half of that share; None: not measured."""
    if whole is None:
        share, whole = share / 2, half or 0.0
    power = min(POWER, max(0.0, math.log2(whole / half))) if half and whole and whole != half else 1.0
    low, high = 0.9 * whole * share**-power, 1.1 * whole * share**-POWER
    return TimeRange(low, math.sqrt(low * high), high)
