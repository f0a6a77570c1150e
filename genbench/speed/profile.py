"""Everything about the cost of drawing from one model, measured in a process that draws from nothing else.

Kept apart: building, the first image (allocation, choice of kernels), compilation where asked for, and the steady
state, which alone gives rates and percentiles. A call ends when its pixels lie in the CPU's memory, so a device is
synchronised by the copy; on CUDA the time inside the network is taken by events.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import psutil
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.flop_counter import FlopCounterMode

from genbench.contract import Model, Steps
from genbench.metrics.cost import counted, peak_memory, repeat, synchronise, verified_evaluations
from genbench.speed.energy import energy

Draw = Callable[[int], Any]
BATCHES = tuple(4**k for k in range(9))  # memory or patience nearly always ends the sweep before this does
MOST_CALLS, LEAST_CALLS = 200, 3
LONGEST_CALL = 5.0  # seconds: no larger batch is tried once a call takes as long
MEMORY_SHARE = 0.4  # of what is free: no batch is tried that would take more
FALLEN = 0.9  # of the most images/s: below it a batch is past the best
GROWTH = 4.0  # of memory from one batch to the next


@dataclass(frozen=True)
class Point:
    """One batch size: images in a call, seconds of each call, MiB at peak (None: unknown)."""

    batch: int
    seconds: tuple[float, ...]
    peak_mib: float | None

    @property
    def images_per_second(self) -> float:
        """Of the median call."""
        return self.batch / statistics.median(self.seconds)


@dataclass(frozen=True)
class Profile:
    """What drawing from a model costs.

    first_seconds: the first image after building, less a later one. compile_seconds: the same of the first image after
    compiling, None where nothing was compiled. sweep: by batch size; ended: why it ended there. network_share: of the
    time of a call, inside the model's networks (None where it does not call them as modules). flops: of one image, two
    for a multiplication with an addition. joules: for an image, None where the device does not say.
    """

    first_seconds: float
    compile_seconds: float | None
    sweep: tuple[Point, ...]
    ended: str
    evaluations: float
    network_share: float | None
    flops: int
    joules: float | None
    parameters: int

    @property
    def latencies(self) -> tuple[float, ...]:
        """Seconds of images drawn one by one."""
        return self.sweep[0].seconds

    @property
    def best(self) -> Point:
        """The batch with the most images per second."""
        return max(self.sweep, key=lambda point: point.images_per_second)

    def percentile(self, p: float) -> float | None:
        """Seconds within which p percent of single images were drawn; None with fewer calls than can tell."""
        calls = self.latencies
        return float(np.percentile(calls, p)) if len(calls) * (100 - p) >= 100 else None


def profile(model: Model, draw: Draw, *, first_seconds: float, seconds: float, compile: bool = False) -> dict[str, Any]:
    """The Profile as plain data of a model built and drawn from once, which took first_seconds.

    draw(n): one drawing call of n images. seconds: about how long each batch size is repeated.
    Raises CellFailure when the network evaluations counted are not those the model declares.
    """
    device = model.device
    model.requires_grad_(False)  # counting trips over parametrised weights that ask for gradients
    with FlopCounterMode(display=False) as flops, counted(model) as calls:
        draw(1)
    evaluations = verified_evaluations(model, len(calls))
    once = min(timed(draw, 1) for _ in range(LEAST_CALLS))
    compiled = _compiled(model, draw) if compile else None
    sweep, ended = batch_sweep(draw, device, seconds)
    best = max(sweep, key=lambda point: point.images_per_second)
    return asdict(Profile(
        max(0.0, first_seconds - once), compiled, tuple(sweep), ended, evaluations,
        network_share(draw, best.batch, device), flops.get_total_flops(), _joules(draw, best, device, seconds),
        sum(p.numel() for p in model.parameters()),
    ))  # fmt: skip


def read_profile(data: dict[str, Any]) -> Profile:
    """The Profile of plain data."""
    sweep = tuple(Point(p["batch"], tuple(p["seconds"]), p["peak_mib"]) for p in data["sweep"])
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


def batch_sweep(draw: Draw, device: torch.device, seconds: float) -> tuple[list[Point], str]:
    """A Point for each batch size up to where memory, or a call's length, ends it; and what ended it."""
    points: list[Point] = []
    for batch in BATCHES:
        reason = _too_large(points, device, batch)
        if reason:
            return points, reason
        try:
            points.append(_point(draw, device, batch, seconds))
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            return points, f"batch {batch}: out of memory"
    return points, f"batch {BATCHES[-1]} is the largest tried"


def _too_large(points: list[Point], device: torch.device, batch: int) -> str:
    if not points:
        return ""
    last = points[-1]
    if min(last.seconds) > LONGEST_CALL:
        return f"batch {batch}: not tried, as a call of {last.batch} takes {min(last.seconds):.1f} s"
    rates = [point.images_per_second for point in points]
    if len(points) > 2 and max(rates[-2:]) < FALLEN * max(rates):
        return f"batch {batch}: not tried, as images/s have fallen twice"
    needed, free = GROWTH * (last.peak_mib or 0), free_mib(device)
    if needed > MEMORY_SHARE * free:
        return f"batch {batch}: not tried, as it may need {needed:,.0f} MiB of {free:,.0f} free"
    return ""


def free_mib(device: torch.device) -> float:
    """Memory that is free, on the device or in the machine."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 2**20
    return float(psutil.virtual_memory().available) / 2**20


def _point(draw: Draw, device: torch.device, batch: int, seconds: float) -> Point:
    with peak_memory(device) as peak:
        draw(batch)
    taken = repeat(lambda: draw(batch), seconds, time.perf_counter, MOST_CALLS, LONGEST_CALL)
    return Point(batch, taken, peak[0])


def _joules(draw: Draw, best: Point, device: torch.device, seconds: float) -> float | None:
    calls = max(1, min(MOST_CALLS, round(seconds / statistics.median(best.seconds))))
    with energy(device) as spent:
        for _ in range(calls):
            draw(best.batch)
    return None if spent[0] is None else spent[0] / (calls * best.batch)


def network_share(draw: Draw, batch: int, device: torch.device) -> float | None:
    """The share of a call's time inside the outermost modules it calls; None where it calls none."""
    with network_time(device) as watch:
        synchronise(device)
        whole = timed(draw, batch)
    inside = watch.seconds()
    return None if inside is None else min(1.0, inside / whole)


class NetworkWatch:
    """Adds up the time from entering to leaving the outermost module, by the clock, or on CUDA by events."""

    def __init__(self, device: torch.device) -> None:
        self.cuda, self.depth = device.type == "cuda", 0
        self.spans: list[tuple[Any, Any]] = []
        self.start: Any = None

    def enter(self, *_: object) -> None:
        """Before a module's forward."""
        self.depth += 1
        if self.depth == 1:
            self.start = self._mark()

    def leave(self, *_: object) -> None:
        """After it."""
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
        """The sum, or None where no module was called."""
        if not self.spans:
            return None
        if self.cuda:
            torch.cuda.synchronize()
            return sum(a.elapsed_time(b) for a, b in self.spans) / 1e3
        return float(sum(b - a for a, b in self.spans))


@contextmanager
def network_time(device: torch.device) -> Iterator[NetworkWatch]:
    """Watches every module of the process while it is open."""
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
