"""Inception Score: exp of the mean KL divergence of p(y|x) from its mean (Salimans et al. 2016).

Between 1 and the number of classes K. The rows are shuffled before they are split, so that samples saved class by
class score as any others; the value is the mean over splits and depends on their number at small N.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from genbench.errors import GenbenchError
from genbench.metrics.arrays import Z95, Array, matrix
from genbench.metrics.base import PROBABILITIES, Metric, Value

SPLITS, SEED = 10, 2020


def divergences(p: Array) -> Array:
    """KL(p_i || mean of p) in nats of rows p (N, K): (N,), with 0 log 0 = 0."""
    ratio = np.divide(p, p.mean(axis=0), out=np.ones_like(p), where=p > 0)
    return (p * np.log(ratio)).sum(axis=1)


def split_divergences(probabilities: Any, splits: int, seed: int) -> list[Array]:
    """The divergences within each split of the shuffled rows, split as torch-fidelity does."""
    p = matrix("probabilities", probabilities, least=1)
    off = float(np.abs(p.sum(axis=1) - 1).max())
    if p.min() < 0 or off > 1e-3:
        raise GenbenchError(
            f"probabilities: rows must be at least 0 and sum to 1; found {p.min():.3g}, sum off {off:.3g}"
        )
    if not 1 <= splits <= len(p):
        raise GenbenchError(f"splits: found {splits}, allowed: 1..{len(p)} (the number of samples)")
    p = p[np.random.RandomState(seed).permutation(len(p))]
    edges = [i * len(p) // splits for i in range(splits + 1)]
    return [divergences(p[a:b]) for a, b in pairwise(edges)]


def inception_score(*, probabilities: Any, splits: int = SPLITS, seed: int = SEED) -> float:
    """Mean over shuffled splits of exp(mean KL), probabilities (N, K); higher is better, 1..K.

    Raises GenbenchError for rows that are no distributions or splits outside 1..N; CellFailure for values that are not
    finite.
    """
    return float(np.mean([np.exp(kl.mean()) for kl in split_divergences(probabilities, splits, seed)]))


def score(*, probabilities: Any) -> Value:
    """inception_score with an interval over the samples, the classifier fixed."""
    parts = split_divergences(probabilities, SPLITS, SEED)
    scores = np.exp([kl.mean() for kl in parts])
    value = float(scores.mean())
    if min(len(kl) for kl in parts) < 2:
        return Value(value)
    errors = [s * kl.std(ddof=1) / np.sqrt(len(kl)) for s, kl in zip(scores, parts, strict=True)]
    half = Z95 * float(np.sqrt(np.square(errors).sum())) / len(parts)
    how = "normal 95 %: +- 1.96 standard errors of the first-order effect of each sample, within splits"
    return Value(value, max(1.0, value - half), value + half, how)


IS = Metric(
    name="is",
    title="IS",
    version=1,
    better="higher",
    unit="classes",
    reads=PROBABILITIES,
    compute=score,
    protocol={"splits": SPLITS, "shuffle_seed": SEED, "arithmetic": "float64"},
)
