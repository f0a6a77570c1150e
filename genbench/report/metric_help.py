"""What a reader may ask about one metric: meaning, direction, limits, values here, intervals, and who has no value."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from genbench.errors import GenbenchError
from genbench.protocol import compared, leaves
from genbench.records import FAILED, NOT_APPLICABLE, OK, Record, metric_name
from genbench.registry import METRICS
from genbench.report import tables
from genbench.report.aggregate import Board, Column
from genbench.report.board_view import anchor
from genbench.report.finding import value_text as entry_text
from genbench.report.guard import listed, short
from genbench.report.kinds import legend
from genbench.report.training import TRAINING_TIME

TRAINING_LINE = "seconds from the first to the last step of training, without reading the data and building the model"
DERIVED = {
    TRAINING_TIME: (TRAINING_LINE, "Does not detect how good the images are, and does not apply to another machine.")
}
MOST_NAMES = 6


@dataclass(frozen=True)
class MetricHelp:
    """The section of one metric. lines: (word, text). protocol: (field, value), with its rows where they differ."""

    anchor: str
    title: str
    group: str
    direction: str
    about: str
    limits: str
    lines: tuple[tuple[str, str], ...]
    protocol: tuple[tuple[str, str], ...]


def metric_help(board: Board, column: Column, number: int, group: str) -> MetricHelp:
    """The help of a column."""
    about, limits = _declared(column.metric)
    return MetricHelp(
        anchor("metric", number, column.metric), tables.title(column), group,
        f"{column.better} is better", about, limits, tuple(_lines(board, column)), tuple(_protocol(board, column)),
    )  # fmt: skip


def _declared(metric: str) -> tuple[str, str]:
    """One line about a metric, and what it cannot detect; "" for a metric that is not installed here."""
    if metric in DERIVED:
        return DERIVED[metric]
    try:
        name = metric_name(metric)
        declared = METRICS[name]
        return METRICS.about(name), declared.cannot_detect
    except GenbenchError:
        return "", ""


def _lines(board: Board, column: Column) -> Iterator[tuple[str, str]]:
    entries = {r.model: e for r in board.rows if (e := r.entries.get(column.metric)) is not None}
    scale = [f"{r.model} {entry_text(e)}" for r in board.scale if (e := entries.get(r.model)) is not None and e.ok]
    if scale:
        yield "Scale here", "; ".join(scale)
    intervals = tables.merged({e.interval for e in entries.values()} - {""})
    if intervals:
        yield "Interval", "; ".join(intervals).replace("+-", "±")
    kinds = {e.kind for e in entries.values() if e.ok} - {""}
    if kinds:
        yield "Signs", legend(kinds)
    if column.metric == "kid" and any(e.ok and e.number < 0 for e in entries.values()):
        yield "Below 0", "an unbiased estimate can fall below 0 by chance when two sets are similar; read it as 0"
    yield from (
        ("Not ranked" if text is column.unranked else "Note", text) for text in (column.unranked, *column.notes) if text
    )
    for status, word in ((NOT_APPLICABLE, "Not available"), (FAILED, "Failed")):
        yield from ((word, text) for text in _without(board, column, status))


def _without(board: Board, column: Column, status: str) -> Iterator[str]:
    """Who has no value and why, one sentence for each reason. Reasons that differ in a row's own name count as one."""
    reasons: dict[str, list[str]] = {}
    for row in board.rows:
        entry = row.entries.get(column.metric)
        if entry is not None and entry.status == status:
            reasons.setdefault(without_row(entry.reason, row.model), []).append(row.model)
    for reason, rows in reasons.items():
        yield f"{_some(rows, len(board.rows))}: {reason}"


def without_row(reason: str, label: str) -> str:
    """A reason without its list of what the row does have, "needs A or B; gan has: C", which differs between rows."""
    return reason.partition("; ")[0] if reason.startswith("needs ") else reason.replace(f"{label} ", "it ", 1)


def _some(rows: Sequence[str], total: int) -> str:
    if len(rows) == total > 1:
        return "all rows"
    return (
        listed(list(rows))
        if len(rows) <= MOST_NAMES
        else f"{', '.join(rows[:MOST_NAMES])} and {len(rows) - MOST_NAMES} more"
    )


def _protocol(board: Board, column: Column) -> Iterator[tuple[str, str]]:
    """Every field of the metric's protocol; where rows differ, each value with the rows that have it."""
    entries = [(r.model, r.entries[column.metric]) for r in board.rows if column.metric in r.entries]
    records = [(model, e.record) for model, e in entries if e.record.status == OK]
    yield from ((name, value) for name, value in (("unit", column.unit), ("better", column.better)) if value)
    fields = [(model, _stated(record)) for model, record in records]
    for name in dict.fromkeys(key for _, stated in fields for key in stated):
        holders: dict[str, list[str]] = {}
        for model, stated in fields:
            holders.setdefault(plain(stated[name]) if name in stated else "not stated", []).append(model)
        yield name, "; ".join(_held(value, who, len(holders)) for value, who in holders.items())


def _stated(record: Record) -> dict[str, Any]:
    shared = dict(leaves(compared(record.protocol)))
    counts = {"n_fake": record.n_fake, "n_real": record.n_real}
    versions = {"metric version": record.metric_version, "protocol hash": record.protocol_hash}
    stated = counts | shared | versions | {"measured on": record.device}
    return {k: v for k, v in stated.items() if v not in (None, "")}


def _held(value: str, who: Sequence[str], groups: int) -> str:
    return value if groups == 1 else f"{short(value)} ({listed(who)})"


def plain(value: Any) -> str:
    """A value of a protocol as text without brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items())
    return listed([str(v) for v in value]) if isinstance(value, list) and value else str(value)
