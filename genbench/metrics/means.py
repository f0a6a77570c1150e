"""The mean of a number per image, with an interval in closed form that takes the numbers' skewness into account."""

from __future__ import annotations

import numpy as np

from genbench.metrics.arrays import Array
from genbench.metrics.base import Value

_FARTHEST = 2.0  # t quantiles: a set with one outlier says little about how far the tail reaches


def mean_interval(terms: Array, over: str, *, kind: str = "", least: float = -np.inf, most: float = np.inf) -> Value:
    """The mean of terms (N,) with a t interval corrected for skewness (Hall 1992, J. R. Stat. Soc. B 54, 221-228).

    No interval for a single one. least, most: the lowest and the highest possible mean.
    """
    value, n = float(terms.mean()), len(terms)
    if n < 2:
        return Value(value, kind=kind)
    centred = terms - value
    spread = float(np.sqrt(centred @ centred / n))
    standard = centred / spread if spread else centred
    skew, error = float(np.square(standard) @ standard) / n, spread / (n - 1) ** 0.5
    below, above = studentised(skew / n**0.5, t_quantile(n - 1))
    how = f"t 95 % over {over}, corrected for skewness (Hall 1992)"
    return Value(value, max(least, value - above * error), min(most, value - below * error), how, kind)


def studentised(a: float, t: float) -> tuple[float, float]:
    """The 2.5 % and 97.5 % quantiles of (mean - true mean) / standard error, for skewness a sqrt(N) of the terms.

    Hall's transformation T + a T^2 / 3 + a^2 T^3 / 27 + a / 6 of that ratio T has Student's quantiles -t and t up to
    terms of 1/N. Its inverse is 3 ((1 + a (t - a / 6))^(1/3) - 1) / a, here without a difference of almost equal
    numbers.
    """
    ends = []
    for quantile in (-t, t):
        shifted = quantile - a / 6
        root = float(np.cbrt(1 + a * shifted))
        ends.append(3 * shifted / (root * root + root + 1))
    return max(ends[0], -_FARTHEST * t), min(ends[1], _FARTHEST * t)


def t_quantile(freedom: int) -> float:
    """The 97.5 % quantile of Student's t."""
    from scipy.special import stdtrit  # late: reading a suite names metrics and must be fast

    return float(stdtrit(freedom, 0.975))
