"""The trace of the root of a product of two covariances, tr (S_f S_r)^(1/2), by the fastest route that is accurate.

With S = R' R it is the sum of the singular values of R_f R_r', which is exact up to rounding for any condition number.
Where there are many features, the roots of the eigenvalues of its Gram matrix on the smaller side are faster: squaring
loses digits of small singular values, by a known bound, and where that is too large the singular values are computed.
R_r S_f R_r' is such a Gram matrix too; it needs no root of S_f.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.metrics.arithmetic import Block
from genbench.metrics.arrays import Array
from genbench.metrics.computing import arithmetic

EXACT = "singular values"
SMALL = 256  # features up to which singular values take no time
TOLERANCE = 1e-8  # of the sum of both covariances' traces: largest rounding error of the eigenvalues' route
_FLOOR = 1e-3  # of the largest singular value: below, float32 cannot tell singular vectors apart
_ROUNDING = 1e-12  # of the largest singular value: rounding
_DISTINCT = 1e-5  # of the largest singular value: above, a Gram matrix's vectors lose no digits of the sum
_PROBES = 16  # vectors that estimate a norm
_ROUNDINGS = 10 * np.finfo(np.float64).eps  # of the norms' product: rounding of a Gram matrix and its eigenvalues


class Trace(NamedTuple):
    """The trace, the bound of its rounding error, and how it was computed."""

    value: float
    error: float
    route: str


class Transport(NamedTuple):
    """The optimal transport map T from N(0, S_f) to N(0, S_r) as A (D, K) with A A' = T.

    spread: variances (K,) of the fake rows along the columns of A, which are the singular values of R_f R_r'.
    singular: all of these where they are exact, else None.
    """

    maps: NDArray[Any]
    spread: NDArray[Any]
    singular: Array | None


class RootDiagonal(NamedTuple):
    """The diagonal (n,) of (M M')^(1/2) of a matrix M (n, m), and its singular values above 0."""

    diagonal: Array
    singular: Array


class Gram(NamedTuple):
    """A Gram matrix of R_f R_r': A A' (left) or A' A, where it computes, and the product of both covariances' norms."""

    matrix: Block
    left: bool
    norms: float


def gram_of_roots(fake: Array, real: Array) -> Gram | None:
    """Of roots R_f (n, D) and R_r (m, D), on the smaller side; None where that is small."""
    if min(len(fake), len(real)) <= SMALL:
        return None
    at, left = arithmetic(), len(fake) <= len(real)
    across = at.put(fake) @ at.put(real).T
    return Gram(across @ across.T if left else across.T @ across, left, _norm(fake) * _norm(real))


def gram_of_covariance(fake: Array, real: Array) -> Gram | None:
    """Of a covariance S_f (D, D) and a root R_r (m, D), on the right side; None where that is small."""
    if len(real) <= SMALL:
        return None
    at = arithmetic()
    root, covariance = at.put(real), at.put(fake)
    triangular = len(real) == len(fake) and not any(row[:i].any() for i, row in enumerate(real))
    matrix = at.congruence(root, covariance) if triangular else root @ covariance @ root.T
    return Gram(matrix, False, float(np.linalg.norm(fake)) * _norm(real))


def trace_by_eigenvalues(gram: Gram | None, features: int, spread: float) -> Trace | None:
    """The trace, where its error is at most TOLERANCE of the sum of both covariances' traces, spread; else None."""
    if gram is None:
        return None
    values = arithmetic().eigenvalues(gram.matrix)
    values = values[1:] if len(values) < features else values  # fewer rows than features: centred, so one is 0
    rounding = _ROUNDINGS * gram.norms
    roots = np.sqrt(np.maximum(values, 0.0))
    error = np.minimum(np.sqrt(rounding), rounding / (2 * np.maximum(roots, np.finfo(np.float64).tiny)))
    found = Trace(float(roots.sum()), float(error.sum()), "eigenvalues")
    return found if found.error <= TOLERANCE * spread else None


def trace_by_singular_values(fake: Array, real: Array, spread: float) -> Trace:
    """The trace from roots R_f (n, D) and R_r (m, D)."""
    at = arithmetic()
    return trace_of_singular_values(at.singular_values(at.put(fake) @ at.put(real).T), spread)


def trace_of_singular_values(singular: Array, spread: float) -> Trace:
    """The trace from the singular values of R_f R_r'."""
    return Trace(float(singular.sum()), float(np.finfo(np.float64).eps * len(singular) * spread), EXACT)


def transport_by_singular_vectors(fake: Array, real: Array) -> Transport:
    """From roots R_f (n, D) and R_r (m, D): A = R_r' V diag(s)^(-1/2), V, s of R_f R_r' = U diag(s) V'."""
    at = arithmetic()
    root = at.put(real)
    s, v = (at.get(part) for part in at.right_singular(at.put(fake) @ root.T))
    there = s > s.max(initial=0.0) * _ROUNDING
    return Transport(at.get(root.T @ at.put(v[there].T / np.sqrt(s[there]))), s[there], s)


def root_diagonal(across: Block) -> RootDiagonal | None:
    """Of R_f R_r' (n, m), there, R_f being centred rows and so being R_r where m < n: by its smaller Gram matrix.

    The singular values are lengths of products with the Gram matrix's vectors, without the first, which is 0 as the
    rows are centred. Errors of the vectors change their sum in second order; None where that is not below rounding,
    because some are small beside the largest.
    """
    at = arithmetic()
    matrix = across if across.shape[0] > across.shape[1] else across.T
    vectors = at.eigenvectors(matrix.T @ matrix)[1][:, 1:]
    turned = matrix @ vectors
    squares = turned * turned
    s = at.get(squares.sum(axis=0)) ** 0.5
    if s.min() <= s.max() * _DISTINCT:
        return None
    if matrix is across:
        return RootDiagonal(at.get(squares @ at.put(1 / s)), s)
    return RootDiagonal(at.get((vectors * vectors) @ at.put(s)), s)


def transport_by_eigenvectors(gram: Gram, fake: Array | None, real: Array) -> Transport:
    """The same from a Gram matrix, in float32; fake: R_f, for a matrix of the left side.

    That is precise enough for the spread of the effects of samples, small s being raised to _FLOOR of the largest.
    """
    at = arithmetic()
    root = at.single(at.put(real))
    squares, vectors = at.coarse_eigenvectors(at.single(gram.matrix))
    s = (squares.clip(min=float(squares[-1]) * _FLOOR**2)) ** 0.5
    if gram.left:
        assert fake is not None
        vectors = root @ (at.single(at.put(fake)).T @ (vectors / s))
    return Transport(at.get(root.T @ (vectors / s**0.5)), at.get(s), None)


def _norm(root: Array) -> float:
    """Frobenius norm of R' R, estimated from |R' R g|^2 of normal g; within about a third."""
    probes = np.random.default_rng(0).standard_normal((root.shape[1], _PROBES))
    return float(np.sqrt(np.square(root.T @ (root @ probes)).sum() / _PROBES))
