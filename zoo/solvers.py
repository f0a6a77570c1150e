"""Methods for ordinary differential equations dx / dt = field(x, t).

A single step is a function (field, x, t, to) -> x with x (B, ...); the times may run in either direction. A sampler
calls one of them for each pair of neighbouring times. `adaptive` chooses the steps itself, for each image its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Field = Callable[[Tensor, float], Tensor]


def euler(field: Field, x: Tensor, t: float, to: float) -> Tensor:
    """First order, one evaluation."""
    return x.add(field(x, t), alpha=to - t)


def midpoint(field: Field, x: Tensor, t: float, to: float) -> Tensor:
    """Second order, two evaluations: the slope at the middle, which an Euler step of half the length finds."""
    half = (to - t) / 2
    return x.add(field(x.add(field(x, t), alpha=half), t + half), alpha=2 * half)


def heun(field: Field, x: Tensor, t: float, to: float) -> Tensor:
    """Second order, two evaluations: the mean of the slopes at both ends, the second found by an Euler step."""
    first = field(x, t)
    second = field(x.add(first, alpha=to - t), to)
    return x.add(first, alpha=(to - t) / 2).add_(second, alpha=(to - t) / 2)


SOLVERS = {"euler": (euler, 1), "midpoint": (midpoint, 2), "heun": (heun, 2)}  # a step and its evaluations

# Dormand and Prince 1980, RK5(4)7M: times, slopes of each stage, and what the fourth order differs by from the fifth.
TIMES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
DIFFERENCE = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
FIRST_STEP, SHORTEST_STEP = 0.05, 0.001  # shares of the whole interval
SAFETY, LEAST_CHANGE, MOST_CHANGE = 0.9, 0.2, 5.0  # of the next step, compared with what the error asks for


@torch.no_grad()
def adaptive(
    field: Callable[[Tensor, Tensor], Tensor], x: Tensor, start: float, end: float, tolerance: float
) -> Tensor:
    """The solution at `end` (B, ...) of x at `start`, by Dormand's and Prince's method of order 5 with local error 4.

    field(x, t) receives the images that are not finished, x (b, ...) and their times t (b,). Each image has its own
    steps, so that it does not depend on the others. A step is repeated with a shorter length while the root mean square
    of error / (tolerance + tolerance |x|) exceeds 1; a step of SHORTEST_STEP is taken as it is.
    """
    x, whole = x.clone(), end - start
    gone = torch.zeros(len(x), dtype=torch.float64, device=x.device)  # the share of the interval behind each image
    length = torch.full_like(gone, FIRST_STEP)
    slope = field(x, (start + whole * gone).to(x.dtype))
    while (rows := (gone < 1).nonzero().squeeze(1)).numel():
        behind = gone[rows]
        left = 1 - behind
        step = torch.minimum(length[rows], left)
        moved, error, last = _trial(field, x[rows], slope[rows], start + whole * behind, whole * step, tolerance)
        taken = (error <= 1) | (step <= SHORTEST_STEP)
        done = rows[taken]
        x[done], slope[done] = moved[taken], last[taken]
        gone[done] = torch.where(step < left, behind + step, 1.0)[taken]
        change = SAFETY * error.clamp_min(1e-10).pow(-1 / 5)
        length[rows] = (step * change.nan_to_num(LEAST_CHANGE).clamp(LEAST_CHANGE, MOST_CHANGE)).clamp_min(
            SHORTEST_STEP
        )
    return x


def _trial(
    field: Callable[[Tensor, Tensor], Tensor], x: Tensor, first: Tensor, t: Tensor, step: Tensor, tolerance: float
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of each image: x after it, its error in tolerances (b,) float64, and the slope after it."""
    h = step.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
    times = (t + step.new_tensor(TIMES[1:])[:, None] * step).to(x.dtype)
    slopes, moved = [first], x
    for now, weights in zip(times, STAGES, strict=True):
        moved = x.addcmul(h, _combined(weights, slopes))
        slopes.append(field(moved, now))
    allowed = torch.maximum(x.abs(), moved.abs()).add_(1).mul_(tolerance)
    relative = (h * _combined(DIFFERENCE, slopes)).div_(allowed)
    return moved, relative.flatten(1).double().square().mean(1).sqrt(), slopes[-1]


def _combined(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    """The weighted sum of slopes, one operation for each; the first weight is not 0."""
    total = weights[0] * slopes[0]
    for weight, slope in zip(weights[1:], slopes[1:], strict=True):
        if weight:
            total.add_(slope, alpha=weight)
    return total
