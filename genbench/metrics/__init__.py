"""The metrics by name, and the same computations on plain arrays (keyword-only, so that nobody swaps fake and real)."""

from __future__ import annotations

from genbench.errors import GenbenchError
from genbench.metrics.base import Metric, Value
from genbench.metrics.classes import CLASSES
from genbench.metrics.conditional import CONDITIONAL
from genbench.metrics.cost import COSTS
from genbench.metrics.fd_infinity import FD_INFINITY, frechet_distance_infinity
from genbench.metrics.frechet import FID, frechet_distance
from genbench.metrics.inception_score import IS, inception_score
from genbench.metrics.kernel import KID, KID_SUBSETS, kernel_distance
from genbench.metrics.likelihood import LIKELIHOODS
from genbench.metrics.manifold import MANIFOLD, ManifoldScores, precision_recall
from genbench.metrics.memorisation import MEMORISATION, authenticity_share, ct_score, memorised_share
from genbench.metrics.paths import PPL, perceptual_path_length
from genbench.metrics.per_class import PER_CLASS_FID, per_class_frechet_distance
from genbench.metrics.spatial import SFID, spatial_frechet_distance
from genbench.metrics.trained_classifier import CAS, classification_accuracy_score
from genbench.metrics.translation import TRANSLATIONS
from genbench.metrics.vendi import VENDI, vendi_score
from genbench.metrics.wasserstein import SLICED_WASSERSTEIN, sliced_wasserstein_distance
from genbench.registry import nearest

__all__ = [
    "METRICS",
    "ManifoldScores",
    "Metric",
    "Value",
    "authenticity_share",
    "classification_accuracy_score",
    "ct_score",
    "frechet_distance",
    "frechet_distance_infinity",
    "get",
    "inception_score",
    "kernel_distance",
    "memorised_share",
    "names",
    "per_class_frechet_distance",
    "perceptual_path_length",
    "precision_recall",
    "sliced_wasserstein_distance",
    "spatial_frechet_distance",
    "vendi_score",
]

OF_SAMPLES = (FID, FD_INFINITY, SFID, KID, KID_SUBSETS, IS, *MANIFOLD, VENDI, SLICED_WASSERSTEIN, *CLASSES)
OF_CLASSES = (*CONDITIONAL, PER_CLASS_FID, CAS)
METRICS: dict[str, Metric] = {
    m.name: m for m in (*OF_SAMPLES, *MEMORISATION, *OF_CLASSES, *TRANSLATIONS, PPL, *LIKELIHOODS, *COSTS)
}


def names() -> tuple[str, ...]:
    """Every metric's name, in the order in which tables show them."""
    return tuple(METRICS)


def get(name: str) -> Metric:
    """The metric of that name; raises GenbenchError, with the nearest name, when there is none."""
    if name not in METRICS:
        raise GenbenchError(f"unknown metric '{name}'{nearest(name, METRICS)} allowed: {', '.join(METRICS)}")
    return METRICS[name]
