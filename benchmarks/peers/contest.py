"""Two implementations timed in turn within one run, so that a busy machine slows both alike.

Times are CPU seconds of one thread, of several threads the wall's. A round is ours, theirs, theirs, ours; its ratio is
their two calls over our two.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

LEAST_SECONDS, LEAST_ROUNDS = 5.0, 5
Call = Callable[[], object]
Clock = Callable[[], float]


@dataclass(frozen=True)
class ContestResult:
    """Median seconds of a call over the rounds, and median and quartiles of the rounds' ratio theirs / ours."""

    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    rounds: int


def seconds(call: Call, clock: Clock) -> float:
    """Seconds of one call."""
    start = clock()
    call()
    return clock() - start


def contest(
    ours: Call, theirs: Call, *, least_rounds: int = LEAST_ROUNDS, clock: Clock = time.process_time
) -> ContestResult:
    """Times both for LEAST_SECONDS and at least this many rounds, after two untimed calls of each."""
    for call in (ours, theirs) * 2:
        call()
    rounds: list[tuple[float, float]] = []
    begin = clock()
    while len(rounds) < least_rounds or clock() - begin < LEAST_SECONDS:
        a, b, c, d = (seconds(call, clock) for call in (ours, theirs, theirs, ours))
        rounds.append(((a + d) / 2, (b + c) / 2))
    low, ratio, high = np.quantile([b / a for a, b in rounds], (0.25, 0.5, 0.75)).tolist()
    mine, other = (median(column) for column in zip(*rounds, strict=True))
    return ContestResult(mine, other, ratio, low, high, len(rounds))


def report(benchmark: Any, what: str, images: int, aim: float, result: ContestResult) -> None:
    """Writes the result into extra_info and onto the screen. aim: the smallest ratio that we want."""
    rates = [round(images / s, 1) for s in (result.ours, result.theirs)]
    ratio, quartiles = round(result.ratio, 3), [round(result.low, 3), round(result.high, 3)]
    benchmark.extra_info.update(
        what=what, ratio=ratio, quartiles=quartiles, rounds=result.rounds, aim=aim, images=images,
        images_per_second=rates, seconds=[float(f"{s:.3g}") for s in (result.ours, result.theirs)],
    )  # fmt: skip
    print(f"\n{what}: {ratio} times as fast (quartiles {quartiles}, {result.rounds} rounds, aim {aim}); "
          f"images/s {rates[0]} and {rates[1]}")  # fmt: skip


def play(benchmark: Any, what: str, images: int, aim: float, ours: Call, theirs: Call) -> None:
    """One call of ours for pytest-benchmark's table, then the contest."""
    benchmark.pedantic(ours, rounds=1, warmup_rounds=1)
    report(benchmark, what, images, aim, contest(ours, theirs))
