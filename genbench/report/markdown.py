"""Leaderboards as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from genbench.report.aggregate import Board, Column, Row
from genbench.report.claims import Claim, Verdict, verdicts
from genbench.report.finding import finding
from genbench.report.parts import parts
from genbench.report.tables import ARROWS, BUSY, CLAIM_HEADS, claim_cells, notes, signed, title, written


def markdown(boards: Sequence[Board], claims: Sequence[Claim] = (), columns: Sequence[str] = ()) -> str:
    """The leaderboards as Markdown, each with its finding and published figures; n/a has a footnote with its reason.

    columns: the metrics of one table for each dataset; default: a table of the usual ones, then one for each group.
    """
    reasons: dict[str, int] = {}
    texts = []
    for board in boards:
        texts += [*_board(board, columns, reasons), *_claims(verdicts(board, claims))]
    texts += [f"[^{number}]: {reason}" for reason, number in reasons.items()]
    return "\n\n".join(texts) + "\n"


def _board(board: Board, columns: Sequence[str], reasons: dict[str, int]) -> Iterator[str]:
    yield f"## {_md(board.dataset)}"
    yield _md(finding(board))
    found = parts(board, columns)
    for part in found:
        if part.group:
            yield f"### {part.group.capitalize()}"
        yield _table(part.board, reasons)
    shown = [column for part in found for column in part.board.columns]
    yield "\n".join(f"- {_md(note)}" for note in notes(replace(board, columns=tuple(shown))))


def _table(board: Board, reasons: dict[str, int]) -> str:
    heads = ["model", *(f"{title(c)} {ARROWS[c.better]}" for c in board.columns)]
    lines = [_line(_md(h) for h in heads), _line(["---", *("---:" for _ in board.columns)])]
    for row in board.rows:
        name = _md(row.model) if row.is_model else f"*scale: {_md(row.model)}*"
        lines.append(_line([name, *(_cell(c, row, reasons) for c in board.columns)]))
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(column: Column, row: Row, reasons: dict[str, int]) -> str:
    entry = row.entries.get(column.metric)
    if entry is None:
        return "—"
    if not entry.ok:
        number = reasons.setdefault(_md(entry.reason), len(reasons) + 1)
        return f"{entry.status}[^{number}]"
    text = written(entry)
    value = signed(entry.kind, text.value)
    value = f"**{value}**" if row.model in column.best else value
    rank = f"({column.ranks[row.model]})" if row.model in column.ranks else ""
    return " ".join(filter(None, (value, text.spread, rank, BUSY if entry.busy else "")))


def _md(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))


def _claims(judged: Sequence[Verdict]) -> Iterator[str]:
    if not judged:
        return
    lines = [_line(CLAIM_HEADS), _line(["---", "---", "---:", "---:", "---", "---"])]
    lines += [_line(_md(text) for text in claim_cells(verdict)) for verdict in judged]
    yield "\n".join(["### Published figures", "", *lines])
