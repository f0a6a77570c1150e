"""How confident the classifier is about the samples, and how rare the rarest class is among them.

The Inception Score mixes these two numbers: samples that are all alike have a confident classifier and one class, noise
has many classes and a classifier that is not confident.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genbench.errors import TooFewSamples
from genbench.metrics.arrays import matrix
from genbench.metrics.base import Metric, Value
from genbench.metrics.manifold import share
from genbench.metrics.means import mean_interval
from genbench.metrics.readings import PROBABILITIES


def confidence(*, probabilities: Any) -> Value:
    """Mean over samples of the largest of their class probabilities (N, K): 1/K to 1; higher is more confident."""
    top = matrix("probabilities", probabilities, least=1).max(axis=1)
    return mean_interval(top, "generated samples", least=0.0, most=1.0)


def rarest_class(*, probabilities: Any) -> Value:
    """Share of the samples (N, K) whose most probable class is the rarest one: 0 to 1/K; 0 when a class is missing."""
    p = matrix("probabilities", probabilities, least=1)
    if len(p) < p.shape[1]:
        raise TooFewSamples(
            f"rarest_class: {len(p)} generated samples for {p.shape[1]} classes; needs one of each at least"
        )
    seen = p.argmax(axis=1)
    rarest = np.bincount(seen, minlength=p.shape[1]).argmin()
    return share(seen == rarest, "generated samples, the rarest class fixed")


CLASSES = (
    Metric(
        "confidence",
        "Confidence",
        2,
        "higher",
        "probability",
        PROBABILITIES,
        confidence,
        cannot_detect="Does not detect a lack of variety, nor unrealistic images that the classifier is sure of.",
    ),
    Metric(
        "rarest_class",
        "Rarest class",
        1,
        "higher",
        "share",
        PROBABILITIES,
        rarest_class,
        cannot_detect="Does not detect unrealistic images, nor a lack of variety within a class.",
    ),
)
