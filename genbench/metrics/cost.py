"""What drawing costs: images per second, latency of one image, network evaluations, parameters, peak memory.

torch is imported late here: a suite names metrics, and reading one must not load torch.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from genbench.errors import CellFailure
from genbench.machine import processor_name
from genbench.metrics.base import Metric, Value
from genbench.metrics.readings import COST

if TYPE_CHECKING:
    import torch

    from genbench.contract import Condition, Model

MIB = 2**20
LEAST_REPEATS = 3
MOST_LATENCIES = 100
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """Measurements of one model on one device.

    batch_seconds: of each repeat of sampling `batch` images. image_seconds: of each repeat of sampling one image.
    evaluations: of the network per image, counted where the model declares Steps, else as declared.
    peak_mib: see memory_protocol; None where the system cannot tell. protocol: what the numbers depend on.
    """

    batch: int
    batch_seconds: tuple[float, ...]
    image_seconds: tuple[float, ...]
    evaluations: float
    parameters: int
    peak_mib: float | None
    protocol: dict[str, Any] = field(default_factory=dict)


def measure_cost(
    model: Model,
    *,
    seed: int,
    batch: int,
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
    wishes: Callable[[int], Condition | None] = lambda n: None,
) -> Cost:
    """Samples batches for about `seconds` and then single images for about `seconds`, and times each repeat.

    One untimed call of either size goes before (compilation, allocation); memory and evaluations are read from the
    first. At least 3 repeats are timed, fewer when they would overrun `seconds`, but never none. The device is
    synchronised around every repeat. Leaves the model in eval mode. wishes(n): what n samples are asked to show.
    Raises CellFailure when the network evaluations counted are not those the model declares.
    """
    import torch

    from genbench.space import seeded

    model.eval()
    device = model_device(model)
    gen, asked = seeded(seed, device), {n: wishes(n) for n in (batch, 1)}

    def draw(n: int) -> None:
        model.sample(n, gen, asked[n])
        synchronise(device)

    with torch.inference_mode():
        with counted(model) as calls, peak_memory(device) as peak:
            draw(batch)
        evaluations = verified_evaluations(model, len(calls))
        batch_seconds = repeat(lambda: draw(batch), seconds, clock)
        draw(1)
        image_seconds = repeat(lambda: draw(1), seconds, clock, most=MOST_LATENCIES)
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(batch, batch_seconds, image_seconds, evaluations, parameters, peak[0], protocol(model, batch, device))


def repeat(
    run: Callable[[], None],
    seconds: float,
    clock: Callable[[], float],
    most: int | None = None,
    longest: float | None = None,
) -> tuple[float, ...]:
    """Times `run` until `seconds` are spent: at most `most` times, and at least 3 unless one alone takes `longest`.

    longest: seconds; None: as many as are to be spent.
    """
    taken: list[float] = []
    while most is None or len(taken) < most:
        start = clock()
        run()
        taken.append(clock() - start)
        if sum(taken) >= seconds and (len(taken) >= LEAST_REPEATS or max(taken) > (longest or seconds)):
            break
    return tuple(taken)


@contextmanager
def counted(model: Model) -> Iterator[list[None]]:
    """Grows by one item with each call of the denoiser of a model that declares Steps."""
    from genbench.contract import Steps

    calls: list[None] = []
    if not isinstance(model, Steps):
        yield calls
        return
    handle = model.denoiser.register_forward_hook(lambda *_: calls.append(None))
    try:
        yield calls
    finally:
        handle.remove()


def verified_evaluations(model: Model, found: int) -> float:
    """Network evaluations per image: the declared number, which the count must confirm where the model has Steps."""
    from genbench.contract import Steps

    if isinstance(model, Steps) and found != model.evaluations:
        raise CellFailure(f"evaluations: the model declares {model.evaluations} an image, {found} calls were counted")
    return float(model.evaluations)


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float | None]]:
    """One item after the block: the peak of memory within it in MiB (see memory_protocol), None where unknown."""
    import torch

    peak: list[float | None] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.append(torch.cuda.max_memory_allocated(device) / MIB)
        return
    if device.type != "cpu" or not os.access(CLEAR, os.W_OK):
        yield peak
        peak.append(None)
        return
    return_freed_memory()
    CLEAR.write_text("5")  # sets the kernel's high-water mark to what is resident now
    before = resident_kib("VmRSS")
    yield peak
    peak.append(max(0, resident_kib("VmHWM") - before) / 1024)


def return_freed_memory() -> None:
    """Hands what the allocator has kept of freed memory back to the system, where glibc can: else it counts as used."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_kib(name: str) -> int:
    """A field of the process's status in KiB (Linux)."""
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))


def memory_protocol(device: torch.device) -> str:
    """What peak memory means on this kind of device."""
    if device.type == "cuda":
        return "allocated at peak, weights included"
    return "growth of the resident set at peak, weights and what was allocated before not included"


def model_device(model: Model) -> torch.device:
    """Where the model's parameters are; the CPU when it has none."""
    import torch

    return next((p.device for p in model.parameters()), torch.device("cpu"))


def protocol(model: Model, batch: int, device: torch.device) -> dict[str, Any]:
    """What timings depend on besides the model's own mathematics."""
    import torch

    cuda = device.type == "cuda"
    name = torch.cuda.get_device_name(device) if cuda else processor_name()
    return {
        "batch": batch,
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        "dtype": next((str(p.dtype).removeprefix("torch.") for p in model.parameters()), "none"),
        "memory": memory_protocol(device),
    }


def images_per_second(*, cost: Cost) -> Value:
    """Images per second of the median repeat of a batch."""
    times = cost.batch_seconds
    value = cost.batch / statistics.median(times)
    if len(times) == 1:
        return Value(value)
    return Value(value, cost.batch / max(times), cost.batch / min(times), f"slowest to fastest of {len(times)} repeats")


def latency(*, cost: Cost) -> Value:
    """Median milliseconds for one image drawn alone."""
    ms = 1e3 * np.asarray(cost.image_seconds)
    if len(ms) == 1:
        return Value(float(ms[0]))
    lo, hi = np.percentile(ms, (5, 95))
    return Value(float(np.median(ms)), float(lo), float(hi), f"5th to 95th percentile of {len(ms)} images, one by one")


def evaluations(*, cost: Cost) -> Value:
    """Network evaluations per image."""
    return Value(cost.evaluations)


def parameters(*, cost: Cost) -> Value:
    """Number of parameters of the model, all players'."""
    return Value(float(cost.parameters))


def peak_mib(*, cost: Cost) -> Value:
    """MiB at peak while one batch is drawn; raises CellFailure where the system cannot tell."""
    if cost.peak_mib is None:
        raise CellFailure("peak_memory: only CUDA and Linux tell the peak of a block of work")
    return Value(cost.peak_mib)


COSTS = (
    Metric("images_per_second", "Images/s", 1, "higher", "images/s", COST, images_per_second),
    Metric("latency", "Latency", 1, "lower", "ms", COST, latency, protocol={"images": 1, "statistic": "median"}),
    Metric("evaluations", "Network evaluations", 1, "lower", "evaluations/image", COST, evaluations),
    Metric("parameters", "Parameters", 1, "lower", "parameters", COST, parameters),
    Metric("peak_memory", "Peak memory", 1, "lower", "MiB", COST, peak_mib),
)
