"""What a metric declares: name, direction, unit, what it reads, and one pure function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

FEATURES, PROBABILITIES, LIKELIHOOD, COST = "features", "probabilities", "likelihood", "cost"
GENERATED, SPATIAL, MEMORY, PIXELS = "generated", "spatial", "memory", "pixels"
CLASSES, CONDITION, LABELLED = "classes", "condition", "labelled"
PATHS, TRANSLATION = "paths", "translation"

# Metrics that see the generated images through the extractor, and metrics that compare with the reference split.
THROUGH_EXTRACTOR = (FEATURES, GENERATED, SPATIAL, PROBABILITIES, MEMORY, CLASSES, CONDITION)
AGAINST_REFERENCE = (FEATURES, SPATIAL, PIXELS, CLASSES)
OF_SAMPLES = (*THROUGH_EXTRACTOR, PIXELS, LABELLED)


@dataclass(frozen=True)
class Value:
    """A number with its interval; interval says how lo..hi was got ("" when there is none). kind: "=", "<=" or "~"."""

    value: float
    lo: float | None = None
    hi: float | None = None
    interval: str = ""
    kind: str = "="


@dataclass(frozen=True)
class OfReference:
    """What a metric needs of the reference alone: compute takes its features (M, D) and gives an array.

    It is kept under its name, which must change with what is computed.
    """

    name: str
    compute: Callable[[Any], Any]


@dataclass(frozen=True)
class Metric:
    """One declared metric.

    name: as in suites and columns. title: as on the page. version: bumped whenever a number may move.
    better: "lower" or "higher". unit: of the value. reads: what compute is given, all keyword-only:
        "features"       fake (N, D), real (M, D) float arrays
        "probabilities"  probabilities (N, K) of the classifier
        "likelihood"     log_probs (N,) nats of the discrete pixels, dims, kind
        "cost"           cost: genbench.draw.cost.Cost
        "generated"      fake (N, D) alone
        "spatial"        fake (N, S), real (M, S): features that still know where in the image they were
        "memory"         fake (N, D), train (M, D), held_out (T, D)
        "pixels"         fake (N, P), real (M, P): pixel values in [0, 1]
        "classes"        fake (N, D), real (M, D), fake_labels (N,) as asked for, real_labels (M,)
        "condition"      probabilities (N, K), labels (N,) as asked for
        "labelled"       fake (N, C, H, W) uint8, fake_labels (N,), real, real_labels of held-out images, levels
        "paths"          distances (N,) between images a small step apart in latent space, over the step squared
        "translation"    see genbench.metrics.translation
    abilities: names of contract abilities, any of which suffices; empty: every model has it.
    protocol: the constants that decide the number; they go into the record. moments: whether compute takes the
    reference's Moments (metrics.frechet) for real, which may be kept, as well as its rows. of_reference: what compute
    takes as `known` beside the rows.
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
    moments: bool = False
    of_reference: OfReference | None = None
