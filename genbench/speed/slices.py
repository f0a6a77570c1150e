"""Slices of work: as many calls of one batch as make a timing long enough to trust and short enough to alternate."""

from __future__ import annotations

from collections.abc import Callable

from genbench.speed.client import Worker
from genbench.speed.judge import fastest
from genbench.speed.subjects import Subject

MOST_CALLS = 2_000
TRIAL = 5
Say = Callable[[str], None]  # a line for who waits


def prepare(worker: Worker, subject: Subject, batch: int) -> float:
    """Builds the subject in the worker and draws until warm; seconds of one call. CellFailure where it cannot."""
    worker.ask("build", subject=vars(subject))
    worker.ask("slice", batch=batch, calls=1)
    return call_seconds(worker, batch)


def call_seconds(worker: Worker, batch: int) -> float:
    """Seconds of one call, the fastest of a few."""
    return fastest(worker.ask("slice", batch=batch, calls=TRIAL)["seconds"])


def calls_in(seconds: float, each: float) -> int:
    """How many calls of `each` seconds fill a slice of `seconds`, at least 1."""
    return max(1, min(MOST_CALLS, round(seconds / max(each, 1e-9))))


def time_slice(worker: Worker, batch: int, calls: int) -> list[float]:
    """Seconds of each call."""
    taken: list[float] = worker.ask("slice", batch=batch, calls=calls)["seconds"]
    return taken
