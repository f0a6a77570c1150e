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
from genbench.metrics.arrays import ROW_BLOCK, Array, matrix, normal_interval
from genbench.metrics.base import Metric, Value
from genbench.metrics.computing import arithmetic
from genbench.metrics.readings import PROBABILITIES
from genbench.metrics.second_order import mean_square, variance

_SPLITS, _SHUFFLE_SEED = 10, 2020
_ROWS = 500  # of which all pairs serve for the second order
_TEMPORARIES = 5  # float64 values in memory for each probability of a block
_LEAST = 10 * _SPLITS  # samples, below which a score is decided by their number


def divergences(p: Array) -> Array:
    """KL(p_i || mean of p) in nats of rows p (N, K): (N,), with 0 log 0 = 0."""
    at, (n, classes) = arithmetic(), p.shape
    parts = [p[part] for part in at.blocks(n, ROW_BLOCK, 8 * _TEMPORARIES * classes)]
    mean = at.put(sum(at.sums(at.put(rows), 0) for rows in parts) / n)
    return np.concatenate([at.sums(at.divergences(at.put(rows), mean), 1) for rows in parts])


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


def second_derivatives(splits: Sequence[Array], parts: Sequence[Array], scores: Array) -> Array:
    """E h^2 (S,) of the score of each split (n_s, K); parts: their `divergences` (n_s,), scores: exp of their means.

    With m the mean of p and a = KL - mean KL, h(p, q) = score (a(p) a(q) - sum_k p_k q_k / m_k + 1). Some rows of all
    splits serve for each, as all are draws of one distribution.
    """
    few = -(-_ROWS // len(splits))
    p, kl = [rows[:few] for rows in splits], np.concatenate([rows[:few] for rows in parts])
    m = np.mean([rows.mean(axis=0) for rows in splits], axis=0)
    scale = np.where(m > 0, 1 / np.sqrt(np.where(m > 0, m, 1)), 0)
    plus = np.column_stack([kl - np.concatenate(parts).mean(), np.ones(len(kl))]).astype(np.float32)
    minus = np.empty((len(kl), len(m)), dtype=np.float32)
    for rows, at in zip(p, np.split(minus, np.cumsum([len(rows) for rows in p])[:-1]), strict=True):
        np.multiply(rows, scale, out=at, casting="same_kind")
    return np.asarray(scores**2 * mean_square(plus, minus))


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
    effects = [s * kl / len(parts) for s, kl in zip(scores, parts, strict=True)]
    squares = second_derivatives(splits, parts, scores) / len(parts) ** 2
    how = "normal 95 %: +- 1.96 standard errors, first and second order in the samples of each split"
    return normal_interval(value, variance(effects, squares.tolist()), how, least=1.0, most=splits[0].shape[1])


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
