"""What a metric declares: name, direction, unit, what it reads, and one pure function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

FEATURES, PROBABILITIES, LIKELIHOOD, COST = "features", "probabilities", "likelihood", "cost"


@dataclass(frozen=True)
class Value:
    """A number with its interval; interval says how lo..hi was got ("" when there is none). kind: "=", "<=" or "~"."""

    value: float
    lo: float | None = None
    hi: float | None = None
    interval: str = ""
    kind: str = "="


@dataclass(frozen=True)
class Metric:
    """One declared metric.

    name: as in suites and columns. title: as on the page. version: bumped whenever a number may move.
    better: "lower" or "higher". unit: of the value. reads: what compute is given, all keyword-only:
        "features"       fake (N, D), real (M, D) float arrays
        "probabilities"  probabilities (N, K) of the classifier
        "likelihood"     log_probs (N,) nats of the discrete pixels, dims, kind
        "cost"           cost: genbench.metrics.cost.Cost
    abilities: names of contract abilities, any of which suffices; empty: every model has it.
    protocol: the constants that decide the number; they go into the record.
    """

    name: str
    title: str
    version: int
    better: str
    unit: str
    reads: str
    compute: Callable[..., Value]
    abilities: tuple[str, ...] = ()
    protocol: dict[str, Any] = field(default_factory=dict)
