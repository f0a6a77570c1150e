"""The trace of the root of a product of two covariances, tr (S_f S_r)^(1/2), by the fastest route that is accurate.

With S = R' R it is the sum of the singular values of R_f R_r', which is exact up to rounding for any condition number.
Where there are many features, the roots of the eigenvalues of its Gram matrix on the smaller side are faster: squaring
loses digits of small singular values, by a known bound, and where that is too large the singular values are computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.metrics.arrays import Array

EXACT = "singular values"
SMALL = 256  # features up to which singular values take no time
TOLERANCE = 1e-8  # of the sum of both covariances' traces: largest rounding error of the eigenvalues' route
_FLOOR = 1e-3  # of the largest singular value: below, float32 cannot tell singular vectors apart
_ROUNDING = 1e-12  # of the largest singular value: rounding
_PROBES = 16  # vectors that estimate a norm
_ROUNDINGS = 10 * np.finfo(np.float64).eps  # of the norms' product: rounding of a Gram matrix and its eigenvalues


class Trace(NamedTuple):
    """The trace, the bound of its rounding error, and how it was computed."""

    value: float
    error: float
    route: str


def trace_of_root(fake: Array, real: Array) -> Trace:
    """Tr (S_f S_r)^(1/2) of roots R_f (n, D) and R_r (m, D) of covariances R' R."""
    spread = float(np.square(fake).sum() + np.square(real).sum())
    if min(len(fake), len(real)) > SMALL:
        found = _by_eigenvalues(fake, real)
        if found.error <= TOLERANCE * spread:
            return found
    singular = np.linalg.svd(fake @ real.T, compute_uv=False)
    return Trace(float(singular.sum()), float(np.finfo(np.float64).eps * len(singular) * spread), EXACT)


def _by_eigenvalues(fake: Array, real: Array) -> Trace:
    values = eigenvalues(gram(fake, real))
    values = values[1:] if len(values) < fake.shape[1] else values  # fewer rows than features: centred, so one is 0
    rounding = _ROUNDINGS * _norm(fake) * _norm(real)
    roots = np.sqrt(np.maximum(values, 0.0))
    error = np.minimum(np.sqrt(rounding), rounding / (2 * np.maximum(roots, np.finfo(np.float64).tiny)))
    return Trace(float(roots.sum()), float(error.sum()), "eigenvalues")


def gram(fake: Array, real: Array) -> Array:
    """R_f R_r' times its transpose, on the smaller side."""
    across = fake @ real.T
    return np.asarray(across @ across.T if len(fake) <= len(real) else across.T @ across)


def transport_roots(fake: Array, real: Array, route: str) -> NDArray[np.floating[Any]]:
    """A (D, K) with A A' = T, the optimal transport map from N(0, S_f) to N(0, S_r), as (R_r' V) diag(s)^(-1/2).

    V, s: right singular vectors and values of R_f R_r'. After the route of eigenvalues they are computed in float32,
    which is precise enough for the spread of the effects of samples, small s being raised to _FLOOR of the largest.
    """
    if route == EXACT:
        _, s, v = np.linalg.svd(fake @ real.T, full_matrices=False)
        there = s > s.max(initial=0.0) * _ROUNDING
        return np.asarray(real.T @ (v[there].T / np.sqrt(s[there])))
    import torch  # late, as below

    across = (fake @ real.T).astype(np.float32)
    left = len(fake) <= len(real)
    squares, vectors = torch.linalg.eigh(torch.from_numpy(across @ across.T if left else across.T @ across))
    s = squares.clamp(min=float(squares[-1]) * _FLOOR**2).sqrt().numpy()
    right = across.T @ (vectors.numpy() / s) if left else vectors.numpy()
    return np.asarray(real.T.astype(np.float32) @ (right / np.sqrt(s)))


def eigenvalues(symmetric: Array) -> Array:
    """Of a symmetric matrix, in increasing order, by torch: twice as fast as NumPy's."""
    import torch  # late: reading a suite names metrics and must be fast

    return np.asarray(torch.linalg.eigvalsh(torch.from_numpy(symmetric)))


def _norm(root: Array) -> float:
    """Frobenius norm of R' R, estimated from |R' R g|^2 of normal g; within about a third."""
    probes = np.random.default_rng(0).standard_normal((root.shape[1], _PROBES))
    return float(np.sqrt(np.square(root.T @ (root @ probes)).sum() / _PROBES))
