"""Clipped density and clipped coverage (Salvy, Talbot and Thirion 2025, sections 4 and 5), k = 5.

    clipped density    mean over fake rows of min(1, balls of real around it / k), over the same mean for real rows, at
                       most 1. The balls of real reach to the k-th nearest other row, but not beyond the median of these
                       distances: the large balls of outliers accept nothing.
    clipped coverage   c = mean over real rows of min(1, fake rows nearer than its k-th nearest other row / k). Reported
                       is the share of good samples at which c is to be expected: g(c), of m good samples among M.

Both fall linearly with the share of bad samples. With m of M fake rows from the reference's distribution, the number of
them inside the ball of a real row is beta-binomial (k, N - k), whatever the distribution, so that the expected c of
m = 0..M is known, and g inverts it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from genbench.errors import Degenerate
from genbench.metrics.arrays import Array
from genbench.metrics.base import Metric, Value
from genbench.metrics.degenerate import SAMPLES_A_NEIGHBOUR
from genbench.metrics.manifold import judged
from genbench.metrics.means import mean_interval
from genbench.metrics.neighbour_pass import NeighbourPass
from genbench.metrics.readings import NEIGHBOURS

K = 5


def expected_coverage(n: int, m: int, k: int = K) -> Array:
    """Expected c (M + 1,) when 0, 1, ..., m fake rows are draws from the distribution of the n reference rows.

    E min(J, k) is the sum over t = 1..k of P(J >= t), J beta-binomial.
    """
    from scipy.special import betaln, gammaln  # late: reading a suite names metrics and must be fast

    good, j = np.arange(m + 1.0)[:, None], np.arange(k)
    rest = np.maximum(good - j, 0.0)
    log_chosen = gammaln(good + 1) - gammaln(j + 1) - gammaln(rest + 1)
    mass = np.where(j <= good, np.exp(log_chosen + betaln(k + j, n - k + rest) - betaln(k, n - k)), 0.0)
    return np.asarray((1 - np.minimum(mass.cumsum(axis=1), 1.0)).sum(axis=1) / k)


def good_share(coverage: float, expected: Array) -> float:
    """g: the share of `expected_coverage` that is below this value, 0..1."""
    return float(np.searchsorted(expected, coverage) / len(expected))


def density_terms(near: NeighbourPass, k: int = K) -> Array:
    """min(1, balls around a fake row / k) over the mean of the same for real rows (N,); Degenerate when that is 0."""
    radii = near.radii("real", k)
    in_reach = near.real_others.squared[:, :k] <= np.minimum(radii, np.median(radii))[:, None]
    around = np.bincount(near.real_others.which[:, :k][in_reach], minlength=len(radii))
    at_best = np.minimum(around / k, 1.0).mean()
    if at_best == 0:
        raise Degenerate("clipped_density: no reference sample lies in a ball of another")
    return np.asarray(np.minimum(near.counts(f"clipped {k}").x / k, 1.0) / at_best)


def clipped_density(*, fake: Any, real: Any, near: NeighbourPass | None = None) -> Value:
    """Mean of `density_terms`, at most 1, with an interval over the fake samples; near as in `manifold.precision`.

    TooFewSamples for fewer than 50 rows; Degenerate when most balls of the reference have radius 0.
    """
    terms = density_terms(judged("clipped_density", fake, real, K, near))
    value = mean_interval(terms, "generated samples, the reference's balls fixed", least=0.0)
    return on_scale(value, lambda x: min(x, 1.0))


def on_scale(value: Value, change: Callable[[float], float]) -> Value:
    """The value and the ends of its interval, changed by an increasing function."""
    lo, hi = (None if end is None else change(end) for end in (value.lo, value.hi))
    return replace(value, value=change(value.value), lo=lo, hi=hi)


def clipped_coverage(*, fake: Any, real: Any, near: NeighbourPass | None = None) -> Value:
    """G of the mean over real samples, with an interval over these; near, errors as in `clipped_density`."""
    near = judged("clipped_coverage", fake, real, K, near)
    terms = np.minimum(near.counts(f"open {K}").y / K, 1.0)
    raw = mean_interval(terms, "reference samples, the generated samples fixed", least=0.0, most=1.0)
    expected = expected_coverage(len(near.real), len(near.fake))
    return on_scale(raw, lambda coverage: good_share(coverage, expected))


CLIPPED = (
    Metric(
        "clipped_density", "Clipped density", 1, "higher", "share", NEIGHBOURS, clipped_density,
        least=dict.fromkeys(("fake", "real"), SAMPLES_A_NEIGHBOUR * K),
        protocol={"k": K, "radii": "at most their median", "arithmetic": "decisions as in float64"},
        cannot_detect="Does not detect missing modes, nor samples that are all alike.",
    ),
    Metric(
        "clipped_coverage", "Clipped coverage", 1, "higher", "share", NEIGHBOURS, clipped_coverage,
        least=dict.fromkeys(("fake", "real"), SAMPLES_A_NEIGHBOUR * K),
        protocol={"k": K, "scale": "expected share of good samples", "arithmetic": "decisions as in float64"},
        cannot_detect="Does not detect whether bad samples or missing modes lower the value, nor copies.",
    ),
)  # fmt: skip
