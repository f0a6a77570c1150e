"""Metrics of the cost of drawing: images per second, latency, network evaluations, parameters, peak memory.

genbench.draw.cost measures a Cost; the functions here read one. Reading a suite imports this module, so it imports no
torch.

The interval of a timing is that of the median of its repeats, from order statistics, which needs no distribution: the
j-th smallest and the j-th largest of n repeats contain the median unless fewer than j of them fall on one side of it,
which has probability 2 P(Binomial(n, 1/2) < j). All repeats are of one process. Processes with the same code
and weights differ by more than their repeats (docs/speed.md), so both ends move outward by BETWEEN_PROCESSES.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from genbench.errors import CellFailure, Undefined
from genbench.metrics.base import Metric, Value
from genbench.metrics.readings import COST

if TYPE_CHECKING:
    from genbench.draw.cost import Cost

LEVEL = 0.95


# Largest ratio to be expected of two processes that time the same weights: the committed result of Fashion-MNIST has
# three rows of one StyleGAN and three of one Glow, which differ by up to 1.3.
BETWEEN_PROCESSES = 1.25


def images_per_second(*, cost: Cost) -> Value:
    """Images per second of the median call for a batch; a call ends when its pixels are in the CPU's memory."""
    batch, times = cost.batched.batch, sorted(cost.batched.seconds)
    ends, value, busy = median_interval(times), batch / median(times), cost.batched.busy
    if ends is None:
        return Value(value, busy=busy)
    return Value(value, batch / ends[1], batch / ends[0], _how(times), busy=busy)


def latency(*, cost: Cost) -> Value:
    """Median milliseconds of a call for one image."""
    times = sorted(cost.single.seconds)
    ends, value, busy = median_interval(times), 1e3 * median(times), cost.single.busy
    if ends is None:
        return Value(value, busy=busy)
    return Value(value, 1e3 * ends[0], 1e3 * ends[1], _how(times), busy=busy)


def median_interval(ordered: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % interval of the median of ordered repeats, divided and multiplied by BETWEEN_PROCESSES; None below 6."""
    outside = _outside(len(ordered))
    if outside == 0:
        return None
    return ordered[outside - 1] / BETWEEN_PROCESSES, ordered[-outside] * BETWEEN_PROCESSES


@lru_cache
def _outside(count: int) -> int:
    """The largest j for which the j-th smallest and the j-th largest of so many repeats are the interval; 0: none."""
    from scipy.special import bdtr  # late: reading a suite names metrics and must be fast

    return int((bdtr(np.arange(count // 2), count, 0.5) <= (1 - LEVEL) / 2).sum())


def _how(times: Sequence[float]) -> str:
    repeats = f"95 % of the median of {len(times)} repeats in one process"
    return f"{repeats}, widened by the factor {BETWEEN_PROCESSES} by which processes differ"


def network_evaluations(*, cost: Cost) -> Value:
    """Network evaluations of one image: rows that the network evaluated, divided by the number of images."""
    return Value(cost.evaluations)


def parameters(*, cost: Cost) -> Value:
    """Number of parameters of the model, all players together. Raises Undefined for a class that does not know it."""
    if cost.parameters is None:
        raise Undefined("parameters: the class has none of its own and does not declare parameter_count")
    return Value(float(cost.parameters))


def peak_mib(*, cost: Cost) -> Value:
    """Peak memory in MiB while one batch is drawn. Raises CellFailure where the system does not report it."""
    if cost.batched.peak_mib is None:
        raise CellFailure("peak_memory: only CUDA and Linux report the peak memory of a call")
    return Value(cost.batched.peak_mib)


TIMING = ("device", "threads", "dtype", "torch")  # settings of the machine that every timing depends on
_NOT_QUALITY = "Does not detect how good the images are, and does not apply to another machine or batch."
PEAK = ("batch", "device", "memory", "torch")

COSTS = (
    Metric(
        "images_per_second",
        "Images/s",
        3,
        "higher",
        "images/s",
        COST,
        images_per_second,
        machine=("batch", *TIMING),
        cannot_detect=_NOT_QUALITY,
    ),
    Metric(
        "latency",
        "Latency",
        3,
        "lower",
        "ms",
        COST,
        latency,
        protocol={"images": 1, "statistic": "median"},
        machine=TIMING,
        cannot_detect=_NOT_QUALITY,
    ),
    Metric(
        "evaluations",
        "Network evaluations",
        2,
        "lower",
        "evaluations/image",
        COST,
        network_evaluations,
        cannot_detect="Does not detect how expensive an evaluation is, nor how good the images are.",
    ),
    Metric(
        "parameters",
        "Parameters",
        1,
        "lower",
        "parameters",
        COST,
        parameters,
        cannot_detect="Does not detect how often a parameter is used, nor how good the images are.",
    ),
    Metric("peak_memory", "Peak memory", 2, "lower", "MiB", COST, peak_mib, machine=PEAK, cannot_detect=_NOT_QUALITY),
)
