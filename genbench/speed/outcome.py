"""What came out for one model, and how it is shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from genbench.errors import GenbenchError
from genbench.speed.judge import Ratio
from genbench.text import aligned

NOT_COMPARED = "not compared"


@dataclass(frozen=True)
class Outcome:
    """One model timed on two sides.

    a, b: seconds of one call of `batch` images. ratio: of the times, B over A, None where nothing was compared, for
    `reason`. failed: as the model could not be timed, which a gate must not pass over. note: what a reader should know
    besides. raw: what the ratio was computed from.
    """

    label: str
    batch: int
    a: float | None = None
    b: float | None = None
    ratio: Ratio | None = None
    reason: str = ""
    failed: bool = False
    note: str = ""
    raw: tuple[Any, ...] = ()

    @property
    def verdict(self) -> str:
        """Faster, slower, cannot tell, or not compared."""
        return self.ratio.verdict if self.ratio else NOT_COMPARED

    def closes(self, tolerance: float) -> bool:
        """Whether it closes the gate: slower beyond the tolerance."""
        return self.ratio is not None and self.ratio.beyond(tolerance)

    def line(self) -> tuple[str, ...]:
        """The cells of its line in the table."""
        if self.ratio is None or self.a is None or self.b is None:
            return (self.label, "", "", "", NOT_COMPARED, self.reason)
        r = self.ratio
        rates = tuple(shown_rate(self.batch / t) for t in (self.a, self.b))
        shown = f"{r.value:.3f} ({r.lo:.3f} to {r.hi:.3f})"
        least = "more rounds needed" if math.isinf(r.least) else f"least seen {100 * r.least:.1f} %"
        return (self.label, *rates, shown, self.verdict, "; ".join(filter(None, [least, self.note])))

    def plain(self) -> dict[str, Any]:
        """As plain data for JSON; an interval without an end is null there."""
        ratio = None
        if self.ratio is not None:
            ratio = {k: v if math.isfinite(v) else None for k, v in asdict(self.ratio).items()}
        return {**asdict(self), "ratio": ratio, "verdict": self.verdict}


def shown_rate(value: float) -> str:
    """Images a second with four digits or all before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


HEAD = ("model", "A images/s", "B images/s", "time B / A (interval)", "verdict", "")


def summary(outcomes: Sequence[Outcome], tolerance: float) -> str:
    """The table, and a sentence about the gate."""
    shut = [o.label for o in outcomes if o.closes(tolerance)]
    failed = [o.label for o in outcomes if o.failed]
    compared = [o for o in outcomes if o.ratio is not None]
    lines = [aligned([HEAD, *(o.line() for o in outcomes)]), ""]
    if shut:
        lines.append(f"gate closed: slower by more than {100 * tolerance:g} %: {', '.join(shut)}")
    elif failed:
        lines.append(f"gate closed: could not be timed: {', '.join(failed)}")
    elif not compared:
        lines.append("nothing was compared")
    else:
        lines.append(f"gate open: no model is seen to be slower by more than {100 * tolerance:g} %")
        lines += _unsure(compared, tolerance)
    return "\n".join(lines)


def _unsure(compared: Sequence[Outcome], tolerance: float) -> list[str]:
    unsure = [o.label for o in compared if o.ratio is not None and not o.ratio.answers(tolerance)]
    if not unsure:
        return []
    return [f"not ruled out either, for want of rounds or by noise: {', '.join(unsure)}"]


def read_tolerance(text: str) -> float:
    """A share such as "5%" or "0.05". Raises GenbenchError for anything else."""
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        number = -1.0
    if not 0 <= number < 1:
        raise GenbenchError(f"--tolerance: found '{text}', allowed: a share such as 5% or 0.05")
    return number
