"""The cost of drawing from one model in detail, measured in a process that draws from no other model.

Building, the first image (allocation, choice of kernels) and compilation are measured separately from the steady state;
only the steady state enters rates and percentiles. Calls are timed by genbench.draw.cost, as for the leaderboard. On
CUDA the time inside the network is measured by events.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from genbench.contention import Meter
from genbench.contract import Model, Steps
from genbench.draw.cost import TimedBatch, time_batch
from genbench.draw.counting import verify_evaluations
from genbench.draw.memory import MIB, synchronise
from genbench.draw.repeats import meter_for
from genbench.speed.energy import energy
from genbench.speed.matmul import matmul_rate

Draw = Callable[[int], tuple[Any, int, float]]  # draw_block of n images
BATCHES = tuple(4**k for k in range(9))  # memory or the length of a call nearly always ends the sweep earlier
MOST_CALLS, LEAST_CALLS = 200, 3
PATIENCE = 10.0  # seconds for a model: calls that are repeated, and waiting for other processes
LONGEST_CALL = 5.0  # seconds; no larger batch is tried once a call takes longer
MEMORY_SHARE = 0.4  # no batch is tried that would need a larger share of the free memory
FALLEN = 0.9  # of the highest images/s; a batch below it counts as fallen
GROWTH = 4.0  # factor of memory from one batch to the next


@dataclass(frozen=True)
class Profile:
    """The cost of drawing from a model.

    first_seconds: the first image after building, minus a later one. compile_seconds: the same for the first image
    after compiling, None where nothing was compiled. sweep: measurements by batch size. ended: why the sweep stopped
    there. network_share: share of a call's time inside the model's networks, None where it does not call them as
    modules. flops: of one image; a multiplication with an addition counts as two. matmul: floating-point operations a
    second of large matrix products here. joules: for one image, None where the device does not report energy.
    """

    first_seconds: float
    compile_seconds: float | None
    sweep: tuple[TimedBatch, ...]
    ended: str
    evaluations: float
    network_share: float | None
    flops: int
    matmul: float
    joules: float | None
    parameters: int

    @property
    def latencies(self) -> tuple[float, ...]:
        """Seconds of each call for one image."""
        return self.sweep[0].seconds

    @property
    def best(self) -> TimedBatch:
        """The batch with the most images per second."""
        return best_of(self.sweep)

    @property
    def utilisation(self) -> float:
        """The rate of the best batch's counted operations as a share of the rate of matrix products."""
        return self.flops * self.best.images_per_second / self.matmul

    @property
    def busy(self) -> str:
        """What disturbed the latencies or the best batch, "" where nothing did."""
        return self.sweep[0].busy or self.best.busy

    def percentile(self, p: float) -> float | None:
        """Seconds within which p percent of single images were drawn; None where the calls are too few for it."""
        calls = self.latencies
        return float(np.percentile(calls, p)) if len(calls) * (100 - p) >= 100 else None


def profile(model: Model, draw: Draw, *, first_seconds: float, seconds: float, compile: bool = False) -> dict[str, Any]:
    """Measures the Profile of a model, as plain data.

    The model has been built and has drawn one image, which took first_seconds. draw(n): draw_block of n images.
    seconds: about how long each batch size is repeated. Raises CellFailure when the network evaluations counted are not
    those that the model declares.
    """
    device = model.device
    model.requires_grad_(False)  # FlopCounterMode fails on parametrised weights that require gradients
    with FlopCounterMode(display=False) as flops:
        _, _, evaluations = draw(1)
    verify_evaluations(model, evaluations)
    once = min(timed(draw, 1) for _ in range(LEAST_CALLS))
    compiled = _compiled(model, draw) if compile else None
    sweep, ended = batch_sweep(draw, device, seconds, meter_for(device, PATIENCE, torch.get_num_threads()))
    best = best_of(sweep)
    return asdict(Profile(
        max(0.0, first_seconds - once), compiled, tuple(sweep), ended, evaluations,
        network_share(draw, best.batch, device), flops.get_total_flops(), matmul_rate(device),
        _joules(draw, best, device, seconds),
        sum(p.numel() for p in model.parameters()),
    ))  # fmt: skip


def best_of(sweep: Sequence[TimedBatch]) -> TimedBatch:
    """The batch with the most images per second, of those that nothing disturbed where there are any."""
    quiet = [timing for timing in sweep if not timing.busy]
    return max(quiet or sweep, key=lambda timing: timing.images_per_second)


def read_profile(data: dict[str, Any]) -> Profile:
    """Makes a Profile from the plain data that `profile` returns."""
    sweep = tuple(TimedBatch(**{**t, "seconds": tuple(t["seconds"])}) for t in data["sweep"])
    return Profile(**{**data, "sweep": sweep})


def timed(draw: Draw, n: int) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    draw(n)
    return time.perf_counter() - start


def _compiled(model: Model, draw: Draw) -> float:
    for network in [model.denoiser] if isinstance(model, Steps) else model.children():
        network.compile()
    first = timed(draw, 1)
    return max(0.0, first - min(timed(draw, 1) for _ in range(LEAST_CALLS)))


def batch_sweep(
    draw: Draw, device: torch.device, seconds: float, meter: Meter | None = None
) -> tuple[list[TimedBatch], str]:
    """Times batches of growing size until memory or the length of a call ends it; returns the reason too."""
    timings: list[TimedBatch] = []
    for batch in BATCHES:
        reason = _too_large(timings, device, batch)
        if reason:
            return timings, reason
        try:
            timings.append(time_batch(draw, batch, device, seconds, most=MOST_CALLS, longest=LONGEST_CALL, meter=meter))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return timings, f"batch {batch}: out of memory"
    return timings, f"batch {BATCHES[-1]} is the largest tried"


def _too_large(timings: list[TimedBatch], device: torch.device, batch: int) -> str:
    if not timings:
        return ""
    last = timings[-1]
    if min(last.seconds) > LONGEST_CALL:
        return f"batch {batch}: not tried, as a call of {last.batch} takes {min(last.seconds):.1f} s"
    rates = [timing.images_per_second for timing in timings]
    if len(timings) > 2 and max(rates[-2:]) < FALLEN * max(rates):
        return f"batch {batch}: not tried, as images/s have fallen twice"
    needed, free = GROWTH * (last.peak_mib or 0), free_mib(device)
    if needed > MEMORY_SHARE * free:
        return f"batch {batch}: not tried, as it may need {needed:,.0f} MiB of {free:,.0f} free"
    return ""


def free_mib(device: torch.device) -> float:
    """Free memory in MiB: of the device on CUDA, else of the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / MIB
    return float(psutil.virtual_memory().available) / MIB


def _joules(draw: Draw, best: TimedBatch, device: torch.device, seconds: float) -> float | None:
    calls = max(1, min(MOST_CALLS, round(seconds / statistics.median(best.seconds))))
    with energy(device) as spent:
        for _ in range(calls):
            draw(best.batch)
    return None if spent[0] is None else spent[0] / (calls * best.batch)


def network_share(draw: Draw, batch: int, device: torch.device) -> float | None:
    """Share of a call's time inside the outermost modules that it calls; None where it calls no module."""
    with network_time(device) as watch:
        synchronise(device)
        whole = timed(draw, batch)
    inside = watch.seconds()
    return None if inside is None else min(1.0, inside / whole)


class NetworkWatch:
    """Sums the time between entering and leaving the outermost module, by the clock or, on CUDA, by events."""

    def __init__(self, device: torch.device) -> None:
        self.cuda, self.depth = device.type == "cuda", 0
        self.spans: list[tuple[Any, Any]] = []
        self.start: Any = None

    def enter(self, *_: object) -> None:
        """Called before a module's forward."""
        self.depth += 1
        if self.depth == 1:
            self.start = self._mark()

    def leave(self, *_: object) -> None:
        """Called after a module's forward."""
        self.depth -= 1
        if self.depth == 0:
            self.spans.append((self.start, self._mark()))

    def _mark(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self) -> float | None:
        """The sum in seconds, or None where no module was called."""
        if not self.spans:
            return None
        if self.cuda:
            torch.cuda.synchronize()
            return sum(a.elapsed_time(b) for a, b in self.spans) / 1e3
        return float(sum(b - a for a, b in self.spans))


@contextmanager
def network_time(device: torch.device) -> Iterator[NetworkWatch]:
    """Watches every module of the process inside this context."""
    watch = NetworkWatch(device)
    handles = [register_module_forward_pre_hook(_hook(watch.enter)), register_module_forward_hook(_hook(watch.leave))]
    try:
        yield watch
    finally:
        for handle in handles:
            handle.remove()


def _hook(act: Callable[..., None]) -> Callable[..., None]:
    def hook(module: nn.Module, *_: object) -> None:
        act()

    return hook
