"""What all tables share: numbers as text, titles of columns, notes for the reader, and reasons of missing values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from genbench.records import NOT_APPLICABLE
from genbench.registry import METRICS
from genbench.report.aggregate import MADE_WITH, Board, Column, Entry, Row
from genbench.report.claims import Verdict
from genbench.report.guard import listed
from genbench.report.kinds import legend, sign

UNITS_SHOWN = {"ms", "s", "MiB", "GiB", "J"}
INCOMPLETE, BUSY = "incomplete", "busy"
CLAIM_HEADS = ("model", "metric", "published", "measured", "verdict", "source")
ARROWS = {"lower": "↓", "higher": "↑"}


@dataclass(frozen=True)
class Written:
    """A number as text: its value, and its interval as "± 1.2" or "1.1 to 2.5" ("" where there is none)."""

    value: str
    spread: str


def written(entry: Entry) -> Written:
    """The value to the second significant digit of its interval's half width, or to four where there is none.

    An asymmetric interval is written as its two ends, to at most four decimal places.
    """
    value = entry.number
    half = (entry.high - entry.low) / 2
    if half == 0:
        return Written(_fixed(value, _decimals(value, 4)), "")
    decimals = _decimals(half, 2)
    if abs((entry.high - value) - (value - entry.low)) <= 0.2 * half:
        return Written(_fixed(value, decimals), f"± {_fixed(half, decimals)}")
    digits = min(4, decimals)
    return Written(_fixed(value, digits), f"{_fixed(entry.low, digits)} to {_fixed(entry.high, digits)}")


def signed(kind: str, value: str) -> str:
    """A value as text after the sign of its kind of likelihood, "≤ 3.75"; without a sign for other metrics."""
    return f"{sign(kind).text} {value}".lstrip()


def _decimals(number: float, digits: int) -> int:
    """Decimal places that show `digits` significant digits of a number, 0 to 6."""
    if number == 0 or (float(number).is_integer() and digits == 4):
        return 0
    exponent = int(f"{number:.{digits - 1}e}".partition("e")[2])
    return min(6, max(0, digits - 1 - exponent))


def _fixed(number: float, decimals: int) -> str:
    text = f"{number:,.{decimals}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def name_of(metric: str) -> str:
    """The metric's name for a reader."""
    name, _, extractor = metric.partition("@")
    title = METRICS[name].title if name in METRICS else name.replace("_", " ").capitalize()
    return f"{title} ({extractor})" if extractor else title


def title(column: Column) -> str:
    """The metric's name; a FID with its extractor, a cost with its unit."""
    name = name_of(column.metric)
    beside = column.extractor if column.metric == "fid" else column.unit if column.unit in UNITS_SHOWN else ""
    return f"{name} ({beside})" if beside else name


def general_notes(board: Board) -> Iterator[str]:
    """What a reader must know of the table as a whole, one sentence each."""
    yield (
        "Rank 1 is bold unless every ranked model has it. A rank, in brackets, is one more than the number of models "
        "that are better by more than the 95 % interval of the difference, with the two values taken as independent; "
        "scale rows are not ranked."
    )
    yield from _extractor_notes(board)
    yield from _made_with_notes(board)


def notes(board: Board) -> Iterator[str]:
    """The general notes, then what a reader must know of single metrics."""
    yield from general_notes(board)
    yield from _protocol_notes(board)
    for column in board.columns:
        name = name_of(column.metric)
        entries = [e for r in board.rows if (e := r.entries.get(column.metric)) is not None and e.ok]
        kinds = {e.kind for e in entries} - {""}
        if kinds:
            yield f"{name}: {legend(kinds)}"
        if column.metric == "kid" and any(e.number < 0 for e in entries):
            yield "KID: an unbiased estimate can fall below 0 by chance when two sets are similar; read it as 0."
    yield from _interval_notes(board)


def _protocol_notes(board: Board) -> Iterator[str]:
    """What is not ranked or was measured differently; each sentence once, with all metrics that it holds for."""
    metrics: dict[str, list[str]] = {}
    for column in board.columns:
        for text in filter(None, (column.unranked, *column.notes)):
            metrics.setdefault(text, []).append(name_of(column.metric))
    yield from (f"{listed(names)}: {text}" for text, names in metrics.items())


def _made_with_notes(board: Board) -> Iterator[str]:
    """Which rows were made on other devices or with other versions of torch, which both change the numbers."""
    for name, done in MADE_WITH.items():
        rows: dict[str, list[str]] = {}
        for row in board.rows:
            made = row.made_with.get(name, {})
            for text, seeds in made.items():
                which = f" (seed {', '.join(map(str, seeds))})" if len(made) > 1 else ""
                rows.setdefault(text, []).append(f"{row.model}{which}")
        if len(rows) > 1:
            groups = "; ".join(f"{text}: {listed(labels)}" for text, labels in rows.items())
            yield f"{done} with different torch versions or devices: {groups}."


def _interval_notes(board: Board) -> Iterator[str]:
    how: dict[str, list[str]] = {}
    for column in board.columns:
        intervals = {r.entries[column.metric].interval for r in board.rows if column.metric in r.entries}
        for interval in merged(intervals - {""}):
            how.setdefault(interval, []).append(name_of(column.metric))
    if how:
        yield (
            "Intervals: "
            + "; ".join(f"{text.replace('+-', '±')} ({listed(names)})" for text, names in how.items())
            + "."
        )


def merged(texts: Iterable[str]) -> list[str]:
    """Texts that differ only in numbers as one: "of 3 to 12 repeats" for "of 3 repeats" and "of 12 repeats"."""
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for text in sorted(texts):
        parts = re.split(r"(\d+)", text)
        groups.setdefault(tuple(parts[::2]), []).append(parts[1::2])
    return [_woven(words, numbers) for words, numbers in groups.items()]


def _woven(words: Sequence[str], numbers: Sequence[Sequence[str]]) -> str:
    """The words, with the number or the range of the numbers between each two of them."""
    ends = [(min(values, key=int), max(values, key=int)) for values in zip(*numbers, strict=True)]
    ranges = [lo if lo == hi else f"{lo} to {hi}" for lo, hi in ends]
    return words[0] + "".join(number + word for number, word in zip(ranges, words[1:], strict=True))


def _extractor_notes(board: Board) -> Iterator[str]:
    fid = next((c for c in board.columns if c.metric == "fid"), None)
    if fid is not None and fid.extractor and "inception" not in fid.extractor:
        yield (
            f"FID here is the Frechet distance on features of {fid.extractor}. It cannot be compared with an "
            "Inception FID, such as papers report, nor with a FID on any other features."
        )


def claim_cells(verdict: Verdict) -> tuple[str, str, str, str, str, str]:
    """A row of CLAIM_HEADS."""
    claim, entry = verdict.claim, verdict.entry
    claimed = signed(claim.kind, f"{claim.value:g}") + (f" (tolerance {claim.tolerance:g})" if claim.tolerance else "")
    measured = "—"
    if entry is not None:
        text = written(entry)
        measured = " ".join(filter(None, (signed(entry.kind, text.value), text.spread)))
    return claim.model, name_of(claim.metric), claimed, measured, verdict.text, claim.source


def without_value(board: Board) -> list[tuple[Row, str, str, list[str]]]:
    """What failed, in all or some seeds (INCOMPLETE), then what did not apply: (row, status, reason, metrics).

    Metrics of a row that share a reason share a line.
    """
    groups: dict[tuple[str, str, str], tuple[Row, list[str]]] = {}
    for row in board.rows:
        for column in board.columns:
            entry = row.entries.get(column.metric)
            if entry is not None and (entry.reason or entry.missing):
                status = INCOMPLETE if entry.ok else entry.status
                key = (row.model, status, entry.reason or entry.missing)
                groups.setdefault(key, (row, []))[1].append(column.metric)
    lines = [(row, status, reason, metrics) for (_, status, reason), (row, metrics) in groups.items()]
    return sorted(lines, key=lambda line: line[1] == NOT_APPLICABLE)
