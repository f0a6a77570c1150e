"""Step `facts`: the machine as it is found, and what it can do at most: bytes copied and products computed a second.

Rates are of random data, as products of zeros can run faster. Nothing is set: clocks and power are read.
"""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import distributions
from shutil import which
from typing import Any

import torch

from tools.gpu.common import Part, Setting
from tools.gpu.devices import torch_device, typical_seconds

QUERY = (
    "name", "driver_version", "memory.total", "clocks.sm", "clocks.mem", "clocks.max.sm", "power.draw", "power.limit",
    "temperature.gpu", "persistence_mode", "compute_mode", "mig.mode.current", "utilization.gpu",
)  # fmt: skip
SHOWN = ("torch", "torchvision", "triton", "numpy", "scipy", "torch-fidelity", "diffusers", "normflows", "nflows")
PRECISIONS = ("fp32", "tf32", "bf16")


def parts(setting: Setting) -> list[Part]:
    """One process for all."""
    return [Part(("card", "software", "machine", "copy", *(f"matmul-{p}" for p in PRECISIONS)), "tools.gpu.facts:fact")]


def fact(setting: Setting, name: str) -> dict[str, Any]:
    """One item."""
    if name.startswith("matmul-"):
        return matmul(setting, name.removeprefix("matmul-"))
    return {"card": card, "software": software, "machine": machine, "copy": copy}[name](setting)


def card(setting: Setting) -> dict[str, Any]:
    """What nvidia-smi reports before any work, without it what torch knows; on the CPU the processor's name."""
    if setting.device != "cuda":
        return {"name": platform.processor() or platform.machine(), "driver_version": "none"}
    found = _nvidia_smi()  # before torch's context raises the clocks
    properties = torch.cuda.get_device_properties(0)
    more = {"multiprocessors": properties.multi_processor_count, "memory_bytes": properties.total_memory}
    return (found or {"name": properties.name, "driver_version": "nvidia-smi is missing"}) | more


def _nvidia_smi() -> dict[str, str]:
    if which("nvidia-smi") is None:
        return {}
    command = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader"]
    line = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.splitlines()[0]
    return dict(zip(QUERY, (part.strip() for part in line.split(",")), strict=True))


def software(setting: Setting) -> dict[str, Any]:
    """Versions, and torch's settings that decide precision and speed, as found."""
    there = {d.metadata["Name"].lower().replace("_", "-"): d.version for d in distributions()}
    return {
        "python": platform.python_version(), "system": platform.platform(), "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(), "packages": {name: there.get(name) for name in SHOWN},
        "matmul_precision": torch.get_float32_matmul_precision(), "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
    }  # fmt: skip


def machine(setting: Setting) -> dict[str, Any]:
    """The host: processor and memory."""
    lines = open("/proc/cpuinfo").read().splitlines()  # noqa: PTH123, SIM115
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"processor": ", ".join(sorted(models)), "cores": os.cpu_count(), "memory_gib": pages / 2**30}


def copy(setting: Setting) -> dict[str, Any]:
    """Bytes read and written a second by a copy within the device's memory, of buffers larger than its caches."""
    device, size = torch_device(setting.device), 2**20 if setting.tiny else 2**30
    source = torch.rand(size // 4).to(device)
    target = torch.empty_like(source)
    low, typical, high = typical_seconds(lambda: target.copy_(source), device, 0.1 if setting.tiny else 2.0)
    return {"bytes": 2 * size, "seconds": [low, typical, high], "bytes_per_second": 2 * size / typical}


def matmul(setting: Setting, precision: str) -> dict[str, Any]:
    """Floating-point operations a second of a square product, two for a multiplication with an addition."""
    device, side = torch_device(setting.device), 128 if setting.tiny else 8192
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    gen = torch.Generator().manual_seed(0)
    a, b = (torch.randn(side, side, generator=gen).to(device, kind) for _ in range(2))
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    low, typical, high = typical_seconds(lambda: a @ b, device, 0.1 if setting.tiny else 2.0)
    return {"side": side, "seconds": [low, typical, high], "flops_per_second": 2 * side**3 / typical}
