"""The cost of drawing from a model: times of batches and of single images, peak memory, network evaluations.

A call is `draw_block`: it ends when the pixels are in the CPU's memory, which waits for the device. The leaderboard and
`genbench speed` both use the timing loop of this module.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from genbench import returned
from genbench.contention import Meter
from genbench.contract import Condition, Draws
from genbench.draw.blocks import draw_block
from genbench.draw.counting import verify_evaluations
from genbench.draw.memory import memory_definition, peak_memory
from genbench.draw.repeats import LEAST_REPEATS, Clock, Loop, time_loops, time_repeats
from genbench.machine import device_name

MOST_CALLS = 100  # of either size: more make no interval narrower than the difference between processes
LEAST_SINGLE = 6  # calls for one image: the median of fewer has no interval


@dataclass(frozen=True)
class TimedBatch:
    """Repeated calls of one batch size.

    batch: images in a call. seconds: of each call. peak_mib: peak memory of one more call before them
    (memory.memory_definition), None where the system does not report it. busy: what disturbed the calls, "" for
    nothing.
    """

    batch: int
    seconds: tuple[float, ...]
    peak_mib: float | None
    busy: str = ""

    @property
    def images_per_second(self) -> float:
        """Images per second of the median call."""
        return self.batch / statistics.median(self.seconds)


@dataclass(frozen=True)
class Cost:
    """Measurements of one model on one device.

    batched: calls of the suite's batch size. single: calls for one image. evaluations: of the network for each image,
    counted where the model declares Steps, else as declared. parameters: of all players, None where
    unknown. setting: what the measurements depend on besides the model (see cost_setting).
    """

    batched: TimedBatch
    single: TimedBatch
    evaluations: float
    parameters: int | None
    setting: dict[str, Any] = field(default_factory=dict)


def measure_cost(
    model: Draws,
    *,
    seed: int,
    batch: int,
    seconds: float,
    precision: str = "fp32",
    condition: Callable[[int], Condition | None] = lambda n: None,
    clock: Clock = time.perf_counter,
    meter: Meter | None = None,
) -> Cost:
    """Draws batches, then single images, each for about `seconds` or a hundred times, and times each call.

    A call that takes longer than `seconds` is timed once; otherwise there are at least three of a batch and six of a
    single image. One untimed call of each size comes before all of them (compilation, allocation).
    condition(n): what n samples are asked to show. meter: notices other processes, see repeats.time_loops; None:
    nothing does.
    Leaves the model in eval mode. Raises CellFailure when the network evaluations counted are not those declared.
    """
    model.eval()
    conditions, counted = {n: condition(n) for n in (batch, 1)}, dict[int, float]()

    def draw(n: int) -> None:
        _, _, counted[n] = draw_block(model, 0, seed, n, precision, conditions[n])
        verify_evaluations(model, counted[n])

    sizes = (batch, LEAST_REPEATS), (1, LEAST_SINGLE)
    peaks = [peak_of(draw, n, model.device) for n in (batch, 1)]
    loops = [Loop(partial(draw, n), seconds, MOST_CALLS, least=least) for n, least in sizes]
    batched, single = (
        TimedBatch(n, times.seconds, peak, times.busy)
        for (n, _), peak, times in zip(sizes, peaks, time_loops(loops, clock=clock, meter=meter), strict=True)
    )
    parameters = returned.parameter_count(model)
    return Cost(batched, single, counted[batch], parameters, cost_setting(model, batch))


def time_batch(
    draw: Callable[[int], Any],
    batch: int,
    device: torch.device,
    seconds: float,
    *,
    clock: Clock = time.perf_counter,
    most: int | None = None,
    longest: float | None = None,
    meter: Meter | None = None,
) -> TimedBatch:
    """Calls draw(batch) once for its peak memory, untimed, and then as time_repeats does."""
    peak = peak_of(draw, batch, device)
    times = time_repeats(lambda: draw(batch), seconds, clock=clock, most=most, longest=longest, meter=meter)
    return TimedBatch(batch, times.seconds, peak, times.busy)


def peak_of(draw: Callable[[int], Any], batch: int, device: torch.device) -> float | None:
    """Peak memory in MiB of one untimed call, None where the system does not report it."""
    with peak_memory(device) as peak:
        draw(batch)
    return peak[0]


def cost_setting(model: Draws, batch: int) -> dict[str, Any]:
    """What measurements of cost may depend on besides the model: batch, device, threads, dtype, torch, memory.

    A metric names what it depends on (genbench.metrics.base.Metric.machine).
    """
    device = model.device
    return {
        "batch": batch,
        "device": f"{device.type}: {device_name(device)}",
        "threads": torch.get_num_threads(),
        "dtype": next((str(p.dtype).removeprefix("torch.") for p in model.parameters()), "none"),
        "torch": torch.__version__,
        "memory": memory_definition(device),
    }
