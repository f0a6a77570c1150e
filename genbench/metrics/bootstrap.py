"""Intervals of a mean by resampling its terms."""

from __future__ import annotations

import numpy as np

from genbench.metrics.arrays import Array
from genbench.metrics.base import Value

RESAMPLING_SEED = 2020
REPLICATES = 1000  # of a mean
FEW = 20  # below this many samples a bootstrap repeats itself
_BLOCK = 2**18  # numbers drawn at a time


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
