"""The progress that a long step reports to the screen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

STALL_SECONDS = 300.0  # without progress: the screen and the record name it
ALIVE_SECONDS = 20.0  # between two messages about work that has no progress to report


@dataclass(frozen=True)
class Progress:
    """done of total units of a phase ("train", "draw", ...); rate in units/s; terms: losses to show.

    note: a line to print, "" for none.
    """

    phase: str
    done: int
    total: int
    unit: str = "images"
    rate: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)
    note: str = ""


Report = Callable[[Progress], None]


def noting(report: Report, phase: str) -> Callable[[str], None]:
    """A function that reports a line about a phase."""
    return lambda text: report(Progress(phase, 0, 0, note=text))


def silent(_: Progress) -> None:
    """The Report that shows nothing."""


class Throttle:
    """True at most once in `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.last = time.monotonic()

    def due(self) -> bool:
        """Whether the interval is over; if so, the next one starts now."""
        now = time.monotonic()
        if now - self.last < self.seconds:
            return False
        self.last = now
        return True


class StallWatch:
    """A Report that passes on to another, and lists the times of more than STALL_SECONDS without progress.

    The latest one of a process hears `alive` too, from loops that have no Report.
    """

    def __init__(self, report: Report) -> None:
        self.report, self.last, self._stalls = report, time.monotonic(), list[str]()
        self.latest, self._due = Progress("start", 0, 0), Throttle(ALIVE_SECONDS)
        _WATCHES[:] = [self]

    def __call__(self, progress: Progress) -> None:
        """Passes on the progress."""
        self._look(f"before '{progress.phase}'")
        self.latest = progress
        self.report(progress)

    def alive(self) -> None:
        """Counts as progress."""
        self._look(f"in '{self.latest.phase}'")
        if self._due.due():
            self.report(replace(self.latest, note=""))

    @property
    def stalls(self) -> tuple[str, ...]:
        """A warning for each stall until now."""
        self._look(f"in '{self.latest.phase}'")
        return tuple(self._stalls)

    def _look(self, where: str) -> None:
        now = time.monotonic()
        if now - self.last > STALL_SECONDS:
            self._stalls.append(f"no progress for {now - self.last:.0f} s {where}")
        self.last = now


_WATCHES: list[StallWatch] = []  # at most one


def alive() -> None:
    """Tells the process's StallWatch that work goes on."""
    for watch in _WATCHES:
        watch.alive()


_STOP = threading.Event()


def request_stop() -> None:
    """Asks long work in this process to write a checkpoint and stop."""
    _STOP.set()


def stop_requested() -> bool:
    """Whether request_stop was called."""
    return _STOP.is_set()
