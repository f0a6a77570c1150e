"""Metrics with their intervals on 2,000 fake and 2,000 real rows of 64 features: `make bench`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from genbench.registry import METRICS

N, D, CLASSES = 2_000, 64, 10
NAMES = (
    "fid", "fd_infinity", "kid", "kid_subsets", "mind", "is", "precision", "recall", "density", "coverage",
    "clipped_density", "clipped_coverage", "vendi", "rke", "sliced_wasserstein", "memorised", "authenticity",
    "ct_score",
)  # fmt: skip


def rows(seed: int, shift: float = 0.0) -> np.ndarray:
    """Features (N, D): Gaussian, with a spread that falls from one feature to the next."""
    return shift + np.random.default_rng(seed).normal(size=(N, D)) / np.sqrt(1 + np.arange(D))


def given(reads: str) -> dict[str, Any]:
    """The arguments of a metric that reads this."""
    fake, real = rows(1, shift=0.1), rows(2)
    scores = np.exp(2 * rows(3)[:, :CLASSES])
    unit = {name: np.clip(0.5 + 0.2 * x, 0, 1) for name, x in (("fake", fake), ("real", real))}
    return {
        "features": {"fake": fake, "real": real},
        "neighbours": {"fake": fake, "real": real},
        "generated": {"fake": fake},
        "pixels": unit,
        "memory": {"fake": fake, "train": real, "held_out": rows(4)},
        "probabilities": {"probabilities": scores / scores.sum(1, keepdims=True)},
    }[reads]


@pytest.mark.parametrize("name", NAMES)
def test_metric(benchmark, name: str):
    metric = METRICS[name]
    with threadpool_limits(1):
        benchmark(metric.compute, **given(metric.reads.name))
