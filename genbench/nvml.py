"""What NVML reports about an NVIDIA GPU: energy, other processes, lowered clocks. Needs the package nvidia-ml-py."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MILLI = 1e-3
LEAST_SHARE = 5  # per cent of the GPU's time; a process below it is idle
# Bits of nvmlClocksEventReasons (nvml.h) for clocks below what work alone causes. The software power limit (4) is left
# out, as heavy work reaches it on an otherwise idle GPU.
SLOWED = {0x8: "hardware slowdown", 0x20: "temperature", 0x40: "temperature", 0x80: "power brake"}


class Gpu:
    """One GPU. handle: NVML's. nvml: the module pynvml."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self.nvml, self.handle = nvml, handle
        self.since = int(time.time() * 1e6)

    def joules(self) -> float:
        """Energy used since the driver was loaded. Raises pynvml.NVMLError where the GPU does not count it."""
        return float(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)) * MILLI

    def disturbance(self, own: Iterable[int]) -> str:
        """What slowed the GPU down since the last call, as text; "" for nothing. own: process ids that do not count."""
        return "; ".join(filter(None, (self._others(frozenset(own)), self._clocks())))

    def _others(self, own: frozenset[int]) -> str:
        """Other processes that computed. Not known where NVML's process ids are of another namespace (containers)."""
        since, self.since = self.since, int(time.time() * 1e6)
        with suppress(self.nvml.NVMLError):
            running = {p.pid for p in self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle)}
            if not running & own:
                return ""
            samples = self.nvml.nvmlDeviceGetProcessUtilization(self.handle, since)
            others = {s.pid for s in samples if s.smUtil >= LEAST_SHARE} - own
            if others:
                return f"{len(others)} other process{'es' if len(others) > 1 else ''} computed on the GPU"
        return ""

    def _clocks(self) -> str:
        with suppress(self.nvml.NVMLError):
            reasons = self.nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self.handle)
            named = dict.fromkeys(name for bit, name in SLOWED.items() if reasons & bit)
            if named:
                return f"the GPU lowered its clocks ({', '.join(named)})"
        return ""


def open_gpu(device: torch.device) -> Gpu | None:
    """The GPU behind a CUDA device; None for another device, and where NVML or its package is missing."""
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    import torch

    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return Gpu(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except pynvml.NVMLError:
        return None
