"""Kernel distance: squared maximum mean discrepancy under k(x, y) = (x'y / D + 1)^3 (Binkowski et al. 2018, eq. 4).

    KD = mean_{i != j} k(f_i, f_j) + mean_{i != j} k(r_i, r_j) - 2 mean_{i, j} k(f_i, r_j)

Unbiased whatever the numbers of samples, hence slightly negative at times when the two distributions agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genbench.errors import GenbenchError
from genbench.metrics.arrays import Array, pair, with_normal_interval
from genbench.metrics.base import FEATURES, Metric, Value

BLOCK = 1024  # rows of the kernel matrix held at a time


def kernel(x: Array, y: Array) -> Array:
    """(x'y / D + 1)^3 of rows x (N, D) and y (M, D): (N, M)."""
    k = x @ y.T / x.shape[1] + 1.0
    return k * k * k


def row_sums(x: Array, y: Array) -> Array:
    """Sums over y (M, D) of k(x_i, y_j): (N,), without holding the whole matrix."""
    return np.concatenate([kernel(x[i : i + BLOCK], y).sum(axis=1) for i in range(0, len(x), BLOCK)])


def other_means(x: Array) -> Array:
    """Means over the other rows of k(x_i, x_j), j != i: (N,)."""
    own = (np.square(x).sum(axis=1) / x.shape[1] + 1.0) ** 3
    return (row_sums(x, x) - own) / (len(x) - 1)


def unbiased(fake: Array, real: Array) -> tuple[float, Array]:
    """The unbiased estimate, and (N,) the first-order effect of each fake row up to a constant."""
    within, across = other_means(fake), row_sums(fake, real) / len(real)
    return float(within.mean() + other_means(real).mean() - 2 * across.mean()), 2 * (within - across)


def kernel_distance(
    *, fake: Any, real: Any, subsets: int | None = None, subset_size: int = 1000, seed: int = 0
) -> float:
    """Kernel distance of features fake (N, D) and real (M, D); about 0 is best, negative values are noise around 0.

    subsets=None: the estimate over all pairs. Otherwise the mean over that many pairs of subsets of subset_size rows,
    drawn without replacement as torch-fidelity draws them from the same seed (fake is its input 1).
    Raises GenbenchError for shapes that do not fit, fewer than two rows, or a subset_size outside 2..min(N, M);
    CellFailure for values that are not finite.
    """
    fake, real = pair(fake, real)
    if subsets is None:
        return unbiased(fake, real)[0]
    most = min(len(fake), len(real))
    if subsets < 1 or not 2 <= subset_size <= most:
        raise GenbenchError(
            f"kernel_distance: found subsets={subsets}, subset_size={subset_size}; "
            f"allowed: subsets of at least 1, subset_size 2..{most} (the smaller set)"
        )
    rng = np.random.RandomState(seed)  # the legacy generator, to draw torch-fidelity's subsets
    estimates = []
    for _ in range(subsets):
        rows = rng.choice(len(fake), subset_size, replace=False), rng.choice(len(real), subset_size, replace=False)
        estimates.append(unbiased(fake[rows[0]], real[rows[1]])[0])
    return float(np.mean(estimates))


def kid(*, fake: Any, real: Any) -> Value:
    """kernel_distance over all pairs with an interval over the fake samples, the reference fixed."""
    value, effects = unbiased(*pair(fake, real))
    how = "of the first-order effect of each generated sample, the reference fixed"
    return with_normal_interval(value, effects, how)


KID = Metric(
    name="kid",
    title="KID",
    version=1,
    better="lower",
    unit="MMD^2",
    reads=FEATURES,
    compute=kid,
    protocol={"kernel": "(x'y / D + 1)^3", "estimator": "unbiased, all pairs", "arithmetic": "float64"},
)
