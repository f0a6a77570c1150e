"""Published figures compared with measured ones: reproduced, not reproduced, or not comparable and why.

Published figures are the `claims:` of a model in a suite, and are therefore in the suite.yaml of a result. A figure is
comparable when the record's protocol has every value of the claim's protocol, when both are of the same kind of
likelihood, and when nothing else is known to differ. It is reproduced when it lies within the measured interval,
widened by the claim's tolerance on both sides. A model that is better than published by more than that does not
reproduce the figure either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genbench.errors import StoreError, SuiteError
from genbench.registry import short_name
from genbench.report.aggregate import Board, Entry
from genbench.report.guard import short
from genbench.suite.entries import ClaimEntry
from genbench.suite.yaml_source import read_source

REPRODUCED, NOT_REPRODUCED = "reproduced", "not reproduced"
NOT_COMPARABLE, NOT_MEASURED = "not comparable", "not measured"


@dataclass(frozen=True)
class Claim:
    """A published figure of a model; the fields are those of genbench.suite.schema.ClaimEntry."""

    model: str
    metric: str
    value: float
    source: str
    tolerance: float = 0.0
    kind: str = ""
    protocol: Mapping[str, Any] = field(default_factory=dict)
    differs: str = ""


@dataclass(frozen=True)
class Verdict:
    """The judgement of a claim. entry: the measured value, None where there is none. why: the reason or ""."""

    claim: Claim
    entry: Entry | None
    word: str
    why: str = ""

    @property
    def text(self) -> str:
        """The verdict with its reason."""
        return f"{self.word}: {self.why}" if self.why else self.word


def read_claims(path: Path) -> list[Claim]:
    """The claims of a result's suite.yaml in order, none when there is no such file; StoreError for no suite."""
    if not path.is_file():
        return []
    try:
        suite = read_source(path).data
        models = (suite or {}).get("models", [])
        labelled = [(m.get("label") or short_name(m["name"]), m.get("claims", [])) for m in models]
        return [_claim(str(label), claim) for label, claims in labelled for claim in claims]
    except (SuiteError, AttributeError, KeyError, TypeError, ValueError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise StoreError(f"{path}: cannot be read as a suite: {reason}") from error


def _claim(label: str, claim: Any) -> Claim:
    """Raises ValueError for an entry that is no claim."""
    return Claim(label, **ClaimEntry.model_validate(claim).model_dump())


def verdicts(board: Board, claims: Iterable[Claim]) -> list[Verdict]:
    """A verdict for each claim about a row of the board, in the order of the claims."""
    rows = {row.model: row for row in board.models}
    return [judge_claim(claim, rows[claim.model].entries.get(claim.metric)) for claim in claims if claim.model in rows]


def judge_claim(claim: Claim, entry: Entry | None) -> Verdict:
    """Compares a claim with the measured entry."""
    if entry is None or not entry.ok:
        return Verdict(claim, None, NOT_MEASURED, entry.reason if entry else "")
    reasons = list(_differences(claim, entry))
    if reasons:
        return Verdict(claim, entry, NOT_COMPARABLE, "; ".join(reasons))
    if entry.low - claim.tolerance <= claim.value <= entry.high + claim.tolerance:
        return Verdict(claim, entry, REPRODUCED)
    off = entry.number - claim.value
    side = "better" if (off < 0) == (entry.record.better == "lower") else "worse"
    return Verdict(claim, entry, NOT_REPRODUCED, f"{side} by {abs(off):.3g}")


def _differences(claim: Claim, entry: Entry) -> Iterator[str]:
    """Each reason why the two are not comparable."""
    if claim.differs:
        yield claim.differs
    if entry.kind != claim.kind:
        published, measured = (kind or "no kind of likelihood" for kind in (claim.kind, entry.kind))
        yield f"published is: {published}, measured: {measured}"
    yield from unlike(claim.protocol, entry.record.protocol)
    if entry.missing:
        yield f"not all seeds have a value: {entry.missing}"
    if entry.busy:
        yield f"timed on a busy machine: {entry.busy}"


def unlike(wanted: Mapping[str, Any], stated: Mapping[str, Any], of: str = "") -> Iterator[str]:
    """Each wanted field that has another value or none, as text; of nested mappings only the wanted fields."""
    for name, value in wanted.items():
        measured = stated.get(name)
        if isinstance(value, Mapping) and isinstance(measured, Mapping):
            yield from unlike(value, measured, f"{of}{name} ")
        elif name not in stated:
            yield f"{of}{name} is not stated, published with {short(value)}"
        elif measured != value:
            yield f"{of}{name} is {short(measured)}, published with {short(value)}"
