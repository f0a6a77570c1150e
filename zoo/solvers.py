"""Single steps of methods for ordinary differential equations dx / dt = field(x, t), from a time to another.

Each is a function (field, x, t, to) -> x with x (B, ...); the times may run in either direction. A sampler calls one of
them for each pair of neighbouring times.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

Field = Callable[[Tensor, float], Tensor]


def euler(field: Field, x: Tensor, t: float, to: float) -> Tensor:
    """First order, one evaluation."""
    return x + (to - t) * field(x, t)


def midpoint(field: Field, x: Tensor, t: float, to: float) -> Tensor:
    """Second order, two evaluations: the slope at the middle, which an Euler step of half the length finds."""
    half = (to - t) / 2
    return x + 2 * half * field(x + half * field(x, t), t + half)


def heun(field: Field, x: Tensor, t: float, to: float) -> Tensor:
    """Second order, two evaluations: the mean of the slopes at both ends, the second found by an Euler step."""
    first = field(x, t)
    second = field(x + (to - t) * first, to)
    return x + (to - t) / 2 * (first + second)


SOLVERS = {"euler": (euler, 1), "midpoint": (midpoint, 2), "heun": (heun, 2)}  # a step and its evaluations
