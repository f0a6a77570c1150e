"""Tables of reasonable width: the columns that a reader asks for, or the usual ones and then each group's others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from genbench.errors import GenbenchError
from genbench.options import nearest
from genbench.report.aggregate import Board
from genbench.report.groups import grouped, shown_first

WIDEST = 8  # columns of a table


@dataclass(frozen=True)
class TablePart:
    """Some columns of a board. group: "" for the first part."""

    group: str
    board: Board


def parts(board: Board, columns: Sequence[str] = ()) -> list[TablePart]:
    """One part with the columns asked for; else the usual ones, then the others by group, at most WIDEST in each."""
    if columns:
        return [TablePart("", chosen(board, columns))]
    filled = frozenset(m for row in board.models for m, e in row.entries.items() if e.ok)
    first = shown_first(board.columns, filled) or tuple(c.metric for c in board.columns[:WIDEST])
    found = [TablePart("", chosen(board, first))]
    for group, members in grouped(c for c in board.columns if c.metric not in first).items():
        names = [c.metric for c in members]
        found += [TablePart(group, chosen(board, names[i : i + WIDEST])) for i in range(0, len(names), WIDEST)]
    return found


def chosen(board: Board, columns: Sequence[str]) -> Board:
    """The board with these columns, in this order; those that it has."""
    by_name = {c.metric: c for c in board.columns}
    return replace(board, columns=tuple(by_name[name] for name in columns if name in by_name))


def check_columns(boards: Sequence[Board], columns: Sequence[str]) -> None:
    """Raises GenbenchError for a column that no board has."""
    allowed = list(dict.fromkeys(c.metric for board in boards for c in board.columns))
    for name in columns:
        if name not in allowed:
            raise GenbenchError(
                f"--columns: unknown '{name}'{nearest(name, allowed) or ';'} allowed: {', '.join(allowed)}"
            )
