"""Per-class FID: the mean over classes of the Frechet distance within each class (intra-FID of Miyato & Koyama 2018).

A model that ignores the requested class can have a perfect FID, but no perfect per-class FID. Every class has the same
weight. A class has few samples, so that the small-sample bias is larger than FID's by about the number of classes:
compare equal numbers of samples only.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from genbench.errors import GenbenchError, TooFewSamples
from genbench.metrics.arrays import Z95, Array, pair
from genbench.metrics.base import Metric, Value
from genbench.metrics.degenerate import refuse_equal_rows, refuse_one_class
from genbench.metrics.frechet import FrechetComparison, feature_moments
from genbench.metrics.readings import BY_CLASS
from genbench.metrics.second_order import first_order_variance

_LEAST_PER_CLASS = 25  # samples of a class, generated and real each


class PerClass(NamedTuple):
    """The mean over classes, and each class's squared Frechet distance by its label, in order of the labels."""

    mean: float
    distances: dict[int, float]


def class_labels(name: str, labels: Any, rows: int) -> np.ndarray:
    """Labels (rows,) of any integer type; GenbenchError otherwise."""
    array = np.asarray(labels)
    if array.shape != (rows,) or not np.issubdtype(array.dtype, np.integer):
        raise GenbenchError(f"{name}: found {array.dtype} labels of shape {array.shape}, allowed: integers ({rows},)")
    return array


def by_class(fake: Any, real: Any, fake_labels: Any, real_labels: Any) -> dict[int, tuple[Array, Array]]:
    """The fake and the real rows of each class; raises as the public function."""
    fake, real = pair(fake, real)
    fake_labels = class_labels("fake_labels", fake_labels, len(fake))
    real_labels = class_labels("real_labels", real_labels, len(real))
    refuse_one_class("per_class_fid", "reference", real_labels)
    sets = {c: (fake[fake_labels == c], real[real_labels == c]) for c in np.union1d(fake_labels, real_labels).tolist()}
    for c, (generated, reference) in sets.items():
        if min(len(generated), len(reference)) < _LEAST_PER_CLASS:
            raise TooFewSamples(
                f"per_class_fid: class {c} has {len(generated)} generated and {len(reference)} real samples; "
                f"needs at least {_LEAST_PER_CLASS} of each"
            )
        refuse_equal_rows("per_class_fid", f"reference (class {c})", reference)
    return sets


def per_class_frechet_distance(*, fake: Any, real: Any, fake_labels: Any, real_labels: Any) -> PerClass:
    """Squared Frechet distances within classes of features fake (N, D), real (M, D), and their mean; 0 is best.

    fake_labels (N,): the classes asked for; real_labels (M,): the true ones, integers.
    Raises GenbenchError for shapes that do not fit; TooFewSamples when a class that either set has is held by
    fewer than 25 samples of one of them, Degenerate for a single class and for a class of equal rows, CellFailure for
    values that are not finite.

        rng, labels = np.random.default_rng(0), np.arange(200) % 2
        fake, real = rng.normal(0.5, 1, (200, 4)), rng.normal(0, 1, (200, 4))
        by_class = metrics.per_class_frechet_distance(fake=fake, real=real, fake_labels=labels, real_labels=labels)
        by_class.mean  # 1.00
        by_class.distances[1]  # 0.94
    """
    sets = by_class(fake, real, fake_labels, real_labels)
    distances = {c: FrechetComparison(mine, feature_moments(theirs)).value for c, (mine, theirs) in sets.items()}
    return PerClass(float(np.mean(list(distances.values()))), distances)


def per_class_fid(*, fake: Any, real: Any, fake_labels: Any, real_labels: Any) -> Value:
    """The mean of per_class_frechet_distance with an interval over the fake samples of every class."""
    sets = by_class(fake, real, fake_labels, real_labels).values()
    compared = [FrechetComparison(mine, feature_moments(theirs)) for mine, theirs in sets]
    effects = [c.effects() for c in compared]
    value = float(np.mean([c.value for c in compared]))
    half = Z95 * first_order_variance(effects) ** 0.5 / len(effects)
    how = (
        "normal 95 %: +- 1.96 standard errors of the first-order effect of each generated sample within its class, "
        "the number of each class and the reference fixed; small-sample bias not included"
    )
    return Value(value, max(0.0, value - half), value + half, how)


PER_CLASS_FID = Metric(
    name="per_class_fid",
    title="Per-class FID",
    version=1,
    better="lower",
    unit="feature^2",
    reads=BY_CLASS,
    compute=per_class_fid,
    least={"classes": 2, "fake": 2 * _LEAST_PER_CLASS, "real": 2 * _LEAST_PER_CLASS},
    protocol={
        "mean": "over classes, equal weights",
        "least_per_class": _LEAST_PER_CLASS,
        "covariance": "divided by n - 1",
        "arithmetic": "float64",
    },
    cannot_detect="Does not detect differences beyond mean and covariance of each class's features, nor copies.",
)
