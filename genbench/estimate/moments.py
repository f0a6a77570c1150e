"""Work with a model that is timed for a moment: a call with many images, ended early where it takes long."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from genbench.contract import Draws, Steps
from genbench.draw.clock import clock_of
from genbench.draw.counting import EvaluationCount
from genbench.draw.memory import synchronise
from genbench.estimate.span import ZERO, TimeRange, of_repeats
from genbench.sources.tryout import for_a_moment

SECONDS = 1.0  # after which a call, or the calls of a denoiser, are long enough
LONGEST = 8.0  # of a call that is to come to its end
FEW, REPEATS, LEAST_CALLS = 2, 3, 4
OVERHEAD = 10.0  # a call of few images, multiplied, takes at most this many times as long as a call of many


@dataclass(frozen=True)
class _Call:
    """seconds: of the call. whole: whether it came to its end. rows: that the denoiser evaluated."""

    seconds: float
    whole: bool
    rows: int


def seconds_of_call(model: Draws, call: Callable[[int], object], images: int) -> TimeRange:
    """Seconds of call(images), which uses the model.

    Of a model with a denoiser, a call of few images tells how many rows it evaluates for an image, and the call of all
    images, ended after some evaluations, how long a row takes. Another model's call is awaited for LONGEST, and a call
    of few images multiplied where it takes longer. Where not even that ends, the result is a lower bound.
    """
    if images == 0:
        return ZERO
    few = _call(model, call, min(FEW, images), LONGEST)  # it also allocates and compiles
    if isinstance(model, Steps) and few.whole and few.rows:
        each = _seconds_of_a_row(model, call, images)
        if each is not None:
            return each.times(few.rows * images / min(FEW, images))
    first = _call(model, call, images, LONGEST)
    if first.whole:
        more = min(REPEATS, math.ceil(SECONDS / max(first.seconds, 1e-9)))
        return of_repeats([_call(model, call, images, math.inf).seconds for _ in range(more)])
    most = few.seconds * images / min(FEW, images)
    least = max(first.seconds, most / OVERHEAD)
    return TimeRange(least, math.sqrt(least * most), most, at_least=not few.whole)


def _call(model: Draws, call: Callable[[int], object], images: int, seconds: float) -> _Call:
    clock = clock_of(model.device)
    synchronise(model.device)
    start = clock()
    with EvaluationCount(model) as count, for_a_moment(model, seconds, clock) as ended:
        call(images)
    synchronise(model.device)
    return _Call(clock() - start, not ended, count.rows)


class _Enough(BaseException):
    pass


class _Marks(EvaluationCount):
    """The clock and the rows after each of the denoiser's calls; ends the work when there are enough of them."""

    def __init__(self, model: Draws) -> None:
        super().__init__(model)
        self.clock, self.marks = clock_of(model.device), list[tuple[float, int]]()

    def _add(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        super()._add(module, args, kwargs, output)
        synchronise(self.model.device)
        self.marks.append((self.clock(), self.rows))
        if len(self.marks) > LEAST_CALLS and self.marks[-1][0] - self.marks[0][0] > SECONDS:
            raise _Enough


def _seconds_of_a_row(model: Draws, call: Callable[[int], object], images: int) -> TimeRange | None:
    """Seconds from one row of the denoiser to the next, with what the sampler does; None for a single evaluation.

    The first evaluation is left out, which allocates memory.
    """
    watched = _Marks(model)
    try:
        with watched:
            call(images)
    except _Enough:
        pass
    marks = watched.marks
    if len(marks) < 2:
        return None
    times = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in pairwise(marks) if b[1] > a[1]]
    return of_repeats(times) if times else None
