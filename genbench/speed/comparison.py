"""The comparison of one model's times on two sides, and how it is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from genbench.errors import GenbenchError
from genbench.speed.judge import Ratio
from genbench.text import aligned

NOT_COMPARED, BUSY = "not compared", "busy"


@dataclass(frozen=True)
class Comparison:
    """One model timed on two sides, A and B.

    batch: images in a call. a, b: seconds of one call. ratio: time of B divided by time of A; None where nothing was
    compared, with the reason in `reason`. failed: the model could not be timed, which closes the gate. busy: what
    disturbed the timing; the ratio then counts for nothing. note: more information for the reader. raw: the times from
    which the ratio was computed.
    """

    label: str
    batch: int
    a: float | None = None
    b: float | None = None
    ratio: Ratio | None = None
    reason: str = ""
    failed: bool = False
    busy: str = ""
    note: str = ""
    raw: tuple[Any, ...] = ()

    @property
    def verdict(self) -> str:
        """`faster`, `slower`, `cannot tell`, `busy` or `not compared`."""
        if self.busy:
            return BUSY
        return self.ratio.verdict if self.ratio else NOT_COMPARED

    def closes(self, tolerance: float) -> bool:
        """Whether the model closes the gate because it is slower by more than the tolerance."""
        return self.ratio is not None and not self.busy and self.ratio.beyond(tolerance)

    def table_row(self) -> tuple[str, ...]:
        """Texts of the columns named in HEAD."""
        if self.ratio is None or self.a is None or self.b is None:
            return (self.label, "", "", "", NOT_COMPARED, self.reason)
        r = self.ratio
        rates = tuple(shown_rate(self.batch / t) for t in (self.a, self.b))
        shown = f"{r.value:.3f} ({r.lo:.3f} to {r.hi:.3f})"
        least = "more rounds needed" if math.isinf(r.least) else f"detectable from {100 * r.least:.1f} %"
        return (self.label, *rates, shown, self.verdict, "; ".join(filter(None, [self.busy or least, self.note])))

    def plain(self) -> dict[str, Any]:
        """Plain data for JSON; an infinite end of the interval becomes null."""
        ratio = None
        if self.ratio is not None:
            ratio = {k: v if math.isfinite(v) else None for k, v in asdict(self.ratio).items()}
        return {**asdict(self), "ratio": ratio, "verdict": self.verdict}


def shown_rate(value: float) -> str:
    """Images per second as text with four significant digits, or all digits before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


HEAD = ("model", "A images/s", "B images/s", "time B / A (interval)", "verdict", "")


def summary(comparisons: Sequence[Comparison], tolerance: float) -> str:
    """The table of comparisons, and a sentence about the gate."""
    slower = [o.label for o in comparisons if o.closes(tolerance)]
    failed = [o.label for o in comparisons if o.failed]
    busy = [o.label for o in comparisons if o.busy]
    compared = [o for o in comparisons if o.ratio is not None]
    lines = [aligned([HEAD, *(o.table_row() for o in comparisons)]), ""]
    if slower:
        lines.append(f"gate closed: slower by more than {100 * tolerance:g} %: {', '.join(slower)}")
    elif failed:
        lines.append(f"gate closed: could not be timed: {', '.join(failed)}")
    elif busy:
        lines.append(f"gate refused: timed on a busy machine: {', '.join(busy)}; run it again when nothing else runs")
    elif not compared:
        lines.append("nothing was compared")
    else:
        lines.append(f"gate open: no model was found to be slower by more than {100 * tolerance:g} %")
        lines += _undecided(compared, tolerance)
    return "\n".join(lines)


def _undecided(compared: Sequence[Comparison], tolerance: float) -> list[str]:
    undecided = [o.label for o in compared if o.ratio is not None and not o.ratio.answers(tolerance)]
    if not undecided:
        return []
    return [f"too few rounds, or too much noise, to exclude it for: {', '.join(undecided)}"]


def read_tolerance(text: str) -> float:
    """Reads a share such as "5%" or "0.05". Raises GenbenchError for anything else."""
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1:
        raise GenbenchError(f"--tolerance: found '{text}', allowed: a share such as 5% or 0.05")
    return number
