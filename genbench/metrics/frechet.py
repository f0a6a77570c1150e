"""Squared Frechet distance of two Gaussians fitted to features (Heusel et al. 2017, eq. 6).

    FD = |m_f - m_r|^2 + tr(S_f + S_r - 2 (S_f S_r)^(1/2))

With X_f, X_r the centred features divided by sqrt(n - 1), S = X' X, and the last trace is the nuclear norm of X_f X_r'.
With X = Q R it is the nuclear norm of R_f R_r', at most D x D, which is exact up to rounding for any condition number,
also for n <= D, and 0 for identical sets. For many features, `covariance_trace` is faster where that is accurate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.errors import GenbenchError
from genbench.metrics.arrays import ROW_BLOCK, Array, Known, checked_pair, checked_rows, normal_interval
from genbench.metrics.base import Metric, OfReference, Value
from genbench.metrics.computing import arithmetic
from genbench.metrics.covariance_trace import (
    EXACT,
    SMALL,
    Trace,
    Transport,
    gram_of_covariance,
    gram_of_roots,
    root_diagonal,
    trace_by_eigenvalues,
    trace_by_singular_values,
    trace_of_singular_values,
    transport_by_eigenvectors,
    transport_by_singular_vectors,
)
from genbench.metrics.degenerate import refuse_equal_rows
from genbench.metrics.parts import less
from genbench.metrics.readings import FEATURES
from genbench.metrics.second_order import pairs, variance

_CONDITION = 1e-8  # reciprocal condition number of a covariance from which on Cholesky's factor is used
_TEMPORARIES = 4  # float64 values in memory for each value of a block of rows


@dataclass(frozen=True)
class Moments:
    """Mean (D,) and a root R (min(n, D), D) of the covariance: R' R is the covariance divided by n - 1, float64."""

    mean: Array
    root: Array

    @property
    def spread(self) -> float:
        """The trace of the covariance."""
        return float(np.square(self.root).sum())


class SampleMoments:
    """The moments of rows (n, D), each computed when it is asked for."""

    def __init__(self, rows: NDArray[Any]) -> None:
        self.rows = rows
        self.mean: Array = rows.mean(axis=0, dtype=np.float64)

    @cached_property
    def squares(self) -> Array:
        """The sum of x x' over the rows minus the mean (D, D)."""
        at = arithmetic()
        return at.get(at.square_sums(centred_blocks(self.rows, self.mean), self.rows.shape[1]))

    @cached_property
    def root(self) -> Array:
        """As in Moments: the rows themselves where they are few; else by Cholesky or QR."""
        return _root_of_squares(self) / np.sqrt(len(self.rows) - 1)

    @property
    def moments(self) -> Moments:
        """Mean and root."""
        return Moments(self.mean, self.root)


def feature_moments(features: Any, name: str = "features") -> Moments:
    """The moments of features (n, D), n >= 2, a block of rows in float64 at a time; raises as `arrays.matrix`."""
    return SampleMoments(checked_rows(name, features, least=2)).moments


def _root_of_squares(sample: SampleMoments) -> Array:
    """R (min(n, D), D) with R' R = squares.

    The rows themselves where they are few; by Cholesky where D is large and the sum well conditioned, else by QR, which
    never forms the sum.
    """
    (n, d), at = sample.rows.shape, arithmetic()
    if n <= d:
        return np.concatenate(list(centred_blocks(sample.rows, sample.mean)))
    by_cholesky = _cholesky(sample.squares) if d > SMALL else None
    if by_cholesky is not None:
        return by_cholesky
    root = at.put(np.empty((0, d)))
    for block in centred_blocks(sample.rows, sample.mean):
        root = at.triangle(at.stacked(root, at.put(block)))
    return at.get(root)


def _cholesky(squares: Array) -> Array | None:
    """The root by Cholesky; None where it loses digits."""
    from scipy.linalg.lapack import dlange, dpocon  # late: reading a suite names metrics and must be fast

    at = arithmetic()
    there = at.cholesky(at.put(squares))
    if there is None:
        return None
    upper = at.get(there)
    norm = dlange("1", squares.T)  # type: ignore[call-arg]  # scipy-stubs has one parameter
    reciprocal, _ = dpocon(upper.T, norm, uplo="L")  # transposed, in Fortran's order: no copies
    return upper if reciprocal >= _CONDITION else None


def centred_blocks(rows: NDArray[Any], mean: Array) -> Iterator[Array]:
    """Blocks (., D) of rows (n, D) minus mean (D,), float64."""
    for part in arithmetic().blocks(len(rows), ROW_BLOCK, 8 * _TEMPORARIES * len(mean)):
        yield less(rows[part], mean)


def distance(fake: Moments, real: Moments) -> float:
    """Squared Frechet distance of two Gaussians, in squared units of the features; never negative."""
    spread = fake.spread + real.spread
    gram = gram_of_roots(fake.root, real.root)
    trace = trace_by_eigenvalues(gram, len(real.mean), spread) or trace_by_singular_values(fake.root, real.root, spread)
    return _distance_with(fake.mean - real.mean, spread, trace)


def _distance_with(shift: Array, spread: float, trace: Trace) -> float:
    """|m_f - m_r|^2 + tr(S_f + S_r) - 2 trace, not below 0 by rounding."""
    return max(0.0, float(np.square(shift).sum()) + spread - 2 * trace.value)


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
    return FrechetComparison(fake, feature_moments(real)).value


class FrechetComparison:
    """Features (N, D) against the moments of a reference: the distance, and what its interval needs."""

    def __init__(self, fake: NDArray[Any], real: Moments) -> None:
        self.fake, self.own, self.real = fake, SampleMoments(fake), real
        n, d = fake.shape
        by_covariance = n > d > SMALL
        if by_covariance:
            self.gram = gram_of_covariance(self.own.squares / (n - 1), real.root)
            own_spread = float(self.own.squares.trace()) / (n - 1)
        else:
            self.gram = gram_of_roots(self.own.root, real.root)
            own_spread = self.own.moments.spread
        self.spread = own_spread + real.spread

    @cached_property
    def trace(self) -> Trace:
        """The trace of the root of the product of the covariances."""
        fast = trace_by_eigenvalues(self.gram, len(self.real.mean), self.spread)
        return fast or trace_by_singular_values(self.own.root, self.real.root, self.spread)

    @property
    def value(self) -> float:
        """The squared distance."""
        return _distance_with(self.own.mean - self.real.mean, self.spread, self.trace)

    def with_transport(self) -> Transport:
        """The optimal transport map from fake to real; its singular values give the trace too."""
        if self.gram is None or self.trace.route == EXACT:
            transport = transport_by_singular_vectors(self.own.root, self.real.root)
            assert transport.singular is not None
            self.trace = trace_of_singular_values(transport.singular, self.spread)
            return transport
        return transport_by_eigenvectors(self.gram, self.own.root if self.gram.left else None, self.real.root)

    def effects(self) -> Array:
        """`first_derivatives` alone, by fewer operations where fake has few rows; the trace is then theirs too."""
        if len(self.fake) > self.fake.shape[1] or self.gram is not None:
            return first_derivatives(self, self.with_transport())
        at, root, free = arithmetic(), self.own.root, len(self.fake) - 1
        found = root_diagonal(at.put(root) @ at.put(self.real.root).T)
        if found is None:
            return first_derivatives(self, self.with_transport())
        self.trace = trace_of_singular_values(found.singular, self.spread)
        shift = (self.own.mean - self.real.mean) / np.sqrt(free)
        return free * (np.einsum("nd,nd->n", root + 2 * shift, root) - found.diagonal)


class Influence(NamedTuple):
    """The distance, the first-order effects of the fake rows (N,) up to a constant, E h^2, how the trace was computed.

    h: as in `second_order`.
    """

    value: float
    effects: Array
    second: float
    trace: Trace


def with_influence(fake: NDArray[Any], real: Moments) -> Influence:
    """The distance, its effects and second derivative in the weights of the checked fake rows (N, D)."""
    compared = FrechetComparison(fake, real)
    transport, rows = compared.with_transport(), pairs(len(fake)).rows
    turned = np.empty((len(rows), len(transport.spread)), transport.maps.dtype)
    effects = first_derivatives(compared, transport, rows, turned)
    return Influence(compared.value, effects, second_derivative(turned, transport, len(fake)), compared.trace)


def first_derivatives(
    compared: FrechetComparison,
    transport: Transport,
    kept: NDArray[np.int64] | None = None,
    turned: NDArray[Any] | None = None,
) -> Array:
    """The distance's effects (N,), up to a constant, in the weights of the fake rows (N, D).

    Its gradient is 2 (m_f - m_r) in the mean and I - T in S_f, T the optimal transport map from fake to
    real. With R_f R_r' = U diag(s) V' a row's x' T x is sum_k t_k^2 of t = diag(s)^(-1/2) V' R_r x: no covariance is
    inverted, and a direction in which fake does not vary (s_k = 0) contributes nothing. Where the
    rows of R_f are fake's divided by sqrt(n - 1), x' T x is n - 1 times the diagonal of (R_f R_r' R_r R_f')^(1/2).
    kept, turned: the t of the rows with these numbers (P,) are written into turned (P, K).
    """
    at, shift, maps = arithmetic(), compared.own.mean - compared.real.mean, transport.maps
    there, effects, start = at.put(maps), np.empty(len(compared.fake)), 0
    for rows in centred_blocks(compared.fake, compared.own.mean):
        part = slice(start, start + len(rows))
        found, start = at.put(rows.astype(maps.dtype, copy=False)) @ there, part.stop
        effects[part] = np.einsum("nd,nd->n", rows, rows) + 2 * (rows @ shift) - at.row_products(found, found)
        if kept is not None and turned is not None:
            here = np.flatnonzero((kept >= part.start) & (kept < part.stop))
            turned[here] = at.get(found[at.put(kept[here] - part.start)])
    return effects


def second_derivative(turned: NDArray[Any], transport: Transport, n: int) -> float:
    """E h^2 over `pairs` x, y of n fake rows, whose t(x) = A' (x - mean) are turned (P, K), with p = t(x) t(y).

    The part of the mean is 2 x' T y, and the trace's second derivative in S_f is divided by s_k s_l (s_k + s_l) in the
    coordinates V' R_r x, s the spread along A; p has each entry by itself:

        h = 2 sum_k p_k + sum_kl p_k p_l / (s_k + s_l) - sum_k (t_k(x)^2 + t_k(y)^2 - s_k) / 2
    """
    at, s, total = arithmetic(), transport.spread, 0.0
    over = at.put(1 / (s[:, None] + s))
    _, left, right = pairs(n)
    norms = np.einsum("nk,nk->n", turned, turned, dtype=np.float64) - s.sum(dtype=np.float64) / 2
    for part in at.blocks(len(left), ROW_BLOCK, 8 * _TEMPORARIES * 2 * len(transport.maps)):
        x, y = at.put(turned.take(left[part], axis=0)), at.put(turned.take(right[part], axis=0))
        p = x * y
        h = 2 * at.row_products(x, y) + at.row_products(p @ over, p) - (norms[left[part]] + norms[right[part]]) / 2
        total += float(np.square(h).sum())
    return total / len(left)


def reference_moments(real: Any) -> dict[str, Array]:
    """The fields of `moments` of a reference (M, D), which `fid` takes as `known`. Raises as `arrays.checked_rows`."""
    return vars(feature_moments(checked_rows("real", real, least=2)))


def fid(*, fake: Any, real: Any, known: Known = None) -> Value:
    """frechet_distance with an interval for its mean over draws of as many fake samples, the reference fixed.

    known: `reference_moments`; None: they are computed. The standard error is of first and second order:
    `second_order.variance`.
    """
    fake, real = checked_pair(fake, real)
    refuse_equal_rows("fid", "reference", real)
    return _with_interval(fake, Moments(**known) if known else feature_moments(real))


def fid_to_moments(*, fake: Any, reference: Moments) -> Value:
    """`fid` of features fake (N, D) to moments; raises as `arrays.checked_rows`, GenbenchError when D differs."""
    fake = checked_rows("fake", fake, least=2)
    if fake.shape[1] != len(reference.mean):
        raise GenbenchError(
            f"fake has {fake.shape[1]} features a row and the reference {len(reference.mean)}; must agree"
        )
    return _with_interval(fake, reference)


def _with_interval(fake: NDArray[Any], reference: Moments) -> Value:
    value, effects, second, trace = with_influence(fake, reference)
    how = "normal 95 %: +- 1.96 standard errors, first and second order in the generated samples, for the mean of FID "
    how += "at this number of samples, the reference fixed"
    if trace.route != EXACT:
        how += f"; the trace from {trace.route}, rounding error of FID at most {2 * trace.error:.1g}"
    return normal_interval(value, variance([effects], [second]), how, least=0.0)


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
