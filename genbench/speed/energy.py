"""Energy that a block of work uses, where the device reports it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from genbench.nvml import open_gpu

RAPL = Path("/sys/class/powercap")
MICRO = 1e-6


@contextmanager
def energy(device: torch.device) -> Iterator[list[float | None]]:
    """Yields a list that holds one item after the block: the joules used meanwhile, or None where unknown.

    Includes everything that used the device. CUDA: NVML's total energy counter, which needs the package nvidia-ml-py.
    CPU: RAPL counters of the processor packages (Linux), where the user may read them; None after an overflow.
    """
    spent: list[float | None] = []
    counters = _counters(device)
    before = [read() for read in counters]
    yield spent
    used = [read() - start for read, start in zip(counters, before, strict=True)]
    spent.append(sum(used) if used and min(used) >= 0 else None)


def _counters(device: torch.device) -> list[Callable[[], float]]:
    if device.type == "cuda":
        return _nvml(device)
    return [_reader(path) for path in _rapl()] if device.type == "cpu" else []


def _rapl() -> list[Path]:
    return [path for zone in RAPL.glob("intel-rapl:?") if _readable(path := zone / "energy_uj")]


def _readable(path: Path) -> bool:
    try:
        return bool(path.read_text())
    except OSError:
        return False


def _reader(path: Path) -> Callable[[], float]:
    return lambda: int(path.read_text()) * MICRO


def _nvml(device: torch.device) -> list[Callable[[], float]]:
    gpu = open_gpu(device)
    if gpu is None:
        return []
    try:
        gpu.joules()
    except gpu.nvml.NVMLError:
        return []
    return [gpu.joules]
