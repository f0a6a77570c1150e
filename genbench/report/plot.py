"""The plot of quality against cost: points with intervals, the Pareto front, and labels, as numbers for an SVG.

The page's script moves the points when a reader selects other axes. It needs no scales of its own: the plot's data has
the place of every value between 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from genbench.report.aggregate import Board, Column, Row
from genbench.report.axes import Axis, axis
from genbench.report.front import front
from genbench.report.tables import name_of, signed, title, written
from genbench.report.training import TRAINING_TIME

WIDTH, HEIGHT = 600, 400
LEFT, RIGHT, TOP, BOTTOM = 54, 14, 12, 44
MOST_LABELS = 40
LETTER = 7  # mean width of a letter of a label, in the SVG's units
REFERENCE = 104  # width of the words "held-out real" at the line, and a gap
COSTS = ("images_per_second", TRAINING_TIME, "evaluations", "latency", "parameters", "peak_memory")
SHAPES = {
    "gan": "M-5-5H5V5H-5Z",
    "vae": "M0-6.5L6.5 0 0 6.5-6.5 0Z",
    "flow": "M0-6L6 5H-6Z",
    "diffusion": "M-5.5 0A5.5 5.5 0 1 0 5.5 0A5.5 5.5 0 1 0-5.5 0Z",
    "flow matching": "M0 6L6-5H-6Z",
    "autoregressive": "M0-7 1.8-2.4 6.7-2.2 2.9.9 4.1 5.7 0 3-4.1 5.7-2.9.9-6.7-2.2-1.8-2.4Z",
}
OTHER_SHAPE = "M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z"
OFFSETS = (
    (9, 4, "start"), (-9, 4, "end"), (0, -10, "middle"), (0, 18, "middle"),
    (7, -6, "start"), (-7, -6, "end"), (7, 14, "start"), (-7, 14, "end"),
)  # fmt: skip
FAR_OFFSETS = (
    (22, -22, "start"), (-22, -22, "end"), (22, 30, "start"), (-22, 30, "end"), (0, -38, "middle"), (0, 46, "middle"),
    (40, -46, "start"), (-40, -46, "end"), (40, 54, "start"), (-40, 54, "end"),
)  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """One model's point: its place in SVG units, the ends of its intervals, and the place of its label.

    label: x, y and the end of the text that is there, None where the label has no place. leader: whether a line leads
    from the point to the label.
    """

    model: str
    family: str
    shape: str
    x: float
    y: float
    across: tuple[float, float]
    along: tuple[float, float]
    on_front: bool
    said: str
    label: tuple[float, float, str] | None = None
    leader: bool = False


@dataclass(frozen=True)
class Plot:
    """A drawn plot. data: what the script needs. caption: what filled points mean, or why there is no front."""

    x: Axis
    y: Axis
    x_title: str
    y_title: str
    marks: tuple[Mark, ...]
    reference: float | None
    caption: str
    choices: tuple[tuple[str, str], ...] = ()
    data: dict[str, Any] = field(default_factory=dict)


def family_class(family: str) -> str:
    """The CSS class of a family's colour."""
    return f"f-{family.replace(' ', '-')}" if family in SHAPES else "f-other"


def family_shape(family: str) -> str:
    """The path of a family's symbol, around 0."""
    return SHAPES.get(family, OTHER_SHAPE)


def plots(board: Board) -> dict[str, tuple[Column, Axis]]:
    """The metrics that can be an axis: those with values of at least two models, in the table's order."""
    found = {}
    for column in board.columns:
        scale = axis(board, column)
        if scale is not None and sum(_has(r, column.metric) for r in board.models) >= 2:
            found[column.metric] = (column, scale)
    return found


def default_axes(found: Sequence[str]) -> tuple[str, str] | None:
    """The metrics (x, y) of the first plot: a cost and the first metric that is none; None where there is no pair."""
    x = next((m for m in COSTS if m in found), None)
    y = next((m for m in found if m not in COSTS), None)
    return None if x is None or y is None else (x, y)


def quality_cost(board: Board, held_out: Row | None) -> Plot | None:
    """The plot with its first axes, and the data for all others; None where no two models have both numbers."""
    found = plots(board)
    chosen = default_axes(list(found))
    if chosen is None or sum(all(_has(r, m) for m in chosen) for r in board.models) < 2:
        return None
    (x_column, x), (y_column, y) = (found[m] for m in chosen)
    rows = [r for r in board.models if all(_has(r, m) for m in chosen)]
    best, caption = _front(rows, x_column, y_column)
    entry = held_out.entries.get(y.metric) if held_out else None
    reference = _down(y.place(entry.number)) if entry is not None and entry.ok else None
    marks = labelled([_mark(row, x, y, row.model in best) for row in rows], reference)
    choices = tuple((m, title(c)) for m, (c, _) in found.items())
    return Plot(
        x, y, title(x_column), title(y_column), marks, reference, caption, choices, _data(board, found, held_out)
    )


def _front(rows: Sequence[Row], x: Column, y: Column) -> tuple[set[str], str]:
    for column in (x, y):
        if not column.ranks:
            return set(), f"No front is drawn, because {name_of(column.metric)} is not ranked here."
    one, other = ({r.model: r.entries[c.metric] for r in rows if r.model in c.ranks} for c in (x, y))
    return front(one, other, (x.better, y.better)), ""


def _has(row: Row, metric: str) -> bool:
    return metric in row.entries and row.entries[metric].ok


def _right(place: float) -> float:
    return round(LEFT + place * (WIDTH - LEFT - RIGHT), 1)


def _down(place: float) -> float:
    return round(TOP + (1 - place) * (HEIGHT - TOP - BOTTOM), 1)


def _mark(row: Row, x: Axis, y: Axis, on_front: bool) -> Mark:
    one, other = row.entries[x.metric], row.entries[y.metric]
    across = _right(x.place(one.low)), _right(x.place(one.high))
    along = _down(y.place(other.low)), _down(y.place(other.high))
    said = f"{row.model}: {_said(row, y.metric)}, {_said(row, x.metric)}"
    shape = family_shape(row.family)
    place = _right(x.place(one.number)), _down(y.place(other.number))
    return Mark(row.model, row.family, shape, *place, across, along, on_front, said)


def _said(row: Row, metric: str) -> str:
    entry = row.entries[metric]
    text = written(entry)
    busy = "busy" if entry.busy else ""
    return " ".join(filter(None, (name_of(metric), signed(entry.kind, text.value), text.spread, busy)))


def labelled(marks: list[Mark], reference: float | None) -> tuple[Mark, ...]:
    """The marks with a label at the first place without overlap: near the point or, where none is free, farther away.

    Those on the front come first.
    """
    taken = [(m.x - 7, m.y - 7, m.x + 7, m.y + 7) for m in marks]
    if reference is not None:
        taken.append((WIDTH - RIGHT - REFERENCE, reference - 16, WIDTH - RIGHT, reference))
    order = sorted(marks, key=lambda m: not m.on_front)[:MOST_LABELS]
    placed: dict[str, Mark] = {}
    for offsets in (OFFSETS, FAR_OFFSETS):
        for mark in (m for m in order if m.model not in placed):
            found = next((o for o in offsets if _free(_box(mark, *o), taken)), None)
            if found is not None:
                right, down, anchor = found
                label = mark.x + right, mark.y + down, anchor
                placed[mark.model] = replace(mark, label=label, leader=offsets is FAR_OFFSETS)
                taken.append(_box(mark, *found))
    return tuple(placed.get(m.model, m) for m in marks)


def _free(box: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]]) -> bool:
    inside = box[0] > LEFT and box[2] < WIDTH and box[1] > 0 and box[3] < HEIGHT - BOTTOM
    return inside and not any(_overlap(box, other) for other in taken)


def _box(mark: Mark, right: float, down: float, anchor: str) -> tuple[float, float, float, float]:
    width = LETTER * len(mark.model)
    left = mark.x + right - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    return left, mark.y + down - 10, left + width, mark.y + down + 3


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _data(board: Board, found: dict[str, tuple[Column, Axis]], held_out: Row | None) -> dict[str, Any]:
    """Every metric's scale and every model's places on it, and what the script needs to judge the front."""
    metrics = {}
    for metric, (column, scale) in found.items():
        real = held_out.entries.get(metric) if held_out else None
        metrics[metric] = {
            "title": title(column), "name": name_of(metric), "better": column.better, "ticks": scale.ticks,
            "ranked": sorted(column.ranks), "real": scale.place(real.number) if real is not None and real.ok else None,
        }  # fmt: skip
    models = {
        row.model: {metric: _places(row, metric, scale) for metric, (_, scale) in found.items() if _has(row, metric)}
        for row in board.models
    }
    area = [LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM]
    return {"metrics": metrics, "models": models, "area": area, "offsets": [OFFSETS, FAR_OFFSETS]}


def _places(row: Row, metric: str, scale: Axis) -> list[Any]:
    e = row.entries[metric]
    places = [scale.place(value) for value in (e.number, e.low, e.high)]
    return [*places, e.number, e.low, e.high, e.kind, _said(row, metric)]
