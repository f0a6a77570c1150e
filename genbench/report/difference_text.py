"""A comparison of two results for a terminal of 80 columns: what differs, what was not compared, counts of the rest."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
Names = Mapping[tuple[str, str], str]
LAYOUT = "  {:<21} {:>9} {:>9}  {:<23} {}"


@dataclass(frozen=True)
class DiffLine:
    """A line of text and its colour, "" for none."""

    text: str
    colour: str = ""


def difference_lines(compared: Sequence[Difference], everything: bool = False) -> list[DiffLine]:
    """The values that differ, model by model, then what has no difference, by reason; everything: what is the same too.

    The last line counts what is not shown.
    """
    shown = [d for d in compared if everything or d.verdict in CHANGES]
    named = _names(compared)
    lines = [*_table([d for d in shown if d.change is not None], named)]
    lines += _without_change([d for d in shown if d.change is None], compared, named)
    lines += [DiffLine(part) for part in _notes(compared)]
    hidden = _counts(d for d in compared if d not in shown)
    return [*lines, DiffLine(f"not shown: {hidden}")] if hidden else lines


def _names(compared: Sequence[Difference]) -> dict[tuple[str, str], str]:
    """The name of each row by model and dataset; with the dataset where there are several."""
    several = len({d.dataset for d in compared}) > 1
    return {(d.model, d.dataset): f"{d.model} on {d.dataset}" if several else d.model for d in compared}


def _table(shown: Sequence[Difference], named: Names) -> Iterator[DiffLine]:
    if shown:
        yield DiffLine(LAYOUT.format(*HEADS).rstrip())
    for row in dict.fromkeys((d.model, d.dataset) for d in shown):
        yield DiffLine(named[row])
        for d in sorted((d for d in shown if (d.model, d.dataset) == row), key=_order):
            yield from _lines(d)


def _without_change(shown: Sequence[Difference], compared: Sequence[Difference], named: Names) -> Iterator[DiffLine]:
    """Each verdict and reason once, followed by its metrics; models with the same metrics share a line."""
    sizes = Counter(named[d.model, d.dataset] for d in compared if d.verdict != ABSENT)
    alike: dict[tuple[str, str], dict[str, list[str]]] = {}
    for d in sorted(shown, key=_order):
        of_name = alike.setdefault((d.verdict, d.reason), {})
        of_name.setdefault(named[d.model, d.dataset], []).append(d.metric)
    for (verdict, reason), of_name in alike.items():
        yield from (DiffLine(part, COLOURS.get(verdict, "")) for part in _wrapped(f"{verdict}: {reason}"))
        names: dict[str, list[str]] = {}
        for name, metrics in of_name.items():
            whole = len(metrics) == sizes[name] > 1
            names.setdefault("every metric" if whole else ", ".join(metrics), []).append(name)
        texts = (": ".join(filter(None, (", ".join(own), metrics))) for metrics, own in names.items())
        yield from (DiffLine(part) for text in texts for part in _wrapped(text, 2))


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


def _lines(d: Difference) -> Iterator[DiffLine]:
    change = f"{d.lo:+.3g} to {d.hi:+.3g}" if d.verdict != SAME else ""
    text = LAYOUT.format(_cut(d.metric, 21), f"{d.a:.4g}", f"{d.b:.4g}", change, d.verdict)
    yield DiffLine(text, COLOURS.get(d.verdict, ""))
    if d.verdict == UNDECIDED:
        yield DiffLine(f"    a difference would be detectable from {d.least:.3g}")


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2), break_on_hyphens=False
    )


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _counts(hidden: Iterable[Difference]) -> str:
    verdicts = [d.verdict for d in hidden]
    words = {SAME: "the same", UNDECIDED: "not detectably different", ABSENT: "without a value in both"}
    counts = [f"{verdicts.count(verdict)} {word}" for verdict, word in words.items() if verdict in verdicts]
    return ", ".join(counts) + ("; --all shows them" if counts else "")
