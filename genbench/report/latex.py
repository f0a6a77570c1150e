r"""Leaderboards as LaTeX: a document that compiles as it is, and tables that a paper can \input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from genbench.report.aggregate import Board, Column, Row
from genbench.report.guard import listed
from genbench.report.kinds import sign
from genbench.report.parts import parts
from genbench.report.tables import BUSY, notes, title, without_value, written

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip
ARROWS = {"lower": r"$\downarrow$", "higher": r"$\uparrow$"}
# LaTeX redefines \@nodocument when a document begins, which tells a paper that inputs the file from a run of its own.
PREAMBLE = r"""% Compile this file, or \input it in a paper; \usepackage{booktabs} makes better rules than \hline.
\expandafter\ifx\csname @nodocument\endcsname\relax
  \def\genbenchend{}
\else
  \def\genbenchend{\end{document}}
  \documentclass{article}
  \usepackage[T1]{fontenc}
  \usepackage[a4paper,landscape,margin=8mm]{geometry}
  \IfFileExists{booktabs.sty}{\usepackage{booktabs}}{}
  \begin{document}
\fi
\providecommand\toprule{\hline}
\providecommand\midrule{\hline}
\providecommand\bottomrule{\hline}
\providecommand\textquotedbl{''}"""


def latex(boards: Sequence[Board], columns: Sequence[str] = ()) -> str:
    """The leaderboards as tables in a small font; notes and reasons are comments above them.

    columns: the metrics of one table for each dataset; default: a table of the usual ones, then one for each group.
    """
    tables = [text for board in boards for text in _tables(board, columns)]
    return "\n\n".join([PREAMBLE, *tables, r"\genbenchend"]) + "\n"


def _tables(board: Board, columns: Sequence[str]) -> Iterator[str]:
    found = parts(board, columns)
    shown = replace(board, columns=tuple(column for part in found for column in part.board.columns))
    why = [f"{row.model}, {listed(metrics)}: {status}, {text}" for row, status, text, metrics in without_value(shown)]
    yield "\n".join(f"% {' '.join(note.split())}" for note in (board.dataset, *notes(shown), *why))
    for part in found:
        yield _table(part.board, part.group or board.dataset)


def _table(board: Board, caption: str) -> str:
    heads = ["model", *(f"{tex(title(c))} {ARROWS[c.better]}" for c in board.columns)]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{tex(caption)}}}",
    ]
    lines += [rf"\begin{{tabular}}{{l{'r' * len(board.columns)}}}", r"\toprule", _line(heads), r"\midrule"]
    lines += [_row(board, row) for row in board.models]
    if board.models and board.scale:
        lines.append(r"\midrule")
    lines += [_row(board, row) for row in board.scale]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"])


def _row(board: Board, row: Row) -> str:
    name = tex(row.model) if row.is_model else rf"\emph{{{tex(row.model)}}}"
    return _line([name, *(_cell(c, row) for c in board.columns)])


def _line(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(column: Column, row: Row) -> str:
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
    rank = rf"\,^{{({column.ranks[row.model]})}}" if row.model in column.ranks else ""
    return f"${f'{sign(entry.kind).tex} '.lstrip()}{value}{spread}{rank}${f' {BUSY}' if entry.busy else ''}"


def tex(text: str) -> str:
    """Text that pdflatex prints; a character that its fonts lack becomes its code, U+1F600."""
    return "".join(SPECIAL.get(c) or _letter(c) for c in " ".join(text.split()))


def _letter(character: str) -> str:
    if " " <= character <= "~" or "\u00c0" <= character <= "\u00ff":
        return character
    return "---" if character == "—" else f"U+{ord(character):04X}"
