"""The first screen: one sentence with the finding, and the best model of each family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genbench.report.aggregate import Board, Column, Entry, Row
from genbench.report.guard import listed
from genbench.report.tables import name_of, signed, title, written
from genbench.report.training import TRAINING_TIME
from genbench.text import duration

HELD_OUT = "held-out real"
WORDS = {"lower": "lowest", "higher": "highest"}
STRIP = ("recall", "bits_per_dim", "images_per_second", TRAINING_TIME)
MOST_NAMES = 4
GIVEN = {"class": "the class", "caption": "a caption", "image": "an image"}


@dataclass(frozen=True)
class Champion:
    """The best model of a family. tied: others of the family with the same rank. cells: (name, value)."""

    family: str
    row: Row
    tied: tuple[str, ...]
    cells: tuple[tuple[str, str], ...]


def held_out_row(board: Board) -> Row | None:
    """The row of held-out real images."""
    return next((row for row in board.scale if row.model == HELD_OUT), None)


def ranked_rows(board: Board, column: Column) -> list[Row]:
    """The ranked models, the best value first."""
    return [row for row in board.models if row.model in column.ranks]


def given(row: Row) -> str:
    """What the model is given for each image that it draws: "the class", "a caption", "an image", or ""."""
    return GIVEN.get(row.given, row.given)


def value_text(entry: Entry) -> str:
    """A value with its sign and interval, "≤ 2.42 ± 0.02"."""
    text = written(entry)
    return " ".join(filter(None, (signed(entry.kind, text.value), text.spread)))


def finding(board: Board) -> str:
    """The sentences that state who is best, in what, by how much, and for how many seeds that holds."""
    return " ".join(filter(None, (_who(board), _real(board), _seeds(board))))


def _who(board: Board) -> str:
    column = board.main
    if column is not None:
        return _winners(board, column)
    good = [row for row in board.models if any(e.ok for e in row.entries.values())]
    if not board.models:
        return "There are no models, only scale rows."
    if not good:
        return "No model has a value." if len(board.models) > 1 else f"{board.models[0].model} has no value."
    if len(good) > 1:
        return f"The {len(good)} models are not ranked in any metric; the metrics below state why."
    return _alone(board, good[0])


def _alone(board: Board, row: Row) -> str:
    first = next(c for c in board.columns if _has(row, c))
    return f"{row.model} is the only model with values: {title(first)} {value_text(row.entries[first.metric])}."


def _winners(board: Board, column: Column) -> str:
    order = ranked_rows(board, column)
    first = [row for row in order if column.ranks[row.model] == 1]
    best = f"{WORDS[column.better]} {title(column)}"
    if len(first) == 1:
        text = f"{first[0].model} has the {best}, {value_text(first[0].entries[column.metric])}."
    else:
        text = f"{_names(first)} share the {best}, from {value_text(first[0].entries[column.metric])} on: "
        text += "their intervals do not separate them."
    return f"{text}{_next(order, first, column)}"


def _next(order: Sequence[Row], first: Sequence[Row], column: Column) -> str:
    """The next model; the next that is given nothing where all of the first are given something."""
    rest = [row for row in order if row not in first]
    if not rest:
        return ""
    kinds = {given(row) for row in first}
    free = [row for row in rest if not given(row)]
    if "" in kinds or not free:
        return f" Next is {rest[0].model} with {value_text(rest[0].entries[column.metric])}."
    subject = "It is" if len(first) == 1 else "They are"
    best = f"{free[0].model} has the best value, {value_text(free[0].entries[column.metric])}"
    return f" {subject} given {listed(sorted(kinds))}; of the models that draw without one, {best}."


def _names(rows: Sequence[Row]) -> str:
    names = [row.model for row in rows]
    return (
        listed(names)
        if len(names) <= MOST_NAMES
        else f"{', '.join(names[:MOST_NAMES])} and {len(names) - MOST_NAMES} more"
    )


def _real(board: Board) -> str:
    column, row = board.main, held_out_row(board)
    entry = row.entries.get(column.metric) if column and row else None
    return f"Held-out real images have {value_text(entry)}." if entry is not None and entry.ok else ""


def _seeds(board: Board) -> str:
    counts = {len(row.seeds) for row in board.models}
    if not counts:
        return ""
    if max(counts) == 1:
        return "1 seed: intervals do not include retraining."
    if min(counts) == max(counts):
        return f"{max(counts)} seeds: means, with intervals over the seeds."
    return f"{min(counts)} to {max(counts)} seeds; intervals of rows with 1 seed do not include retraining."


def champions(board: Board) -> list[Champion]:
    """The model of each family with the best value, the best family first, or the only model; [] for unranked ones."""
    column, rows = board.main, list(board.models)
    if column is None and len(rows) == 1:
        column = next((c for c in board.columns if _has(rows[0], c)), None)
    if column is None:
        return []
    shown = [column, *(c for c in board.columns if c.metric in STRIP and c is not column)]
    families: dict[str, list[Row]] = {}
    for row in ranked_rows(board, column) or rows:
        families.setdefault(row.family or "other", []).append(row)
    return [_champion(family, rows, column, shown) for family, rows in families.items()]


def _has(row: Row, column: Column) -> bool:
    return column.metric in row.entries and row.entries[column.metric].ok


def _champion(family: str, rows: Sequence[Row], column: Column, shown: Sequence[Column]) -> Champion:
    best = rows[0]
    tied = tuple(r.model for r in rows[1:] if column.ranks[r.model] == column.ranks[best.model])
    return Champion(family, best, tied, tuple((name_of(c.metric), _short(best.entries.get(c.metric))) for c in shown))


def _short(entry: Entry | None) -> str:
    if entry is None:
        return "—"
    if not entry.ok:
        return entry.status
    if entry.record.metric == TRAINING_TIME:
        return duration(entry.number)
    busy = " busy" if entry.busy else ""
    return f"{signed(entry.kind, written(entry).value)}{busy}"


def strip_heads(found: Sequence[Champion]) -> list[str]:
    """The heads of the strip's columns."""
    return [name for name, _ in found[0].cells] if found else []
