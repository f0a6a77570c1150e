"""Inception Score: exp of the mean KL divergence of p(y|x) from its mean (Salimans et al. 2016).

Between 1 and the number of classes K. The rows are shuffled before they are split, so that their order, for
example class by class, does not matter. The value is the mean over splits and depends on their number at small N.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from genbench.errors import GenbenchError, TooFewSamples
from genbench.metrics.arrays import Array, matrix, normal_interval
from genbench.metrics.base import Metric, Value
from genbench.metrics.bootstrap import HALVES, RESAMPLING_SEED, RowNumbers, half_sample_variance
from genbench.metrics.readings import PROBABILITIES

_SPLITS, _SHUFFLE_SEED = 10, 2020
_LEAST = 10 * _SPLITS  # samples, below which a score is decided by their number


def divergences(p: Array) -> Array:
    """KL(p_i || mean of p) in nats of rows p (N, K): (N,), with 0 log 0 = 0."""
    ratio = np.divide(p, p.mean(axis=0), out=np.ones_like(p), where=p > 0)
    return (p * np.log(ratio)).sum(axis=1)


def shuffled_splits(probabilities: Any, splits: int, seed: int) -> list[Array]:
    """The shuffled rows in splits, as torch-fidelity splits them; raises as inception_score."""
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
    return [p[a:b] for a, b in pairwise(edges)]


def inception_score(*, probabilities: Any, splits: int = _SPLITS, seed: int = _SHUFFLE_SEED) -> float:
    """Mean over shuffled splits of exp(mean KL), probabilities (N, K); higher is better, 1..K.

    Raises GenbenchError for rows that are not distributions or splits outside 1..N; CellFailure for values that are not
    finite.

        probabilities = np.eye(10)[np.arange(1000) % 10]  # each of ten classes equally often, and certain
        metrics.inception_score(probabilities=probabilities, splits=1)  # 10.00
    """
    return float(np.mean([np.exp(divergences(p).mean()) for p in shuffled_splits(probabilities, splits, seed)]))


def half_variance(splits: Sequence[Array], parts: Sequence[Array], effects: Sequence[Array]) -> float:
    """Variance of the score over draws of probabilities in these splits (n_s, K) of 8 rows or more, by half-sampling.

    parts: their `divergences` (n_s,). A split's mean divergence is the entropy of its mean less the mean of its
    entropies, which follow from the divergences.
    """
    means = (p.mean(axis=0) for p in splits)
    inward = [-kl - p @ np.log(np.where(m > 0, m, 1.0)) for p, kl, m in zip(splits, parts, means, strict=True)]

    def sums(split: int, quarters: RowNumbers) -> Array:
        inside = np.zeros((len(quarters), len(splits[split])))
        np.put_along_axis(inside, quarters, 1.0, axis=1)
        return np.concatenate([inside @ splits[split], (inside @ inward[split])[:, None]], axis=1)

    def statistic(halves: Sequence[Array], n: int) -> float:
        means = np.stack(halves) / n
        return float(np.exp(-neg_entropies(means[:, :-1]) - means[:, -1]).mean())

    return half_sample_variance(effects, sums, statistic)


def neg_entropies(p: Array) -> Array:
    """sum_k p_k log p_k of rows p (N, K), 0 log 0 = 0: (N,), nats."""
    return (p * np.log(np.where(p > 0, p, 1.0))).sum(axis=1)


def inception_score_value(*, probabilities: Any) -> Value:
    """inception_score with an interval for its mean over draws of as many samples, the classifier fixed."""
    n = len(probabilities)
    if n < _LEAST:
        raise TooFewSamples(
            f"is: {n} generated samples in {_SPLITS} splits; needs at least {_LEAST}, as a split of n scores at most n"
        )
    splits = shuffled_splits(probabilities, _SPLITS, _SHUFFLE_SEED)
    parts = [divergences(p) for p in splits]
    scores = np.exp([kl.mean() for kl in parts])
    value = float(scores.mean())
    if min(len(kl) for kl in parts) < 8:
        return Value(value)
    effects = [s * kl / len(parts) for s, kl in zip(scores, parts, strict=True)]
    how = f"normal 95 %: +- 1.96 standard errors by half-sampling within splits, B = {HALVES}, seed {RESAMPLING_SEED}"
    return normal_interval(value, half_variance(splits, parts, effects), how, least=1.0, most=splits[0].shape[1])


IS = Metric(
    name="is",
    title="IS",
    version=2,
    better="higher",
    unit="classes",
    reads=PROBABILITIES,
    compute=inception_score_value,
    least={"probabilities": _LEAST},
    protocol={"splits": _SPLITS, "shuffle_seed": _SHUFFLE_SEED, "arithmetic": "float64"},
    cannot_detect="Does not detect images alike within a class, unrealistic ones with a clear class, nor copies.",
)
