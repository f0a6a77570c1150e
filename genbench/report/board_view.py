"""The table of one dataset as the page shows it: cells with interval bars, groups of columns, and tables for paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genbench.records import FAILED, slug
from genbench.report import tables
from genbench.report.aggregate import Board, Column, Entry, Row
from genbench.report.axes import Axis, axis
from genbench.report.finding import HELD_OUT, given
from genbench.report.groups import grouped, shown_first
from genbench.report.kinds import sign

PAPER_COLUMNS = 7
SCALE_LINES = {
    HELD_OUT: "images that no model has seen: what a perfect model would score",
    "memorised train": "train images drawn again: what copying scores",
    "blurred real": "held-out images without detail",
    "uniform noise": "every pixel at random: no knowledge of the data",
    "gaussian": "one Gaussian fitted to the train pixels",
}


@dataclass(frozen=True)
class TableCell:
    """One cell of the table: its text, and the number that it is sorted by (None is last).

    bar: left end, value and right end of the interval on the column's scale, 0 to 100. mark: "busy" or "incomplete".
    """

    text: str
    spread: str = ""
    sign: str = ""
    rank: int | None = None
    order: float | None = None
    hint: str = ""
    best: bool = False
    mark: str = ""
    failed: bool = False
    bar: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class TableRow:
    """anchor: of the row's card, "" without one. note: under the name. thumbnail: a data: address or ""."""

    name: str
    anchor: str
    family: str
    note: str
    thumbnail: str
    cells: tuple[TableCell, ...]


def anchor(kind: str, number: int, name: str) -> str:
    """The id of a row's or metric's section on the page."""
    return f"{kind}-{number}-{slug(name)}"


def table_view(board: Board, number: int, thumbnails: Mapping[str, str]) -> dict[str, Any]:
    """The table's heads, groups and rows: held-out images, models by the main metric, other scale rows."""
    scales = {c.metric: axis(board, c) for c in board.columns}
    filled = frozenset(m for row in board.models for m, e in row.entries.items() if e.ok)
    first = shown_first(board.columns, filled)
    views = {row.model: _row(board, row, number, thumbnails, scales) for row in board.rows}
    heads = [_head(column, number, board.main, len(board.models) > 1) for column in board.columns]
    return {
        "heads": heads,
        "groups": [(group, _names(members)) for group, members in grouped(board.columns).items()],
        "first": " ".join(first),
        "pinned": [views[r.model] for r in board.scale if r.model == HELD_OUT],
        "models": [views[r.model] for r in board.models],
        "scale": [views[r.model] for r in board.scale if r.model != HELD_OUT],
        "families": list(dict.fromkeys(r.family for r in board.models if r.family)),
        "paper": _paper(board, [views[r.model] for r in (*board.scale[:1], *board.models, *board.scale[1:])]),
    }  # fmt: skip


def _names(columns: Sequence[Column]) -> list[tuple[str, str]]:
    return [(c.metric, tables.name_of(c.metric)) for c in columns]


def _head(column: Column, number: int, main: Column | None, several: bool) -> dict[str, Any]:
    """several: whether there are models to rank."""
    up = "ascending" if column.better == "lower" else "descending"
    return {
        "metric": column.metric,
        "name": tables.name_of(column.metric),
        "better": column.better,
        "arrow": tables.ARROWS[column.better],
        "sorted": up if column is main else "none",
        "unranked": several and not column.ranks,
        "sortable": not column.unranked,
        "help": anchor("metric", number, column.metric),
    }


def _row(
    board: Board, row: Row, number: int, thumbnails: Mapping[str, str], scales: Mapping[str, Axis | None]
) -> TableRow:
    cells = tuple(table_cell(column, row, scales[column.metric]) for column in board.columns)
    has = given(row)
    note = f"given {has}" if has else "" if row.is_model else SCALE_LINES.get(row.model, "")
    family = row.family if row.is_model else ""
    return TableRow(row.model, anchor("model", number, row.model), family, note, thumbnails.get(row.model, ""), cells)


def table_cell(column: Column, row: Row, scale: Axis | None) -> TableCell:
    """The cell of a row in a column."""
    entry = row.entries.get(column.metric)
    if entry is None:
        return TableCell("—", hint="not measured")
    if not entry.ok:
        return TableCell(entry.status, hint=entry.reason, failed=entry.status == FAILED)
    text = tables.written(entry)
    value, spread = (t.replace("-", "\N{MINUS SIGN}") for t in (text.value, text.spread))
    mark = tables.BUSY if entry.busy else tables.INCOMPLETE if entry.missing else ""
    return TableCell(
        value, spread, sign(entry.kind).text, column.ranks.get(row.model), entry.value, entry.busy or entry.missing,
        row.model in column.best, mark, bar=_bar(entry, scale),
    )  # fmt: skip


def _bar(entry: Entry, scale: Axis | None) -> tuple[int, int, int] | None:
    if scale is None or entry.lo is None:
        return None
    low, at, high = (round(100 * scale.place(v)) for v in (entry.low, entry.number, entry.high))
    return (low, at, high) if high - low >= 1 else None


def _paper(board: Board, rows: Sequence[TableRow]) -> list[dict[str, Any]]:
    """The whole table in parts that fit a page: a group each, at most PAPER_COLUMNS columns."""
    places = {column.metric: place for place, column in enumerate(board.columns)}
    parts = []
    for group, members in grouped(board.columns).items():
        for start in range(0, len(members), PAPER_COLUMNS):
            some = members[start : start + PAPER_COLUMNS]
            heads = [f"{tables.title(c)} {tables.ARROWS[c.better]}" for c in some]
            lines = [(r.name, [r.cells[places[c.metric]] for c in some]) for r in rows]
            parts.append({"group": group, "heads": heads, "rows": lines})
    return parts
