"""Quality against the cost of drawing for rows that share one training: a curve for each training, as numbers for SVG.

Rows of a suite share a training where one names another as `weights_of`, and differ in the options of drawing, such as
the number of steps. The costs are evaluations of the network and seconds of an image, one over the images per second.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genbench.report.aggregate import Board, Entry, Row
from genbench.report.axes import Axis, Span, scale, span
from genbench.report.folders import Folder, home_of
from genbench.report.plot import COSTS
from genbench.report.tables import name_of, signed, title, written

WIDTH, HEIGHT = 360, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 38
LEAST_EFFORTS = 3  # different numbers of evaluations for a curve
MOST_CURVES = 8
MOST_METRICS = 2
PREFERRED = "recall"  # the second metric, which shows what the first one hides
SHAPES = (
    "M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z", "M-3.6-3.6H3.6V3.6H-3.6Z", "M0-5L5 0 0 5-5 0Z", "M0-4.8L4.6 3.8H-4.6Z",
    "M0 4.8L4.6-3.8H-4.6Z", "M-1.6-4.8H1.6V-1.6H4.8V1.6H1.6V4.8H-1.6V1.6H-4.8V-1.6H-1.6Z",
    "M-4.8 0L-2.4-4.2H2.4L4.8 0 2.4 4.2H-2.4Z", "M-4-4.5H4L-4 4.5H4Z",
)  # fmt: skip


@dataclass(frozen=True)
class Spot:
    """A row's point in SVG units, the ends of its interval, and what it says."""

    x: float
    y: float
    along: tuple[float, float]
    words: str


@dataclass(frozen=True)
class EffortCurve:
    """The rows of one training in the order of their cost. number: of its colour and symbol."""

    name: str
    number: int
    spots: tuple[Spot, ...]

    @property
    def path(self) -> str:
        """The line through the points."""
        return "M" + "L".join(f"{spot.x} {spot.y}" for spot in self.spots)


@dataclass(frozen=True)
class EffortPanel:
    """One quality against one cost."""

    x: Axis
    y: Axis
    x_title: str
    y_title: str
    curves: tuple[EffortCurve, ...]


@dataclass(frozen=True)
class Effort:
    """The panels, and the names of the curves by number; both empty where no training has enough rows."""

    panels: tuple[EffortPanel, ...] = ()
    names: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.panels)


def effort(board: Board, folders: Sequence[Folder]) -> Effort:
    """The curves of one dataset's trainings."""
    trainings = _trainings(board, folders)
    panels = [
        _panel(trainings, metric, cost, board)
        for metric in _qualities(board, trainings)
        for cost in (EVALUATIONS, SECONDS)
    ]
    drawn = tuple(panel for panel in panels if panel is not None)
    return Effort(drawn, tuple(trainings)) if drawn else Effort()


Trainings = Mapping[str, Sequence[Row]]  # the rows of each by its name


def _trainings(board: Board, folders: Sequence[Folder]) -> Trainings:
    """The rows of one folder with weights of the same row, where they differ enough in evaluations."""
    rows: dict[tuple[int, str], list[Row]] = {}
    for row in board.models:
        home = home_of(folders, row.model, row.dataset)
        if home is not None:
            rows.setdefault((folders.index(home[0]), home[0].trained_as(home[1])), []).append(row)
    sweeps = [(key, group) for key, group in rows.items() if _efforts(group) >= LEAST_EFFORTS][:MOST_CURVES]
    names = [_name(folders[number].entries.get(owner, {}), group) for (number, owner), group in sweeps]
    unique = [n if n and names.count(n) == 1 else group[0].model for n, (_, group) in zip(names, sweeps, strict=True)]
    return {name: group for name, (_, group) in zip(unique, sweeps, strict=True)}


def _efforts(rows: Sequence[Row]) -> int:
    """How many different numbers of evaluations the rows have."""
    return len({row.entries[EVALUATIONS.metric].number for row in rows if _ok(row, EVALUATIONS.metric)})


def _name(entry: Mapping[str, Any], rows: Sequence[Row]) -> str:
    """What the labels begin with, without a last number and the option of the sampler that it is of."""
    name = re.sub(r"[\W_]+\d*$", "", _beginning([row.model for row in rows]))
    for option in entry.get("sampler") or {}:
        name = name.removesuffix(f"-{option}")
    return name


def _beginning(labels: Sequence[str]) -> str:
    """What all labels begin with."""
    first, last = min(labels), max(labels)
    return first[: next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]


def _qualities(board: Board, trainings: Trainings) -> list[str]:
    """The first metric that is no cost and the preferred one, of those that all rows have."""
    rows = [row for group in trainings.values() for row in group]
    having = [c.metric for c in board.columns if c.metric not in COSTS and all(_ok(r, c.metric) for r in rows)]
    ordered = having[:1] + [m for m in having[1:] if m == PREFERRED] + [m for m in having[1:] if m != PREFERRED]
    return ordered[:MOST_METRICS]


def _ok(row: Row, metric: str) -> bool:
    return metric in row.entries and row.entries[metric].ok


@dataclass(frozen=True)
class DrawingCost:
    """A cost of drawing: the metric that it is read from, and how."""

    metric: str
    title: str
    read: Callable[[Entry], Span]


def _seconds(entry: Entry) -> Span:
    return Span(1 / entry.number, 1 / entry.high, 1 / entry.low if entry.low > 0 else math.inf)


EVALUATIONS = DrawingCost("evaluations", "evaluations of the network", span)
SECONDS = DrawingCost("images_per_second", "seconds per image", _seconds)


def _panel(trainings: Trainings, metric: str, cost: DrawingCost, board: Board) -> EffortPanel | None:
    timed = {name: [row for row in group if _ok(row, cost.metric)] for name, group in trainings.items()}
    if not any(len(group) >= LEAST_EFFORTS for group in timed.values()):
        return None
    whole = [row for group in timed.values() for row in group]
    x = scale(cost.metric, [cost.read(row.entries[cost.metric]) for row in whole])
    y = scale(metric, [span(row.entries[metric]) for row in whole])
    curves = tuple(
        EffortCurve(name, number, _spots(group, cost, x, y))
        for number, (name, group) in enumerate(timed.items())
        if group
    )
    column = next(c for c in board.columns if c.metric == metric)
    return EffortPanel(x, y, cost.title, title(column), curves)


def _spots(rows: Sequence[Row], cost: DrawingCost, x: Axis, y: Axis) -> tuple[Spot, ...]:
    ordered = sorted(rows, key=lambda row: cost.read(row.entries[cost.metric]).value)
    return tuple(_spot(row, cost, x, y) for row in ordered)


def _spot(row: Row, cost: DrawingCost, x: Axis, y: Axis) -> Spot:
    entry, spent = row.entries[y.metric], cost.read(row.entries[cost.metric]).value
    text = written(entry)
    value = " ".join(filter(None, (name_of(y.metric), signed(entry.kind, text.value), text.spread)))
    ends = _down(y.place(entry.low)), _down(y.place(entry.high))
    words = f"{row.model}: {value}, {spent:.3g} {cost.title}"
    return Spot(_right(x.place(spent)), _down(y.place(entry.number)), ends, words)


def _right(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _down(share: float) -> float:
    return round(TOP + (1 - share) * (HEIGHT - TOP - BOTTOM), 1)
