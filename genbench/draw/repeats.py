"""The timing loop: repeated calls, without those that other processes disturbed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
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


def time_repeats(
    run: Callable[[], Any],
    seconds: float,
    *,
    clock: Clock = time.perf_counter,
    most: int | None = None,
    longest: float | None = None,
    least: int = LEAST_REPEATS,
    meter: Meter | None = None,
) -> Repeats:
    """Seconds of each call of `run`, repeated until `seconds` are spent.

    Makes at most `most` calls (None: no limit), and at least `least` unless a call takes longer than `longest` seconds
    (None: longer than `seconds`). Calls during which the meter found other processes are repeated when these have
    ended, as long as its patience lasts; then they count, and the result is marked.
    """
    kept: list[float] = []
    busy = ""

    def enough(times: list[float]) -> bool:
        if most is not None and len(times) >= most:
            return True
        return sum(times) >= seconds and (len(times) >= least or max(times) > (longest or seconds))

    if meter is not None:
        meter.start()
    while not enough(kept):
        calls: list[float] = []
        while not enough(kept + calls) and not (calls and meter is not None and meter.ripe()):
            start = clock()
            run()
            calls.append(clock() - start)
        found = meter.found() if meter is not None else ""
        if found and meter is not None and meter.again(sum(calls)):
            continue
        kept, busy = kept + calls, busy or found
    return Repeats(tuple(kept), busy)
