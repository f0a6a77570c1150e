"""Slices of work: enough calls of one batch for a reliable timing, and few enough to alternate quickly."""

from __future__ import annotations

from collections.abc import Callable

from genbench.speed.client import Worker
from genbench.speed.judge import fastest
from genbench.speed.subjects import TimedModel

MOST_CALLS = 2_000
TRIAL = 5
Announce = Callable[[str], None]  # shows a line about the progress


def prepare(worker: Worker, subject: TimedModel, batch: int) -> float:
    """Builds the subject in the worker and warms it up; returns seconds of one call. Raises CellFailure on failure."""
    worker.request("build", subject=vars(subject))
    worker.request("slice", batch=batch, calls=1)
    return call_seconds(worker, batch)


def call_seconds(worker: Worker, batch: int) -> float:
    """Seconds of one call: the fastest of TRIAL calls."""
    return fastest(worker.request("slice", batch=batch, calls=TRIAL)["seconds"])


def calls_in(seconds: float, each: float) -> int:
    """Number of calls of `each` seconds that fill a slice of `seconds`; at least 1."""
    return max(1, min(MOST_CALLS, round(seconds / max(each, 1e-9))))


def time_slice(worker: Worker, batch: int, calls: int) -> list[float]:
    """Seconds of each of `calls` calls."""
    seconds: list[float] = worker.request("slice", batch=batch, calls=calls)["seconds"]
    return seconds
