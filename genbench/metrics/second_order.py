"""The variance of a smooth statistic of samples, near its minimum too.

With T = linear + quadratic + ... in the samples (Efron and Stein 1981), and h(x, y) the second derivative of T in the
weights of two samples,

    var T = A + C        C = E h(x, y)^2 / (2 n^2)        the infinitesimal jackknife expects A + 2 C

so that the variance is the jackknife's minus C. The jackknife needs the first-order effects of the samples, and C the
mean of h^2 over pairs of them, of which a thousand are enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.metrics.arrays import Array
from genbench.metrics.computing import arithmetic

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


class DrawnPairs(NamedTuple):
    """Numbers of the rows that are needed (R,), and the pairs by position among these: (P,), (P,)."""

    rows: NDArray[np.int64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]


@lru_cache(maxsize=4)
def pairs(n: int) -> DrawnPairs:
    """About PAIRS pairs of two different rows of n >= 2: next to each other in a random order, then two apart, ..."""
    order = np.random.default_rng(SEED).permutation(n)
    shifts = range(1, min(-(-PAIRS // n), n - 1) + 1)
    positions = np.arange(min(n, PAIRS))
    right = np.concatenate([(positions + shift) % n for shift in shifts])[:PAIRS]
    return DrawnPairs(order[: PAIRS + 1], np.tile(positions, len(shifts))[:PAIRS], right)


def mean_square(plus: NDArray[Any], minus: NDArray[Any]) -> float:
    """E h^2 over pairs of different rows, where h(x, y) is p(x)' p(y) - q(x)' q(y) of rows p (N, K) and q (N, L)."""
    at, n = arithmetic(), len(plus)
    p, q = at.put(plus), at.put(minus)
    if n <= plus.shape[1] + minus.shape[1]:
        products = q @ q.T
        products -= p @ p.T
        total = at.square_sum(products)
    else:
        total = at.square_sum(p.T @ p) + at.square_sum(q.T @ q) - 2 * at.square_sum(p.T @ q)
    own = np.square(np.einsum("nk,nk->n", plus, plus) - np.einsum("nl,nl->n", minus, minus)).sum(dtype=np.float64)
    return max(0.0, float(total - own) / (n * (n - 1)))
