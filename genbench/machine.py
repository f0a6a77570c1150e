"""The machine and how genbench uses it: devices, processor, cores, and allocator.

torch is imported only inside the functions that need it: reports and suites are read without it.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genbench.errors import GenbenchError

if TYPE_CHECKING:
    import torch

# Makes glibc keep freed memory. By default it returns large blocks to the system, which clears them page by page at the
# next allocation: a fifth of the time of training a VAE at 28x28. 32 MiB is the largest threshold old versions accept.
# Where Linux gives huge pages to those who ask, it asks for them: a twentieth of the time of a training at 8x8.
KEEPING_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(10**9), "MALLOC_MMAP_THRESHOLD_": str(2**25),
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}  # fmt: skip
# How often an idle OpenMP thread looks for work before it sleeps. libgomp's 300,000 keeps cores from the threads that
# it waits for; 20,000 is as fast on a quiet machine (docs/performance.md).
SHORT_SPINS = {"GOMP_SPINCOUNT": "20000"}
VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
LIBRARIES = ("torch", "torchvision", "torch-fidelity", "numpy", "scipy", "pandas", "scikit-learn", "safetensors")
CPU_INFO = Path("/proc/cpuinfo")
# Of x86 with matrix registers, and of Arm. With avx512_bf16 alone, products take twice the time of those of float32:
# docs/performance.md, "bfloat16".
BFLOAT16_FLAGS = frozenset(("amx_bf16", "bf16"))
AMPERE = (8, 0)  # the first GPUs with bfloat16
PINNED = {
    "dtype": "float32", "deterministic": False, "cudnn_benchmark": False, "cudnn_deterministic": False,
    "matmul": "highest", "gradients": True,
}  # fmt: skip


def choose_device(name: str) -> str:
    """The device to use: cpu, cuda, cuda:1 or mps; auto takes the fastest available. GenbenchError for another."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = name.split(":")[0]
    if name == "auto":
        return next(kind for kind, here in available.items() if here)
    if kind not in available or not re.fullmatch(r"\w+(:\d+)?", name):
        raise GenbenchError(f"--device: found '{name}', allowed: auto, {', '.join(available)}")
    if not available[kind]:
        raise GenbenchError(f"--device: '{name}' is not available here; allowed: auto, cpu")
    return name


def choose_gpus(name: str) -> tuple[str, tuple[str, ...]]:
    """The device of a run, and the GPUs that it uses by the names of CUDA_VISIBLE_DEVICES: of "cuda" all of them, of
    "cuda:0,2" these, of another device none. GenbenchError for a device that is missing.
    """
    kind, _, numbers = name.partition(":")
    device = choose_device(kind if re.fullmatch(r"cuda:\d+(,\d+)*", name) else name)
    if device != "cuda":
        return device, ()
    gpus = visible_gpus()
    chosen = [int(number) for number in numbers.split(",") if number] or list(range(len(gpus)))
    if len(set(chosen)) < len(chosen) or max(chosen) >= len(gpus):
        allowed = f"different ones of {', '.join(f'cuda:{number}' for number in range(len(gpus)))}"
        raise GenbenchError(f"--device: found '{name}', allowed: {allowed}")
    return device, tuple(gpus[number] for number in chosen)


def visible_gpus() -> list[str]:
    """The GPUs that this process sees, by the names of CUDA_VISIBLE_DEVICES."""
    import torch

    count = torch.cuda.device_count()
    names = [part.strip() for part in os.environ.get(VISIBLE_GPUS, "").split(",") if part.strip()]
    return names[:count] or [str(number) for number in range(count)]


def device_name(device: str | torch.device) -> str:
    """The hardware behind a device, e.g. "NVIDIA H100 80GB HBM3" or the processor's name."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()} (mps)" if kind == "mps" else processor_name()


def made_with(device: str | torch.device) -> dict[str, str]:
    """What an artefact is made with that its key does not contain: the hardware and the version of torch."""
    import torch

    return {"device": device_name(device), "torch": torch.__version__}


def only_made_with(meta: dict[str, Any]) -> dict[str, str]:
    """The fields of `made_with` among the meta data of an artefact."""
    return {name: meta[name] for name in ("device", "torch") if name in meta}


def processor_name() -> str:
    """The processor's marketing name where the system reports it."""
    return _model_name(CPU_INFO) or platform.processor() or platform.machine()


@cache
def _model_name(info: Path) -> str:
    """The first model name in a file like /proc/cpuinfo; "" where there is none."""
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def computes_bfloat16(device: str) -> bool:
    """Whether a device has instructions with which products of bfloat16 are faster than those of float32."""
    import torch

    kind = device.split(":")[0]
    if kind == "cuda":
        return torch.cuda.get_device_capability(device) >= AMPERE
    return kind == "cpu" and CPU_INFO.is_file() and not BFLOAT16_FLAGS.isdisjoint(CPU_INFO.read_text().split())


def system_name() -> str:
    """Operating system and architecture, e.g. "Linux x86_64"."""
    return f"{platform.system()} {platform.machine()}"


def cores_available() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def timing_machine(device: str) -> str:
    """What a timing depends on: device, processor, cores, threads where they are fewer, and torch's version."""
    import torch

    cores, threads = cores_available(), threads_allowed()
    used = f"{cores} cores" + (f", {threads} threads" if threads < cores else "")
    return f"{device_name(device)}, {processor_name()}, {used}, torch {torch.__version__}"


def environment_facts() -> dict[str, Any]:
    """Machine and library versions, as stored in environment.json."""
    return {
        "genbench": metadata.version("genbench"),
        "python": platform.python_version(),
        "system": system_name(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "packages": {name: metadata.version(name) for name in LIBRARIES},
    }


def threads_allowed() -> int:
    """Threads that a timing may use: the cores, or fewer where the user set OMP_NUM_THREADS."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return min(cores_available(), int(wanted)) if wanted.isdigit() and int(wanted) else cores_available()


@contextmanager
def pinned_globals() -> Iterator[None]:
    """Fixed values for torch's global settings, which code of models may change; afterwards they are as before.

    Default type float32, default device the CPU, no deterministic algorithms, cuDNN without benchmark and deterministic
    mode, float32 matrix products in full precision, gradients on. The number of threads is only restored.
    """
    import torch

    before = global_settings(torch)
    _change_globals(torch, before, {**PINNED, "threads": before["threads"], "device": torch.device("cpu")})
    try:
        yield
    finally:
        _change_globals(torch, global_settings(torch), before)


@contextmanager
def globals_restored() -> Iterator[None]:
    """Afterwards torch's global settings are as before; those of PINNED where torch was imported inside."""
    before = global_settings(sys.modules["torch"]) if _has_torch() else None
    try:
        yield
    finally:
        if _has_torch():
            torch = sys.modules["torch"]
            now = global_settings(torch)
            fresh = {**PINNED, "threads": now["threads"], "device": torch.device("cpu")}
            _change_globals(torch, now, before or fresh)


def _has_torch() -> bool:
    """Whether torch is imported, and to its end."""
    return hasattr(sys.modules.get("torch"), "get_default_device")


@contextmanager
def products_in(precision: str) -> Iterator[None]:
    """Products of float32 in this precision of `torch.set_float32_matmul_precision`, sums of bfloat16 in float32.

    Afterwards both settings are as before.
    """
    import torch

    cuda = torch.backends.cuda.matmul
    before = torch.get_float32_matmul_precision(), cuda.allow_bf16_reduced_precision_reduction
    torch.set_float32_matmul_precision(precision)
    cuda.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cuda.allow_bf16_reduced_precision_reduction = before[1]


def global_settings(torch: Any) -> dict[str, Any]:
    """The settings that pinned_globals fixes, as they are."""
    cudnn = torch.backends.cudnn
    return {
        "dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "device": torch.get_default_device(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": cudnn.benchmark,
        "cudnn_deterministic": cudnn.deterministic,
        "matmul": torch.get_float32_matmul_precision(),
        "gradients": torch.is_grad_enabled(),
        "threads": torch.get_num_threads(),
    }


def _change_globals(torch: Any, now: dict[str, Any], settings: dict[str, Any]) -> None:
    """Sets what differs: a default device, once set, slows down every operation."""
    if now == settings:  # nearly always, and drawing is timed with this check in it
        return
    cudnn = torch.backends.cudnn
    setters: dict[str, Callable[[Any], object]] = {
        "dtype": lambda name: torch.set_default_dtype(getattr(torch, name)),
        "device": lambda device: torch.set_default_device(None if device.type == "cpu" else device),
        "deterministic": torch.use_deterministic_algorithms,
        "cudnn_benchmark": lambda on: setattr(cudnn, "benchmark", on),
        "cudnn_deterministic": lambda on: setattr(cudnn, "deterministic", on),
        "matmul": torch.set_float32_matmul_precision,
        "gradients": torch.set_grad_enabled,
        "threads": torch.set_num_threads,
    }
    for name, value in settings.items():
        if now[name] != value:
            setters[name](value)


def use_threads(count: int) -> None:
    """Limits this process to `count` computing threads."""
    import torch

    torch.set_num_threads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)
