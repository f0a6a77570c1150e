"""Two results compared: each metric with its difference, an interval, and a verdict; a gate for continuous integration.

B is better or worse than A where the 95 % interval of the difference B - A does not contain 0. Otherwise the verdict is
"cannot tell", and `least` is the smallest difference that would have been detected. The interval is that of two values
measured independently (Zou and Donner 2008, from the values' own intervals):

    d - sqrt((b - lo_b)^2 + (hi_a - a)^2)  ..  d + sqrt((hi_b - b)^2 + (a - lo_a)^2)

Values on the same samples, or on the same test images, are correlated; the interval is then wider than necessary. A
value without an interval counts as exact; equal values with equal intervals are "same". Where the protocols differ,
nothing is compared, and the fields that differ are named.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from genbench.errors import GenbenchError
from genbench.metrics.readings import COST
from genbench.options import nearest
from genbench.records import Record, metric_name, read_records
from genbench.registry import METRICS
from genbench.report.aggregate import MADE_WITH, Entry, Row, boards
from genbench.report.guard import comparable, differences, listed

BETTER, WORSE, UNDECIDED, SAME = "better", "worse", "cannot tell", "same"
REFUSED, MISSING, ABSENT = "not compared", "missing", "no value"
CHANGES = (WORSE, MISSING, BETTER, REFUSED)  # what is shown first


@dataclass(frozen=True)
class Difference:
    """One metric of one model in both results.

    a, b: the values; change: b - a with lo..hi; least: the smallest change that would have been detected. reason: why
    it was not compared, or what is missing; gone: it is missing in B. note: what the row was made with, where that
    differs between A and B.
    """

    model: str
    dataset: str
    metric: str
    verdict: str
    a: float | None = None
    b: float | None = None
    change: float | None = None
    lo: float | None = None
    hi: float | None = None
    least: float | None = None
    unit: str = ""
    better: str = "lower"
    reason: str = ""
    gone: bool = False
    note: str = ""

    @property
    def is_speed(self) -> bool:
        """Whether the metric is a cost of drawing and not a property of the samples."""
        name = metric_name(self.metric)
        return name in METRICS and METRICS[name].reads == COST


def metric_differences(a: Path, b: Path) -> list[Difference]:
    """Every metric of every model of two results A and B, each a folder or its records.jsonl.

    Raises StoreError for a result that cannot be read or mixes two runs of one cell.
    """
    first, second = (_rows(read_records(path / "records.jsonl" if path.is_dir() else path)) for path in (a, b))
    compared = []
    for key in dict.fromkeys([*first, *second]):
        one, other = first.get(key), second.get(key)
        if one is None or other is None:
            reason = f"only in {a if other is None else b}"
            compared.append(Difference(*key, metric="", verdict=MISSING, reason=reason, gone=other is None))
        else:
            note = _made_differently(one, other)
            both = (_difference(one, other, metric) for metric in dict.fromkeys([*one.entries, *other.entries]))
            compared += [replace(difference, note=note) for difference in both]
    return compared


def _rows(records: Sequence[Record]) -> dict[tuple[str, str], Row]:
    return {(row.model, row.dataset): row for board in boards(list(records)) for row in board.models}


def _made_differently(one: Row, other: Row) -> str:
    """What the row of A and that of B were made with, where that is not the same, as sentences."""
    texts = []
    for name, done in MADE_WITH.items():
        a, b = (sorted(row.made_with.get(name, {})) for row in (one, other))
        if a and b and a != b:
            texts.append(f"{done} on {listed(a)} for A, on {listed(b)} for B.")
    return " ".join(texts)


def _difference(one: Row, other: Row, metric: str) -> Difference:
    entries = [row.entries.get(metric) for row in (one, other)]
    lacking = [name for name, entry in zip("AB", entries, strict=True) if entry is None or not entry.ok]
    if len(lacking) == 2:
        return Difference(one.model, one.dataset, metric, ABSENT, reason="no value in A nor in B")
    if lacking:
        entry = entries["AB".index(lacking[0])]
        reason = f"no value in {lacking[0]}: {entry.reason if entry else 'not measured'}"
        return Difference(one.model, one.dataset, metric, MISSING, reason=reason, gone=lacking == ["B"])
    a, b = (entry for entry in entries if entry is not None)
    return entry_difference(one, metric, a, b)


def entry_difference(one: Row, metric: str, a: Entry, b: Entry) -> Difference:
    """The difference between two values of one metric of a row."""
    if comparable(a.record) != comparable(b.record):
        reason = "; ".join(differences([("A", a.record), ("B", b.record)]))
        return Difference(one.model, one.dataset, metric, REFUSED, a.value, b.value, reason=reason)
    busy = [f"{name} was timed on a busy machine: {e.busy}" for name, e in (("A", a), ("B", b)) if e.busy]
    if busy:
        reason = "; ".join(busy)
        return Difference(one.model, one.dataset, metric, REFUSED, a.value, b.value, reason=reason)
    if a.kind != b.kind:
        return Difference(
            one.model,
            one.dataset,
            metric,
            REFUSED,
            a.value,
            b.value,
            reason=f"kind of likelihood is {a.kind} for A, {b.kind} for B",
        )
    return _judged(one, metric, a, b)


def _judged(row: Row, metric: str, a: Entry, b: Entry) -> Difference:
    change = b.number - a.number
    down, up = math.hypot(b.number - b.low, a.high - a.number), math.hypot(b.high - b.number, a.number - a.low)
    better = a.record.better
    verdict = SAME if (a.value, a.lo, a.hi) == (b.value, b.lo, b.hi) else UNDECIDED
    if change - down > 0 or change + up < 0:
        verdict = BETTER if (change < 0) == (better == "lower") else WORSE
    return Difference(
        row.model, row.dataset, metric, verdict, a.number, b.number, change, change - down, change + up,
        least=max(down, up), unit=a.record.unit, better=better,
    )  # fmt: skip


@dataclass(frozen=True)
class Tolerance:
    """How much worse a metric may get: in its unit, or as a share of A's value."""

    amount: float = 0.0
    relative: bool = False

    def of(self, value: float) -> float:
        """The tolerance in the metric's unit, for A's value."""
        return self.amount * abs(value) if self.relative else self.amount


def tolerances(texts: Sequence[str]) -> dict[str, Tolerance]:
    """From "fid=0.2" or "fid=5%" to tolerances by metric. Raises GenbenchError for an unknown name or no number."""
    allowed = {}
    for text in texts:
        name, _, amount = text.partition("=")
        if metric_name(name) not in METRICS:
            raise GenbenchError(
                f"--tolerance: unknown metric '{name}'{nearest(name, METRICS) or ';'} allowed: NAME=0.1"
            )
        try:
            number = float(amount.removesuffix("%"))
        except ValueError:
            number = math.nan
        if not number >= 0:
            raise GenbenchError(f"--tolerance: found '{text}', allowed: {name}=NUMBER or {name}=NUMBER%, at least 0")
        relative = amount.endswith("%")
        allowed[name] = Tolerance(number / 100 if relative else number, relative)
    return allowed


def closed(compared: Sequence[Difference], allowed: Mapping[str, Tolerance]) -> list[Difference]:
    """What closes the gate: a model or value that is missing in B, or a metric that is worse beyond its tolerance.

    A metric is worse beyond its tolerance (default 0) when the whole interval of the difference lies beyond it.
    """
    return [d for d in compared if _closes(d, allowed)]


def _closes(d: Difference, allowed: Mapping[str, Tolerance]) -> bool:
    if d.verdict == MISSING:
        return d.gone
    if d.verdict != WORSE or d.lo is None or d.hi is None or d.a is None:
        return False
    tolerance = allowed.get(d.metric, Tolerance()).of(d.a)
    return (d.lo if d.better == "lower" else -d.hi) > tolerance


def sentence(compared: Sequence[Difference]) -> str:
    """The joint verdict: a gain in speed counts only where quality did not fall, and vice versa."""
    parts = {
        (speed, verdict): _by_model(d for d in compared if d.is_speed == speed and d.verdict == verdict)
        for speed in (True, False)
        for verdict in (BETTER, WORSE)
    }
    faster, slower, gained, lost = (parts[k] for k in ((True, BETTER), (True, WORSE), (False, BETTER), (False, WORSE)))
    if lost and faster:
        return f"The gain in speed does not count: quality fell ({listed(lost)})."
    if slower and gained:
        return f"The gain in quality does not count by itself: speed fell ({listed(slower)})."
    if lost or slower:
        return f"B is worse: {listed(lost + slower)}."
    if faster or gained:
        return f"B is better, and nothing is detectably worse: {listed(faster + gained)}."
    if all(d.change is None for d in compared):
        return "Nothing was compared."
    if all(d.verdict in (SAME, ABSENT) for d in compared):
        return "A and B are the same."
    return "No difference is detected; --all shows the smallest difference that would have been."


def _by_model(compared: Iterable[Difference]) -> list[str]:
    """Each model with its metrics in brackets."""
    metrics: dict[str, list[str]] = {}
    for d in compared:
        metrics.setdefault(d.model, []).append(d.metric)
    return [f"{model} ({', '.join(names)})" for model, names in metrics.items()]


def as_plain(compared: Sequence[Difference]) -> list[dict[str, object]]:
    """The differences as plain data, for JSON."""
    return [asdict(d) for d in compared]
