"""The metrics by name, and the same computations on plain arrays.

The functions take keyword arguments only, so that fake and real cannot be exchanged by mistake:

    metrics.frechet_distance(fake=a, real=b)             # arrays (N, D), (M, D)
    metrics.get("fid").compute(fake=a, real=b)           # the same with an interval
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from genbench.code_hash import plugin_hash
from genbench.metrics.base import Metric, Value
from genbench.metrics.classes import CLASSES
from genbench.metrics.clipped import CLIPPED
from genbench.metrics.cmmd import CMMD, clip_kernel_distance
from genbench.metrics.conditional import CONDITIONAL
from genbench.metrics.cost import COSTS
from genbench.metrics.fd_infinity import FD_INFINITY, frechet_distance_infinity
from genbench.metrics.fld import FLD, feature_likelihood_divergence
from genbench.metrics.frechet import FID, frechet_distance
from genbench.metrics.inception_score import IS, inception_score
from genbench.metrics.kernel import KID, KID_SUBSETS, kernel_distance
from genbench.metrics.likelihood import LIKELIHOOD_METRICS
from genbench.metrics.manifold import MANIFOLD, ManifoldScores, precision_recall
from genbench.metrics.memorisation import MEMORISATION, authenticity_share, ct_score, memorised_share
from genbench.metrics.mind import MIND, monge_inception_distance
from genbench.metrics.paths import PPL, perceptual_path_length
from genbench.metrics.per_class import PER_CLASS_FID, per_class_frechet_distance
from genbench.metrics.prompted import PROMPTED, clip_agreement, clip_score
from genbench.metrics.rke import RKE, renyi_kernel_entropy
from genbench.metrics.spatial import SFID, spatial_frechet_distance
from genbench.metrics.trained_classifier import CAS, classification_accuracy_score
from genbench.metrics.translation import TRANSLATIONS
from genbench.metrics.vendi import VENDI, vendi_score
from genbench.metrics.wasserstein import SLICED_WASSERSTEIN, sliced_wasserstein_distance
from genbench.registry import METRICS

__all__ = [
    "ManifoldScores",
    "Metric",
    "Value",
    "authenticity_share",
    "classification_accuracy_score",
    "clip_agreement",
    "clip_kernel_distance",
    "clip_score",
    "ct_score",
    "feature_likelihood_divergence",
    "frechet_distance",
    "frechet_distance_infinity",
    "get",
    "inception_score",
    "kernel_distance",
    "memorised_share",
    "metric_names",
    "monge_inception_distance",
    "per_class_frechet_distance",
    "perceptual_path_length",
    "precision_recall",
    "renyi_kernel_entropy",
    "sliced_wasserstein_distance",
    "spatial_frechet_distance",
    "vendi_score",
]

DISTANCES = (FID, FD_INFINITY, SFID, KID, KID_SUBSETS, CMMD, MIND)
OF_SAMPLES = (*DISTANCES, IS, *MANIFOLD, *CLIPPED, VENDI, RKE, SLICED_WASSERSTEIN, *CLASSES)
OF_REQUESTS = (*CONDITIONAL, *PROMPTED, PER_CLASS_FID, CAS)
BUILT_IN: dict[str, Metric] = {
    m.name: m for m in (*OF_SAMPLES, *MEMORISATION, FLD, *OF_REQUESTS, *TRANSLATIONS, PPL, *LIKELIHOOD_METRICS, *COSTS)
}


def metric_names() -> tuple[str, ...]:
    """The short names of all metrics, in the order in which tables show them.

    For example:

        len(metrics.metric_names()) >= 30  # 1
    """
    return METRICS.names()


def get(name: str, folder: Path | None = None) -> Metric:
    """The metric of a short name or `file.py:Object`; folder: where a relative file path starts.

    Raises GenbenchError, with the nearest name, when there is none.

        rows = np.random.default_rng(0).normal(size=(100, 4))
        metrics.get("fid").compute(fake=rows, real=rows).value  # 0.00
    """
    metric: Metric = METRICS.load(name, folder)
    if METRICS.is_built_in(name):
        return metric
    return replace(metric, source=name, code=plugin_hash(METRICS, name, folder))
