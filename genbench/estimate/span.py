"""Estimated seconds with the range in which they are likely to be."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TimeRange:
    """low <= likely <= high seconds. at_least: nothing is known about how much longer it takes."""

    low: float = 0.0
    likely: float = 0.0
    high: float = 0.0
    at_least: bool = False

    def __add__(self, other: TimeRange) -> TimeRange:
        ends = (self.low + other.low, self.likely + other.likely, self.high + other.high)
        return TimeRange(*ends, self.at_least or other.at_least)

    def times(self, factor: float) -> TimeRange:
        """The seconds of that many such pieces of work."""
        return TimeRange(factor * self.low, factor * self.likely, factor * self.high, self.at_least)


ZERO = TimeRange()


def total(spans: Iterable[TimeRange]) -> TimeRange:
    """The sum."""
    return sum(spans, ZERO)


def exactly(seconds: float) -> TimeRange:
    """Seconds that are known."""
    return TimeRange(seconds, seconds, seconds)


def of_repeats(seconds: Sequence[float]) -> TimeRange:
    """The mean of repeated calls, with two standard errors to both sides."""
    mean = statistics.fmean(seconds)
    half = 2 * statistics.stdev(seconds) / math.sqrt(len(seconds)) if len(seconds) > 1 else 0.0
    return TimeRange(max(0.0, mean - half), mean, mean + half)
