"""The scale of one metric on the page: where its values lie between 0 and 1, for the plot and for bars in cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from genbench.report.aggregate import Board, Column, Entry

LOG_RATIO = 20.0  # from which a scale of positive values is logarithmic
MARGIN = 0.06
MOST_TICKS = 6


@dataclass(frozen=True)
class Axis:
    """first, last: the ends of the scale, of log10 of the values where it is logarithmic. ticks: (place, label)."""

    metric: str
    first: float
    last: float
    logarithmic: bool
    ticks: tuple[tuple[float, str], ...]

    def place(self, value: float) -> float:
        """Where a value lies, 0 at the start and 1 at the end of the scale, to four places; values beyond are cut."""
        at = _transformed(value, self.logarithmic) if value > 0 or not self.logarithmic else self.first
        return round(min(1.0, max(0.0, (at - self.first) / (self.last - self.first))), 4)


@dataclass(frozen=True)
class Span:
    """A value with the ends of its interval."""

    value: float
    low: float
    high: float


def span(entry: Entry) -> Span:
    """What an entry with a value says."""
    return Span(entry.number, entry.low, entry.high)


def axis(board: Board, column: Column) -> Axis | None:
    """The scale of a metric's models, or without any of the scale rows; None without a value."""
    having = [row for row in board.rows if column.metric in row.entries and row.entries[column.metric].ok]
    rows = [row for row in having if row.is_model] or having
    return scale(column.metric, [span(row.entries[column.metric]) for row in rows]) if rows else None


def scale(metric: str, spans: Sequence[Span]) -> Axis:
    """The scale on which these spans, at least one, can be shown."""
    values = [r.value for r in spans]
    logarithmic = min(values) > 0 and max(values) / min(values) >= LOG_RATIO
    ends = _with_intervals(spans, logarithmic)
    first, last = min(ends), max(ends)
    if first == last:
        first, last = first - (abs(first) / 2 or 0.5), last + (abs(last) / 2 or 0.5)
    pad = MARGIN * (last - first)
    return Axis(metric, first - pad, last + pad, logarithmic, _ticks(first - pad, last + pad, logarithmic))


def _with_intervals(spans: Sequence[Span], logarithmic: bool) -> list[float]:
    """The transformed values, and the ends of their intervals as far as those do not take most of the scale."""
    inner = [_transformed(r.value, logarithmic) for r in spans]
    room = 0.5 * (max(inner) - min(inner)) or math.inf
    low, high = min(inner) - room, max(inner) + room
    ends = [end for r in spans for end in (r.low, r.high) if end > 0 or not logarithmic]
    reached = [_transformed(end, logarithmic) for end in ends]
    return [*inner, *(min(high, max(low, end)) for end in reached)]


def _transformed(value: float, logarithmic: bool) -> float:
    return math.log10(value) if logarithmic else value


def _ticks(first: float, last: float, logarithmic: bool) -> tuple[tuple[float, str], ...]:
    marks = _decades(first, last) if logarithmic else _steps(first, last)
    span = last - first
    return tuple(
        (round((_transformed(mark, logarithmic) - first) / span, 4), tick_label(mark))
        for mark in marks[: 2 * MOST_TICKS]
    )


def _decades(first: float, last: float) -> list[float]:
    """Powers of ten in the range, with their multiples by 2 and 5 where there are few; every n-th where many."""
    powers = range(math.floor(first), math.ceil(last) + 1)
    fine = [m * 10.0**p for p in powers for m in (1, 2, 5) if first <= math.log10(m) + p <= last]
    if len(fine) <= MOST_TICKS:
        return fine
    whole = [10.0**p for p in powers if first <= p <= last]
    every = -(-len(whole) // MOST_TICKS)
    return whole[::every] if len(whole) > 1 else fine[::2]


def _steps(first: float, last: float) -> list[float]:
    rough = (last - first) / (MOST_TICKS - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    return [n * step for n in range(math.ceil(first / step), math.floor(last / step) + 1)]


def tick_label(value: float) -> str:
    """A round number as text: 0.05, 3, 2,000, 50k, 5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            unit = 1e3 if letter == "k" else size
            return f"{value / unit:g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.6g}"
