"""Squared Frechet distance of two Gaussians fitted to features (Heusel et al. 2017, eq. 6).

    FD = |m_f - m_r|^2 + tr(S_f + S_r - 2 (S_f S_r)^(1/2))

With X_f, X_r the centred features divided by sqrt(n - 1), S = X' X, and the last trace is the nuclear norm of X_f X_r'.
With X = Q R it is the nuclear norm of R_f R_r', at most D x D, which is exact up to rounding for any condition number,
also for n <= D, and 0 for identical sets. For many features, `covariance_trace` is faster where that is accurate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.errors import GenbenchError
from genbench.metrics.arrays import (
    ROW_BLOCK,
    Array,
    Known,
    checked_pair,
    checked_rows,
    normal_interval,
    with_normal_interval,
)
from genbench.metrics.base import Metric, OfReference, Value
from genbench.metrics.bootstrap import FEW, HALVES, RESAMPLING_SEED, RowNumbers, half_sample_variance
from genbench.metrics.covariance_trace import EXACT, SMALL, Trace, trace_of_root, transport_roots
from genbench.metrics.degenerate import refuse_equal_rows
from genbench.metrics.readings import FEATURES

_CONDITION = 1e-8  # reciprocal condition number of a covariance from which on Cholesky's factor is used
_AFFORDABLE = 2e10  # multiplications of all halves: some seconds on one core
_OF_WHAT = "for the mean of FID at this number of samples, the reference fixed"


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and a root R (min(n, D), D) of the covariance: R' R is the covariance divided by n - 1, float64."""

    mean: Array
    root: Array


def feature_moments(features: Any, name: str = "features") -> Moments:
    """The moments of features (n, D), n >= 2, a block of rows in float64 at a time; raises as `arrays.matrix`."""
    rows = checked_rows(name, features, least=2)
    mean = rows.mean(axis=0, dtype=np.float64)
    return Moments(mean, root_of_squares(rows, mean) / np.sqrt(len(rows) - 1))


def root_of_squares(rows: NDArray[Any], mean: Array) -> Array:
    """R (min(n, D), D) with R' R the sum of x x' over the rows (n, D) minus the mean.

    The rows themselves where they are few; by Cholesky where D is large and the sum well conditioned, else by QR, which
    never forms the sum.
    """
    n, d = rows.shape
    if n <= d:
        return np.concatenate(list(centred_blocks(rows, mean)))
    root = _cholesky(rows, mean) if d > SMALL else None
    if root is None:
        root = np.empty((0, d))
        for block in centred_blocks(rows, mean):
            root = np.asarray(np.linalg.qr(np.concatenate([root, block]), mode="r"))
    return root


def _cholesky(rows: NDArray[Any], mean: Array) -> Array | None:
    """The root by Cholesky; None where it loses digits."""
    from scipy.linalg.lapack import dpocon  # late: reading a suite names metrics and must be fast

    squares = np.zeros((rows.shape[1], rows.shape[1]))
    for block in centred_blocks(rows, mean):
        squares += block.T @ block
    try:
        upper: Array = np.linalg.cholesky(squares).T.astype(np.float64, copy=False)
    except np.linalg.LinAlgError:
        return None
    reciprocal, _ = dpocon(upper, np.abs(squares).sum(axis=0).max())
    return upper if reciprocal >= _CONDITION else None


def centred_blocks(rows: NDArray[Any], mean: Array) -> Iterator[Array]:
    """Blocks (., D) of rows (n, D) minus mean (D,), float64."""
    for i in range(0, len(rows), ROW_BLOCK):
        yield rows[i : i + ROW_BLOCK] - mean


def distance(fake: Moments, real: Moments) -> float:
    """Squared Frechet distance of two Gaussians, in squared units of the features; never negative."""
    return _distance_with(fake, real, trace_of_root(fake.root, real.root).value)


def _distance_with(fake: Moments, real: Moments, trace: float) -> float:
    """|m_f - m_r|^2 + tr(S_f + S_r) - 2 trace, not below 0 by rounding."""
    spread = float(np.square(fake.root).sum() + np.square(real.root).sum())
    return max(0.0, float(np.square(fake.mean - real.mean).sum()) + spread - 2 * trace)


def frechet_distance(*, fake: Any, real: Any) -> float:
    """Squared Frechet distance of features fake (N, D) and real (M, D); 0 is best, biased upwards at small N or M.

    Raises GenbenchError for shapes that do not fit or fewer than two rows, Degenerate when all rows of real are the
    same, CellFailure for values that are not finite.

        rng = np.random.default_rng(0)
        fake, real = rng.normal(0.5, 1, (400, 8)), rng.normal(0, 1, (500, 8))
        metrics.frechet_distance(fake=fake, real=real)  # 1.72
    """
    fake, real = checked_pair(fake, real)
    refuse_equal_rows("frechet_distance", "reference", real)
    return distance(feature_moments(fake), feature_moments(real))


class Influence(NamedTuple):
    """The distance, (N,) the first-order effect of each fake row on it up to a constant, how its trace was computed."""

    value: float
    effects: Array
    trace: Trace


def with_influence(fake: NDArray[Any], real: Moments) -> Influence:
    """The distance and the effects of the fake rows (N, D).

    The distance's gradient is 2 (m_f - m_r) in the mean and I - T in S_f, T the optimal transport map from fake to
    real. With R_f R_r' = U diag(s) V' a row's x' T x is sum_k (V' R_r x)_k^2 / s_k: no covariance is inverted, and a
    direction in which fake does not vary (s_k = 0) contributes nothing.
    """
    own = feature_moments(fake)
    trace, shift = trace_of_root(own.root, real.root), own.mean - real.mean
    maps = transport_roots(own.root, real.root, trace.route)
    parts = [
        2 * rows @ shift + np.square(rows).sum(axis=1) - np.square(rows.astype(maps.dtype) @ maps).sum(axis=1)
        for rows in centred_blocks(fake, own.mean)
    ]
    return Influence(_distance_with(own, real, trace.value), np.concatenate(parts).astype(np.float64), trace)


def half_variance(fake: Array, real: Moments, effects: Array) -> float:
    """Variance of the distance over draws of fake (N, D), N >= 8: bootstrap.half_sample_variance.

    The trace is the sum of the roots of the eigenvalues of R_r S_f R_r', which is precise enough for a spread.
    """
    mean = fake.mean(axis=0, dtype=np.float64)
    rows, shift = fake - mean, mean - real.mean
    turned, squares, constant = rows @ real.root.T, np.square(rows).sum(axis=1), np.square(real.root).sum()

    def statistic(halves: Sequence[RowNumbers]) -> float:
        (half,) = halves
        part, n = turned[half], len(half)
        middle, off = part.mean(axis=0), rows[half].mean(axis=0)
        inner = (part.T @ part - n * np.outer(middle, middle)) / (n - 1)
        spread = constant + (squares[half].sum() - n * off @ off) / (n - 1)
        trace = float(np.sqrt(np.maximum(np.linalg.eigvalsh(inner), 0.0)).sum())
        return max(0.0, float(np.square(shift + off).sum() + spread) - 2 * trace)

    return half_sample_variance([effects], statistic)


def reference_moments(real: Any) -> dict[str, Array]:
    """The fields of `moments` of a reference (M, D), which `fid` takes as `known`. Raises as `arrays.checked_rows`."""
    return vars(feature_moments(checked_rows("real", real, least=2)))


def fid(*, fake: Any, real: Any, known: Known = None) -> Value:
    """frechet_distance with an interval for its mean over draws of as many fake samples, the reference fixed.

    known: `reference_moments`; None: they are computed.
    The standard error is by half-sampling, or of first order for fewer than FEW samples and where halves would take
    more than _AFFORDABLE multiplications; the latter is up to sqrt(2) too wide where the distance is near its minimum.
    """
    fake, real = checked_pair(fake, real)
    refuse_equal_rows("fid", "reference", real)
    return fid_to_moments(fake=fake, reference=Moments(**(known or reference_moments(real))))


def fid_to_moments(*, fake: Any, reference: Moments) -> Value:
    """`fid` of features fake (N, D) to moments; raises as `arrays.checked_rows`, GenbenchError when D differs."""
    fake = checked_rows("fake", fake, least=2)
    if fake.shape[1] != len(reference.mean):
        raise GenbenchError(
            f"fake has {fake.shape[1]} features a row and the reference {len(reference.mean)}; must agree"
        )
    value, effects, trace = with_influence(fake, reference)
    n, d = fake.shape
    if n < FEW or HALVES * d * d * (n / 2 + 10 * d) > _AFFORDABLE:
        how = f"of the first-order effect of each generated sample, {_OF_WHAT}; too wide where FID is near its least"
        if trace.route != EXACT:
            how += f"; the trace from {trace.route}, rounding error of FID at most {2 * trace.error:.1g}"
        return with_normal_interval(value, effects, how, least=0.0)
    how = f"normal 95 %: +- 1.96 standard errors by half-sampling, B = {HALVES}, seed {RESAMPLING_SEED}, {_OF_WHAT}"
    return normal_interval(value, half_variance(fake, reference, effects), how, least=0.0)


FID = Metric(
    name="fid",
    title="FID",
    version=3,
    better="lower",
    unit="feature^2",
    reads=FEATURES,
    compute=fid,
    least={"fake": 2, "real": 2},
    protocol={"covariance": "divided by n - 1", "arithmetic": "float64"},
    of_reference=OfReference("moments, roots by condition", reference_moments),
    cannot_detect="Does not detect differences beyond mean and covariance of the features, nor copies of train images.",
)
