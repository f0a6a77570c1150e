"""Leaderboards as files: csv and parquet for programs, Markdown and LaTeX for people; numbers as text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from genbench.files import whole
from genbench.records import NOT_APPLICABLE
from genbench.registry import METRICS
from genbench.report.aggregate import MADE_WITH, Board, Column, Entry, Row
from genbench.report.claims import Claim, Verdict, verdicts
from genbench.report.guard import listed
from genbench.report.kinds import legend, sign
from genbench.text import cell_text

UNITS_SHOWN = {"ms", "s", "MiB", "GiB", "J"}
INCOMPLETE, BUSY = "incomplete", "busy"
CLAIM_HEADS = ("model", "metric", "published", "measured", "verdict", "source")
ARROWS = {"lower": "↓", "higher": "↑"}
TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip


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
    return METRICS[metric].title if metric in METRICS else metric.replace("_", " ").capitalize()


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


def write_frame(directory: Path, frame: pd.DataFrame) -> list[Path]:
    """leaderboard.csv and leaderboard.parquet."""
    csv, parquet = directory / "leaderboard.csv", directory / "leaderboard.parquet"
    with whole(csv) as partial:
        _as_cells(frame).to_csv(partial, index=False)
    with whole(parquet) as partial:
        frame.to_parquet(partial, index=False)
    return [csv, parquet]


def _as_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with texts, and names of columns, that no spreadsheet takes for a formula."""
    safe = frame.copy()
    names: list[str] = list(frame.select_dtypes("string").columns)
    for name in names:
        safe[name] = frame[name].map(cell_text, na_action="ignore")
    return safe.rename(columns=cell_text)


# --- Markdown


def markdown(boards: Sequence[Board], claims: Sequence[Claim] = ()) -> str:
    """The leaderboards as Markdown, each with its published figures; every n/a has a footnote with its reason."""
    reasons: dict[str, int] = {}
    parts = []
    for board in boards:
        parts += [_markdown_board(board, reasons), *_markdown_claims(verdicts(board, claims))]
    parts += [f"[^{number}]: {reason}" for reason, number in reasons.items()]
    return "\n\n".join(parts) + "\n"


def _markdown_board(board: Board, reasons: dict[str, int]) -> str:
    heads = ["model", *(f"{title(c)} {ARROWS[c.better]}" for c in board.columns)]
    lines = [_markdown_line(_md(h) for h in heads), _markdown_line(["---", *("---:" for _ in board.columns)])]
    for row in board.rows:
        name = _md(row.model) if row.is_model else f"*scale: {_md(row.model)}*"
        lines.append(_markdown_line([name, *(_markdown_cell(board, c, row, reasons) for c in board.columns)]))
    return "\n".join([f"## {_md(board.dataset)}", "", *lines, "", *(f"- {_md(n)}" for n in notes(board))])


def _markdown_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _markdown_cell(board: Board, column: Column, row: Row, reasons: dict[str, int]) -> str:
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


def _markdown_claims(judged: Sequence[Verdict]) -> Iterator[str]:
    if not judged:
        return
    lines = [_markdown_line(CLAIM_HEADS), _markdown_line(["---", "---", "---:", "---:", "---", "---"])]
    lines += [_markdown_line(_md(text) for text in claim_cells(verdict)) for verdict in judged]
    yield "\n".join(["### Published figures", "", *lines])


# --- LaTeX


def latex(boards: Sequence[Board]) -> str:
    """The leaderboards as booktabs tables; notes and reasons are comments above each table."""
    return "\n\n".join(_latex_board(board) for board in boards) + "\n"


def _latex_board(board: Board) -> str:
    arrows = {"lower": r"$\downarrow$", "higher": r"$\uparrow$"}
    heads = ["model", *(f"{_tex(title(c))} {arrows[c.better]}" for c in board.columns)]
    why = [f"{row.model}, {listed(metrics)}: {status}, {text}" for row, status, text, metrics in without_value(board)]
    lines = [f"% {' '.join(note.split())}" for note in (board.dataset, *notes(board), *why)]
    lines += [rf"\begin{{tabular}}{{l{'r' * len(board.columns)}}}", r"\toprule", _latex_line(heads), r"\midrule"]
    lines += [_latex_row(board, row) for row in board.models]
    if board.models and board.scale:
        lines.append(r"\midrule")
    lines += [_latex_row(board, row) for row in board.scale]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])


def _latex_row(board: Board, row: Row) -> str:
    name = _tex(row.model) if row.is_model else rf"\emph{{{_tex(row.model)}}}"
    return _latex_line([name, *(_latex_cell(board, c, row) for c in board.columns)])


def _latex_line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex_cell(board: Board, column: Column, row: Row) -> str:
    entry = row.entries.get(column.metric)
    if entry is None:
        return "---"
    if not entry.ok:
        return entry.status
    text = written(entry)
    value = text.value.replace(",", "{,}")
    value = rf"\mathbf{{{value}}}" if row.model in column.best else value
    spread = text.spread.replace("± ", r" \pm ").replace(" to ", r"\mbox{ to }").replace(",", "{,}")
    if r"\mbox" in spread:
        spread = rf"\;({spread})"
    return f"${f'{sign(entry.kind).tex} '.lstrip()}{value}{spread}${f' {BUSY}' if entry.busy else ''}"


def _tex(text: str) -> str:
    return "".join(TEX.get(c, c) for c in " ".join(text.split()))
