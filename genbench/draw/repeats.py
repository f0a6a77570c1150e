"""The timing loop: repeated calls, without those that other processes disturbed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from genbench.contention import Meter
from genbench.machine import cores_available
from genbench.nvml import open_gpu

LEAST_REPEATS = 3

Clock = Callable[[], float]


@dataclass(frozen=True)
class Repeats:
    """Seconds of each call that counts. busy: what disturbed some of them, "" where nothing did."""

    seconds: tuple[float, ...]
    busy: str = ""


def meter_for(device: torch.device, patience: float, threads: int) -> Meter:
    """A meter for timings on the device: with `threads` threads (0: all cores) on a CPU, on a GPU with the one thread
    that starts the kernels.
    """
    return Meter((threads or cores_available()) if device.type == "cpu" else 1, patience, gpu=open_gpu(device))


@dataclass
class Loop:
    """Calls of `run`, repeated until `seconds` are spent.

    At most `most` calls (None: no limit), and at least `least` unless a call takes longer than `longest` seconds (None:
    longer than `seconds`).
    """

    run: Callable[[], Any]
    seconds: float
    most: int | None = None
    longest: float | None = None
    least: int = LEAST_REPEATS
    kept: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)  # since the meter's reading began
    busy: str = ""

    @property
    def enough(self) -> bool:
        """Whether no further call is needed."""
        times = self.kept + self.calls
        if self.most is not None and len(times) >= self.most:
            return True
        return sum(times) >= self.seconds and (len(times) >= self.least or max(times) > (self.longest or self.seconds))

    def time(self, clock: Clock, meter: Meter | None) -> None:
        """Calls until there is enough, or the meter can tell something."""
        while not self.enough and not (self.calls and meter is not None and meter.ripe()):
            start = clock()
            self.run()
            self.calls.append(clock() - start)


def time_loops(loops: Sequence[Loop], *, clock: Clock = time.perf_counter, meter: Meter | None = None) -> list[Repeats]:
    """Seconds of the calls of each loop, one loop after the other; short ones share a reading of the meter.

    Calls during which the meter found other processes are repeated when these have ended, as long as its patience
    lasts; then they count, and the result is marked.
    """
    if meter is not None:
        meter.start()
    while rest := [loop for loop in loops if not loop.enough]:
        for loop in rest:
            if not (meter is not None and any(other.calls for other in rest) and meter.ripe()):
                loop.time(clock, meter)
        found = meter.found() if meter is not None else ""
        again = found and meter is not None and meter.again(sum(sum(loop.calls) for loop in rest))
        for loop in rest:
            if loop.calls and not again:
                loop.kept, loop.busy = loop.kept + loop.calls, loop.busy or found
            loop.calls = []
    return [Repeats(tuple(loop.kept), loop.busy) for loop in loops]


def time_repeats(
    run: Callable[[], Any],
    seconds: float,
    *,
    clock: Clock = time.perf_counter,
    most: int | None = None,
    longest: float | None = None,
    meter: Meter | None = None,
) -> Repeats:
    """`time_loops` of one loop."""
    return time_loops([Loop(run, seconds, most, longest)], clock=clock, meter=meter)[0]
