"""Which arithmetic metrics compute with.

    with computing_on("cuda"):
        metrics.frechet_distance(fake=fake, real=real)

Values agree with the CPU's within rounding, and counts of neighbours exactly (docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from genbench.machine import pinned_globals
from genbench.metrics.arithmetic import MEMORY, Arithmetic
from genbench.metrics.products import FLOAT32, Products

if TYPE_CHECKING:
    import torch

_CPU = Arithmetic()
_CURRENT: ContextVar[Arithmetic] = ContextVar("arithmetic", default=_CPU)


def arithmetic(*, double: bool = True) -> Arithmetic:
    """That of the current `computing_on`, the CPU's outside; double: float64 is needed, which MPS does not have."""
    current = _CURRENT.get()
    return current if not double or holds_double(current.device) else _CPU


def holds_double(device: torch.device | str) -> bool:
    """Whether a device has float64."""
    return not str(device).startswith("mps")


@contextmanager
def computing_on(device: torch.device | str, memory: int = MEMORY, products: Products = FLOAT32) -> Iterator[None]:
    """Metrics compute on this device of torch, with at most `memory` bytes beside the features.

    products: the kind from which neighbours are chosen before float64 decides (`products.KINDS`); counts do not depend
    on it. All other products of float32 are computed in full precision.
    """
    import torch  # late: reading a suite names metrics and must be fast

    there = torch.device(device)
    if there.type == "cpu":
        arithmetic_there = Arithmetic(memory, products)
    else:
        from genbench.metrics.device_arithmetic import arithmetic_on  # late, as above

        arithmetic_there = arithmetic_on(there, memory, products)
    token = _CURRENT.set(arithmetic_there)
    try:
        with pinned_globals():
            yield
    finally:
        _CURRENT.reset(token)
