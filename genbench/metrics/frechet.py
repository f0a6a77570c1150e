"""Squared Frechet distance of two Gaussians fitted to features (Heusel et al. 2017, eq. 6).

    FD = |m_f - m_r|^2 + tr(S_f + S_r - 2 (S_f S_r)^(1/2))

With X_f, X_r the centred features divided by sqrt(n - 1), S = X' X, and the last trace is the nuclear norm of X_f X_r'.
X = Q R turns it into the nuclear norm of R_f R_r', at most D x D: no covariance is formed or inverted, so the distance
is exact to rounding whatever the condition, for n <= D too, and identical sets give 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genbench.metrics.arrays import Array, matrix, pair, with_normal_interval
from genbench.metrics.base import FEATURES, Metric, Value


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and a root R (min(n, D), D) of the covariance: R' R is the covariance divided by n - 1, float64."""

    mean: Array
    root: Array


def moments(features: Any, name: str = "features") -> Moments:
    """The moments of features (n, D), n >= 2; raises as `arrays.matrix`."""
    rows = matrix(name, features, least=2)
    mean = rows.mean(axis=0)
    scaled = (rows - mean) / np.sqrt(len(rows) - 1)
    return Moments(mean, np.asarray(np.linalg.qr(scaled, mode="r")))


def distance(fake: Moments, real: Moments) -> float:
    """Squared Frechet distance of two Gaussians, in squared units of the features; never negative."""
    spread = np.square(fake.root).sum() + np.square(real.root).sum()
    return combine(fake.mean - real.mean, spread, np.linalg.svd(fake.root @ real.root.T, compute_uv=False))


def combine(shift: Array, spread: float, singular: NDArray[np.floating[Any]]) -> float:
    """|shift|^2 + tr(S_f + S_r) - 2 sum of the singular values of R_f R_r', not below 0 by rounding."""
    return max(0.0, float(np.square(shift).sum() + spread - 2 * singular.sum()))


def frechet_distance(*, fake: Any, real: Any) -> float:
    """Squared Frechet distance of features fake (N, D) and real (M, D); 0 is best, biased upwards at small N or M.

    Raises GenbenchError for shapes that do not fit or fewer than two rows, CellFailure for values that are not finite.
    """
    fake, real = pair(fake, real)
    return distance(moments(fake), moments(real))


def with_influence(fake: Array, real: Moments) -> tuple[float, Array]:
    """The distance, and (N,) the first-order effect of each fake row on it up to a constant.

    The distance's gradient is 2 (m_f - m_r) in the mean and I - T in S_f, T the optimal transport map from fake to
    real. With fake = Q R and R R_r' = U diag(s) V', a row's x' T x is (N - 1) sum_k s_k (Q U)_k^2: no inverse.
    """
    mean = fake.mean(axis=0)
    rows = fake - mean
    q, root = np.linalg.qr(rows / np.sqrt(len(rows) - 1))
    u, s, _ = np.linalg.svd(root @ real.root.T, full_matrices=False)
    squares, shift = np.square(rows).sum(axis=1), mean - real.mean
    effects = 2 * rows @ shift + squares - (len(rows) - 1) * np.square(q @ u) @ s
    return combine(shift, squares.sum() / (len(rows) - 1) + np.square(real.root).sum(), s), effects


def fid(*, fake: Any, real: Any) -> Value:
    """frechet_distance with an interval over the fake samples, the reference fixed."""
    fake, real = pair(fake, real)
    value, effects = with_influence(fake, moments(real))
    how = "of the first-order effect of each generated sample, the reference fixed; small-sample bias not included"
    return with_normal_interval(value, effects, how, least=0.0)


FID = Metric(
    name="fid",
    title="FID",
    version=1,
    better="lower",
    unit="feature^2",
    reads=FEATURES,
    compute=fid,
    protocol={"covariance": "divided by n - 1", "arithmetic": "float64"},
)
