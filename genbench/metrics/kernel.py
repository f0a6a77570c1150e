"""Kernel distance: squared maximum mean discrepancy under k(x, y) = (x'y / D + 1)^3 (Binkowski et al. 2018, section 4).

    KD = mean_{i != j} k(f_i, f_j) + mean_{i != j} k(r_i, r_j) - 2 mean_{i, j} k(f_i, r_j)

This is the paper's eq. 4. It is unbiased for any number of samples, hence sometimes slightly negative when the two
distributions agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from genbench.errors import GenbenchError
from genbench.metrics.arrays import Z95, Array, Known, matrix, normal_interval, pair, with_normal_interval
from genbench.metrics.base import Metric, OfReference, Value
from genbench.metrics.bootstrap import FEW, first_order_variance
from genbench.metrics.degenerate import refuse_equal_rows
from genbench.metrics.readings import FEATURES

_BLOCK = 1024  # rows of the kernel matrix in memory at a time
_SUBSETS, _SUBSET_SIZE, _SUBSET_SEED = 100, 1000, 2020  # torch-fidelity's


def kernel(x: Array, y: Array) -> Array:
    """(x'y / D + 1)^3 of rows x (N, D) and y (M, D): (N, M)."""
    k = x @ y.T / x.shape[1] + 1.0
    return k * k * k


def row_sums(x: Array, y: Array) -> Array:
    """Sums over y (M, D) of k(x_i, y_j): (N,), without the whole matrix in memory."""
    return np.concatenate([kernel(x[i : i + _BLOCK], y).sum(axis=1) for i in range(0, len(x), _BLOCK)])


def other_means(x: Array) -> Array:
    """Means over the other rows of k(x_i, x_j), j != i: (N,)."""
    own = (np.square(x).sum(axis=1) / x.shape[1] + 1.0) ** 3
    return (row_sums(x, x) - own) / (len(x) - 1)


def reference_similarity(real: Any) -> dict[str, Array]:
    """Mean of k(r_i, r_j), i != j, over a reference (M, D), which `kid` takes as `known`: ().

    Quadratic in M. Raises as `arrays.matrix`.
    """
    return {"mean": np.asarray(other_means(matrix("real", real, least=2)).mean())}


def unbiased(fake: Array, real: Array, known: Known = None) -> tuple[float, Array]:
    """The unbiased estimate, and (N,) the first-order effect of each fake row up to a constant.

    known: reference_similarity of real, where it is known.
    """
    within, across = other_means(fake), row_sums(fake, real) / len(real)
    among_real = known["mean"] if known else other_means(real).mean()
    return float(within.mean() + among_real - 2 * across.mean()), 2 * (within - across)


def subset_estimates(
    fake: Array, real: Array, subsets: int, subset_size: int, seed: int
) -> Iterator[tuple[float, Array]]:
    """`unbiased` of pairs of subsets that are drawn as torch-fidelity draws them."""
    rng = np.random.RandomState(seed)  # the legacy generator, to draw torch-fidelity's subsets
    for _ in range(subsets):
        rows = rng.choice(len(fake), subset_size, replace=False), rng.choice(len(real), subset_size, replace=False)
        yield unbiased(fake[rows[0]], real[rows[1]])


def kernel_distance(
    *, fake: Any, real: Any, subsets: int | None = None, subset_size: int = 1000, seed: int = 0
) -> float:
    """Kernel distance of features fake (N, D) and real (M, D); about 0 is best, negative values are noise around 0.

    subsets=None: the estimate over all pairs. Otherwise the mean over that many pairs of subsets of subset_size rows,
    drawn without replacement as torch-fidelity draws them from the same seed (fake is its input 1).
    Raises GenbenchError for shapes that do not fit, fewer than two rows, or a subset_size outside 2..min(N, M);
    Degenerate when all rows of real are the same, CellFailure for values that are not finite.

        rng = np.random.default_rng(0)
        fake, real = rng.normal(0.5, 1, (400, 8)), rng.normal(0, 1, (500, 8))
        metrics.kernel_distance(fake=fake, real=real)  # 0.90
        metrics.kernel_distance(fake=fake, real=real, subsets=10, subset_size=100)  # 0.91
    """
    fake, real = pair(fake, real)
    refuse_equal_rows("kernel_distance", "reference", real)
    if subsets is None:
        return unbiased(fake, real)[0]
    most = min(len(fake), len(real))
    if subsets < 1 or not 2 <= subset_size <= most:
        raise GenbenchError(
            f"kernel_distance: found subsets={subsets}, subset_size={subset_size}; "
            f"allowed: subsets of at least 1, subset_size 2..{most} (the smaller set)"
        )
    return float(np.mean([estimate for estimate, _ in subset_estimates(fake, real, subsets, subset_size, seed)]))


def interaction(x: Array) -> float:
    """Variance of the second-order term of the mean of k(x_i, x_j), i != j, over draws of N >= 4 rows x (N, D).

    It is 2 E h^2 / (N (N - 1)), h the kernel less the means of its row and column, estimated from the pairs.
    """
    n, means, total = len(x), other_means(x), 0.0
    for start in range(0, n, _BLOCK):
        rest = kernel(x[start : start + _BLOCK], x) - means[start : start + _BLOCK, None] - means + means.mean()
        local = np.arange(len(rest))
        rest[local, start + local] = 0.0
        total += float(np.square(rest).sum())
    return 2 * total / (n * (n - 3)) / (n * (n - 1))


def kid(*, fake: Any, real: Any, known: Known = None) -> Value:
    """kernel_distance over all pairs with an interval over the fake samples, the reference fixed.

    known: `reference_similarity`; None: it is computed. The variance is that of the infinitesimal jackknife, which
    counts the second-order term twice, minus half of that term. Subtracting all of it would make the variance unbiased,
    but the interval would then contain the truth too rarely where the sets agree, because low values come with low
    variances.
    """
    fake, real = pair(fake, real)
    refuse_equal_rows("kid", "reference", real)
    value, effects = unbiased(fake, real, known)
    if len(fake) < FEW:
        how = "of the first-order effect of each generated sample, the reference fixed"
        return with_normal_interval(value, effects, how)
    first = first_order_variance([effects])
    how = "normal 95 %: +- 1.96 standard errors, first and second order in the generated samples, the reference fixed"
    return normal_interval(value, max(first - interaction(fake) / 2, first / 2), how)


_CANNOT_DETECT = "Does not detect differences beyond the first three moments of features, nor copies of train images."

KID = Metric(
    name="kid",
    title="KID",
    version=2,
    better="lower",
    unit="MMD^2",
    reads=FEATURES,
    compute=kid,
    least={"fake": 2, "real": 2},
    protocol={"kernel": "(x'y / D + 1)^3", "estimator": "unbiased, all pairs", "arithmetic": "float64"},
    of_reference=OfReference("mean of (x'y / D + 1)^3 over pairs", reference_similarity),
    cannot_detect=_CANNOT_DETECT,
)


def kid_subsets(*, fake: Any, real: Any) -> Value:
    """kernel_distance over torch-fidelity's subsets, with an interval over the fake samples and the draw of subsets.

    A subset's estimate is that of all pairs plus the noise of drawing it. The standard error of the first part follows
    from the first-order effects of the samples within subsets; that of the second is of a mean over subsets.
    """
    fake, real = pair(fake, real)
    refuse_equal_rows("kid_subsets", "reference", real)
    size = min(_SUBSET_SIZE, len(fake), len(real))
    drawn = list(subset_estimates(fake, real, _SUBSETS, size, _SUBSET_SEED))
    estimates = np.array([estimate for estimate, _ in drawn])
    value, spread = float(estimates.mean()), float(estimates.std())
    variance = np.mean([effects.var(ddof=1) for _, effects in drawn]) / len(fake) + spread**2 / _SUBSETS
    half = Z95 * float(np.sqrt(variance))
    how = (
        "normal 95 %: +- 1.96 standard errors of the first-order effect of each generated sample and of the draw of "
        f"subsets, the reference fixed; the standard deviation over {_SUBSETS} subsets of {size}, {spread:.3g}, is no "
        "confidence interval and not used as one"
    )
    return Value(value, value - half, value + half, how)


KID_SUBSETS = Metric(
    name="kid_subsets",
    title="KID (subsets)",
    version=1,
    better="lower",
    unit="MMD^2",
    reads=FEATURES,
    compute=kid_subsets,
    least={"fake": 2, "real": 2},
    protocol={
        "kernel": "(x'y / D + 1)^3",
        "estimator": "unbiased, mean over subsets",
        "subsets": _SUBSETS,
        "subset_size": f"min({_SUBSET_SIZE}, N, M)",
        "subset_seed": _SUBSET_SEED,
        "arithmetic": "float64",
    },
    cannot_detect=_CANNOT_DETECT,
)
