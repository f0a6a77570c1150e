"""Intervals by resampling the generated samples: of a mean, and of a smooth statistic with a small-sample bias.

All intervals are for the *expected value at this number of samples*. A plain bootstrap of FID fails where FID is small:
a replicate is drawn from the sample itself and adds to the quadratic term that makes FID biased, so that the replicates
spread up to sqrt(3) times too widely, and more with many features (measured in docs/intervals.md). Halves that are
drawn without replacement have no such error. With T = linear + quadratic + ... in the samples (Efron and Stein 1981),

    var T(n) = A + C        J = E (T_a - T_b)^2 / 4 = A + 2 C        I = E (T_ab + T_cd - T_ac - T_bd)^2 / 8 = C

T_a and T_b are of the two halves of a split of the sample; a, b, c, d are the quarters of another. Hence var T = J - I.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from genbench.metrics.arrays import Array
from genbench.metrics.base import Value

RESAMPLING_SEED = 2020
REPLICATES = 1000  # of a mean
QUARTERINGS = 20  # of a smooth statistic
HALVES = 6 * QUARTERINGS  # a quartering gives six halves
FEW = 20  # below this many samples a bootstrap repeats itself
_BLOCK = 2**18  # numbers drawn at a time
_CROSSED_SPLITS = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))  # quarters of the one half, and of the other

RowNumbers = NDArray[np.int64]
Sums = Callable[[int, RowNumbers], Array]  # of a stratum's number and sets of its rows (Q, size): sums over each (Q, K)
Statistic = Callable[[Sequence[Array], int], float]  # of each stratum's sums (K,), and over how many rows they are


def mean_interval(
    terms: Array,
    over: str,
    *,
    kind: str = "",
    least: float = -np.inf,
    most: float = np.inf,
    seed: int = RESAMPLING_SEED,
) -> Value:
    """The mean of terms (N,) with its bootstrap-t interval (Efron 1979; Hall 1988), asymmetric for skewed terms.

    The t interval below FEW terms, no interval for a single one. least, most: the lowest and the highest possible mean.
    """
    value, n = float(terms.mean()), len(terms)
    if n < 2:
        return Value(value, kind=kind)
    error, student = float(terms.std(ddof=1)) / n**0.5, t_quantile(n - 1)
    if n < FEW:
        lo, hi, how = -student, student, f"t 95 % over {over}"
    else:
        lo, hi = np.quantile(studentised(terms, 2 * student, seed), (0.025, 0.975))
        how = f"bootstrap-t 95 % over {over}, B = {REPLICATES}, seed {seed}"
    return Value(value, max(least, value - float(hi) * error), min(most, value - float(lo) * error), how, kind)


def studentised(terms: Array, limit: float, seed: int) -> Array:
    """(mean* - mean) / (s* / sqrt(N)) of resamples of terms (N,): (REPLICATES,), each within -limit..limit.

    A resample without the only outlier of a set has almost no spread; the limit bounds its influence.
    """
    centred, n = terms - terms.mean(), len(terms)
    rng, ratios = np.random.default_rng(seed), []
    step = max(1, _BLOCK // n)
    for start in range(0, REPLICATES, step):
        drawn = centred[rng.integers(n, size=(min(step, REPLICATES - start), n), dtype=np.int32)]
        mean, squares = drawn.mean(axis=1), np.einsum("bn,bn->b", drawn, drawn) / n
        spread = np.sqrt(np.maximum(squares - np.square(mean), 0.0) / (n - 1))
        most = limit * spread
        ratios.append(np.divide(mean, spread, out=limit * np.sign(mean), where=np.abs(mean) < most))
    return np.concatenate(ratios)


def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t."""
    from scipy.special import stdtrit  # late: reading a suite names metrics and must be fast

    return float(stdtrit(freedom, 0.975))


def quarters(sizes: Sequence[int], count: int, seed: int) -> list[RowNumbers]:
    """`count` random quarterings of strata of these sizes: of each stratum the rows of every quarter (4 count, size).

    Four quarters in turn are disjoint. All have a quarter of the smallest stratum's size, rounded down; the rest is
    left out.
    """
    rng, size = np.random.default_rng(seed), min(sizes) // 4
    drawn = [[rng.permutation(n)[: 4 * size].reshape(4, size) for n in sizes] for _ in range(count)]
    return [np.concatenate(stratum) for stratum in zip(*drawn, strict=True)]


def half_sample_variance(
    effects: Sequence[Array],
    sums: Sums,
    statistic: Statistic,
    *,
    count: int = QUARTERINGS,
    seed: int = RESAMPLING_SEED,
) -> float:
    """The variance of a statistic of independent samples in strata: J - I above, at least J / 2, as A is at least 0.

    effects: each stratum's first-order effects (n_s,), a sample's change of the statistic times n_s, up to a constant;
    their part of J is inserted exactly, and the halves estimate the rest. statistic: a function of sums over the rows
    of each stratum, so that each quarter is added up once for all halves that contain it.
    Each stratum needs 8 rows.
    """
    centred = [e - e.mean() for e in effects]
    drawn = quarters([len(e) for e in effects], count, seed)
    totals, size = [sums(s, rows) for s, rows in enumerate(drawn)], 2 * drawn[0].shape[1]
    linear = sum(e[rows].sum(axis=1) for e, rows in zip(centred, drawn, strict=True)) / size
    rest, interactions = [], []
    for start in range(0, 4 * count, 4):
        both = []
        for (i, j), (k, m) in _CROSSED_SPLITS:
            one, other = ([t[start + p] + t[start + q] for t in totals] for p, q in ((i, j), (k, m)))
            a, b = statistic(one, size), statistic(other, size)
            change = linear[start + i] + linear[start + j] - linear[start + k] - linear[start + m]
            rest.append((a - b) ** 2 - change**2)
            both.append(a + b)
        interactions += [(x - y) ** 2 for x, y in combinations(both, 2)]
    variance = max(0.0, first_order_variance(centred) + float(np.mean(rest)) / 4)
    return max(variance - float(np.mean(interactions)) / 8, variance / 2)


def first_order_variance(effects: Sequence[Array]) -> float:
    """The variance of the sum over strata of the means of effects (n_s,): the infinitesimal jackknife's."""
    return float(sum(e.var(ddof=1) / len(e) for e in effects))
