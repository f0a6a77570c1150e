"""A comparison of two results for a terminal of 80 columns: a line for each metric that differs; counts of the rest."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from genbench.report.difference import (
    ABSENT,
    BETTER,
    CHANGES,
    MISSING,
    REFUSED,
    SAME,
    UNDECIDED,
    WORSE,
    Difference,
)  # fmt: skip
from genbench.report.guard import listed

WIDTH = 80
COLOURS = {BETTER: "green", WORSE: "red", MISSING: "red", REFUSED: "yellow"}
HEADS = ("metric", "A", "B", "B - A, 95 %", "verdict")
LAYOUT = "  {:<21} {:>9} {:>9}  {:<23} {}"


@dataclass(frozen=True)
class DiffLine:
    """A line of text and its colour, "" for none."""

    text: str
    colour: str = ""


def difference_lines(compared: Sequence[Difference], everything: bool = False) -> list[DiffLine]:
    """What differs, model by model; everything: what does not differ too. The last line counts what is not shown."""
    shown = [d for d in compared if everything or d.verdict in CHANGES]
    lines = [DiffLine(LAYOUT.format(*HEADS).rstrip())] if shown else []
    datasets = {d.dataset for d in compared}
    for model, dataset in dict.fromkeys((d.model, d.dataset) for d in shown):
        lines.append(DiffLine(f"{model} on {dataset}" if len(datasets) > 1 else model))
        own = [d for d in shown if (d.model, d.dataset) == (model, dataset)]
        for d in sorted(own, key=_order):
            lines += _lines(d, everything)
    lines += [DiffLine(part) for part in _notes(compared)]
    hidden = _counts(d for d in compared if d not in shown)
    return [*lines, DiffLine(f"not shown: {hidden}")] if hidden else lines


def _notes(compared: Sequence[Difference]) -> Iterator[str]:
    """What else differs between A and B, each note once with the models that it holds for."""
    notes: dict[str, list[str]] = {}
    for d in compared:
        if d.note and d.model not in notes.setdefault(d.note, []):
            notes[d.note].append(d.model)
    for note, models in notes.items():
        yield from textwrap.wrap(f"{listed(models)}: {note}", WIDTH, subsequent_indent="  ")


def _order(d: Difference) -> int:
    return (*CHANGES, UNDECIDED, SAME, ABSENT).index(d.verdict)


def _lines(d: Difference, everything: bool) -> Iterator[DiffLine]:
    colour = COLOURS.get(d.verdict, "")
    if d.change is None:
        text = ": ".join(filter(None, (d.metric, d.verdict, d.reason)))
        yield from (DiffLine(part, colour) for part in _wrapped(text))
        return
    change = f"{d.lo:+.3g} to {d.hi:+.3g}" if d.verdict != SAME else ""
    yield DiffLine(LAYOUT.format(_cut(d.metric, 21), f"{d.a:.4g}", f"{d.b:.4g}", change, d.verdict), colour)
    if everything and d.verdict == UNDECIDED:
        yield DiffLine(f"    a difference would be detectable from {d.least:.3g}")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_long_words=True)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _counts(hidden: Iterable[Difference]) -> str:
    verdicts = [d.verdict for d in hidden]
    words = {SAME: "the same", UNDECIDED: "not detectably different", ABSENT: "without a value in both"}
    found = [f"{verdicts.count(verdict)} {word}" for verdict, word in words.items() if verdict in verdicts]
    return ", ".join(found) + ("; --all shows them" if found else "")
