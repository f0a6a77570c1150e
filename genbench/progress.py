"""The progress that a long step reports to the screen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """done of total units of a phase ("train", "draw", ...); rate in units/s; terms: losses to show."""

    phase: str
    done: int
    total: int
    unit: str = "images"
    rate: float = 0.0
    terms: dict[str, float] = field(default_factory=dict)


Report = Callable[[Progress], None]


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
