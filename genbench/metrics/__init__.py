"""The metrics by name, and the same computations on plain arrays (keyword-only, so that nobody swaps fake and real)."""

from __future__ import annotations

from genbench.errors import GenbenchError
from genbench.metrics.base import Metric, Value
from genbench.metrics.classes import CLASSES
from genbench.metrics.cost import COSTS
from genbench.metrics.frechet import FID, frechet_distance
from genbench.metrics.inception_score import IS, inception_score
from genbench.metrics.kernel import KID, kernel_distance
from genbench.metrics.likelihood import BITS_PER_DIM
from genbench.metrics.manifold import MANIFOLD, ManifoldScores, precision_recall
from genbench.registry import nearest

__all__ = [
    "METRICS",
    "ManifoldScores",
    "Metric",
    "Value",
    "frechet_distance",
    "get",
    "inception_score",
    "kernel_distance",
    "names",
    "precision_recall",
]

METRICS: dict[str, Metric] = {m.name: m for m in (FID, KID, IS, *MANIFOLD, *CLASSES, BITS_PER_DIM, *COSTS)}


def names() -> tuple[str, ...]:
    """Every metric's name, in the order in which tables show them."""
    return tuple(METRICS)


def get(name: str) -> Metric:
    """The metric of that name; raises GenbenchError, with the nearest name, when there is none."""
    if name not in METRICS:
        raise GenbenchError(f"unknown metric '{name}'{nearest(name, METRICS)} allowed: {', '.join(METRICS)}")
    return METRICS[name]
