"""The rate of float32 matrix products on a device: the limit that a model's operations are compared with."""

from __future__ import annotations

import statistics
import time

import torch

from genbench.draw.memory import synchronise
from genbench.machine import pinned_globals

SIDES = {"cpu": 1024, "cuda": 8192}  # large enough that a product takes most of the rate that larger ones reach
MOST_PRODUCTS = 1000


@pinned_globals()
@torch.inference_mode()
def matmul_rate(device: torch.device, seconds: float = 0.3, side: int | None = None) -> float:
    """Floating-point operations a second of square products with the threads that torch has, two for each product.

    The median of the products of about `seconds`, after one untimed. A GPU computes them as in drawing, without TF32.
    """
    n = side or SIDES.get(device.type, 2048)
    a, b = (torch.randn(n, n, generator=torch.Generator().manual_seed(k)).to(device) for k in range(2))
    times: list[float] = []
    while (sum(times[1:]) < seconds and len(times) < MOST_PRODUCTS) or len(times) < 2:
        start = time.perf_counter()
        torch.mm(a, b)
        synchronise(device)
        times.append(time.perf_counter() - start)
    return 2 * n**3 / statistics.median(times[1:])
