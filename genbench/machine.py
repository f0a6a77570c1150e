"""What this computer is and how genbench uses it: devices, processor, cores, allocator, and its error texts.

torch is imported only inside the functions that need it: reports and suites are read without it.
"""

from __future__ import annotations

import os
import platform
import sys
import sysconfig
import traceback
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genbench.errors import CellFailure, GenbenchError
from genbench.text import printable

if TYPE_CHECKING:
    import torch

# Makes glibc keep freed memory. By default it returns large blocks to the system, which clears them page by page at the
# next allocation: a fifth of the time of training a VAE at 28x28. 32 MiB is the largest threshold old versions accept.
KEEPING_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(10**9), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
LIBRARIES = ("torch", "torchvision", "torch-fidelity", "numpy", "scipy", "pandas", "scikit-learn", "safetensors")
LONGEST_REASON = 300  # characters


def choose_device(name: str) -> str:
    """The device to use: cpu, cuda or mps; auto takes the fastest available. GenbenchError for one that is missing."""
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    kind = name.split(":")[0]
    if name == "auto":
        return next(kind for kind, here in available.items() if here)
    if kind not in available:
        raise GenbenchError(f"--device: found '{name}', allowed: auto, {', '.join(available)}")
    if not available[kind]:
        raise GenbenchError(f"--device: '{name}' is not available here; allowed: auto, cpu")
    return name


def device_name(device: str | torch.device) -> str:
    """The hardware behind a device, e.g. "NVIDIA H100 80GB HBM3" or the processor's name."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor_name()} (mps)" if kind == "mps" else processor_name()


def processor_name() -> str:
    """The processor's marketing name where the system gives it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def system_name() -> str:
    """Operating system and architecture, e.g. "Linux x86_64"."""
    return f"{platform.system()} {platform.machine()}"


def cores_available() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def timing_machine(device: str) -> str:
    """What a timing depends on: device, processor, cores and torch's version."""
    import torch

    return f"{device_name(device)}, {processor_name()}, {cores_available()} cores, torch {torch.__version__}"


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


def use_threads(count: int) -> None:
    """Limits this process to `count` computing threads."""
    import torch

    torch.set_num_threads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)


def explain(error: BaseException) -> str:
    """An exception as one sentence for a record."""
    import torch

    text = printable(" ".join(str(error).split())[:LONGEST_REASON])
    if isinstance(error, CellFailure | GenbenchError):
        return text
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in text.lower():
        return f"out of memory: {text}" if text else "out of memory"
    return f"{type(error).__name__}: {text}{_raised_at(error)}"


def _raised_at(error: BaseException) -> str:
    """Where in the user's own code, as " (my_flow.py:61, in loss)"; "" where there is none."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_own_code(f.filename)]
    return f" ({Path(frames[-1].filename).name}:{frames[-1].lineno}, in {frames[-1].name})" if frames else ""


def _is_own_code(filename: str) -> bool:
    installed = ("site-packages", "dist-packages", sysconfig.get_path("stdlib"), str(Path(__file__).parent))
    return not filename.startswith("<") and not any(part in filename for part in installed)
