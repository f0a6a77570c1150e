"""Memory that a block of work needs at its peak, and waiting for a device to finish."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

MIB = 2**20
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def synchronise(device: torch.device) -> None:
    """Waits until the device has finished the work it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[float | None]]:
    """Yields a list that holds one item after the block: the peak of its memory in MiB, or None where unknown.

    memory_definition says what the number includes.
    """
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
    CLEAR.write_text("5")  # resets the kernel's peak of resident memory to what is resident now
    before = resident_kib("VmRSS")
    yield peak
    peak.append(max(0, resident_kib("VmHWM") - before) / 1024)


def return_freed_memory() -> None:
    """Returns freed memory that glibc has kept to the system; otherwise it would count as used."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_kib(name: str) -> int:
    """A field of this process's /proc status in KiB (Linux), e.g. VmRSS."""
    return next(int(line.split()[1]) for line in STATUS.read_text().splitlines() if line.startswith(f"{name}:"))


def memory_definition(device: torch.device) -> str:
    """What peak memory includes on this kind of device; part of a record's protocol."""
    if device.type == "cuda":
        return "allocated at peak, weights included"
    return "growth of the resident set at peak, weights and what was allocated before not included"
