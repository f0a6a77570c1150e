"""Metrics of the cost of drawing: images per second, latency, network evaluations, parameters, peak memory.

genbench.draw.cost measures a Cost; the functions here read one. Reading a suite imports this module, so it imports no
torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from genbench.errors import CellFailure, Undefined
from genbench.metrics.base import Metric, Value
from genbench.metrics.readings import COST

if TYPE_CHECKING:
    from genbench.draw.cost import Cost


def images_per_second(*, cost: Cost) -> Value:
    """Images per second of the median call for a batch; a call ends when its pixels are in the CPU's memory."""
    batch, times, value = cost.batched.batch, cost.batched.seconds, cost.batched.images_per_second
    if len(times) == 1:
        return Value(value)
    return Value(value, batch / max(times), batch / min(times), f"slowest to fastest of {len(times)} repeats")


def latency(*, cost: Cost) -> Value:
    """Median milliseconds of a call for one image."""
    ms = 1e3 * np.asarray(cost.single.seconds)
    if len(ms) == 1:
        return Value(float(ms[0]))
    lo, hi = np.percentile(ms, (5, 95))
    return Value(float(np.median(ms)), float(lo), float(hi), f"5th to 95th percentile of {len(ms)} images, one by one")


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
        2,
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
        2,
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
