"""The progress that a long step reports to the screen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


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


_STOP = threading.Event()


def request_stop() -> None:
    """Asks long work in this process to write a checkpoint and stop."""
    _STOP.set()


def stop_requested() -> bool:
    """Whether request_stop was called."""
    return _STOP.is_set()
