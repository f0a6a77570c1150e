"""The clock of what is tried for a moment."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
import torch


def clock_of(device: torch.device | str) -> Callable[[], float]:
    """Seconds of the processor that this process used, on a CPU: other processes do not lengthen them. Else seconds."""
    return time.process_time if torch.device(device).type == "cpu" else time.perf_counter


def age(device: torch.device | str) -> float:
    """Seconds by that clock since this process started."""
    if torch.device(device).type == "cpu":
        return time.process_time()
    return time.time() - psutil.Process().create_time()
