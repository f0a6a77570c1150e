"""The variance of a smooth statistic of samples, near its minimum too.

With T = linear + quadratic + ... in the samples (Efron and Stein 1981), and h(x, y) the second derivative of T in the
weights of two samples,

    var T = A + C        C = E h(x, y)^2 / (2 n^2)        the infinitesimal jackknife expects A + 2 C

so that the variance is the jackknife's minus C. The jackknife needs the first-order effects of the samples, and C the
mean of h^2 over pairs of them, of which a thousand are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genbench.metrics.arrays import Array

SEED = 2020
PAIRS = 1000  # of rows, where h has no closed form


def variance(effects: Sequence[Array], squares: Sequence[float]) -> float:
    """Of a statistic of independent samples in strata: the jackknife's minus C, at least half of it, as A >= 0.

    effects: each stratum's first-order effects (n_s,), a sample's change of the statistic times n_s, up to a constant.
    squares: each stratum's E h^2.
    """
    first = first_order_variance(effects)
    second = sum(square / (2 * len(e) ** 2) for e, square in zip(effects, squares, strict=True))
    return max(first - second, first / 2)


def first_order_variance(effects: Sequence[Array]) -> float:
    """The variance of the sum over strata of the means of effects (n_s,): the infinitesimal jackknife's."""
    return float(sum(e.var(ddof=1) / len(e) for e in effects))


def pairs(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of two different rows of n >= 2, of about PAIRS pairs: (P,), (P,)."""
    order = np.random.default_rng(SEED).permutation(n)
    shifts = range(1, min(-(-PAIRS // n), n - 1) + 1)
    other = np.concatenate([np.roll(order, -shift) for shift in shifts])[:PAIRS]
    return np.tile(order, len(shifts))[:PAIRS], other


def mean_square(vectors: NDArray[Any], signs: NDArray[Any]) -> float:
    """E h^2 over pairs of different rows, where h(x, y) is the sum over k of signs_k x_k y_k of vectors (N, K)."""
    n, k = vectors.shape
    if n <= k:
        total = np.square((vectors * signs) @ vectors.T).sum(dtype=np.float64)
    else:
        total = signs @ np.square(vectors.T @ vectors) @ signs
    own = np.square(np.square(vectors) @ signs).sum(dtype=np.float64)
    return max(0.0, float(total - own) / (n * (n - 1)))
