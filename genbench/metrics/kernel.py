"""Kernel distance: squared maximum mean discrepancy under k(x, y) = (x'y / D + 1)^3 (Binkowski et al. 2018, section 4).

    KD = mean_{i != j} k(f_i, f_j) + mean_{i != j} k(r_i, r_j) - 2 mean_{i, j} k(f_i, r_j)

This is the paper's eq. 4. It is unbiased for any number of samples, hence sometimes slightly negative when the two
distributions agree.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.errors import GenbenchError
from genbench.metrics.arithmetic import Block
from genbench.metrics.arrays import (
    Z95,
    Array,
    Known,
    checked_pair,
    checked_rows,
    normal_interval,
    with_normal_interval,
)
from genbench.metrics.base import Metric, OfReference, Value
from genbench.metrics.degenerate import refuse_equal_rows
from genbench.metrics.gram import (
    Kernel,
    PairSums,
    Rows,
    across_member_sums,
    across_sums,
    members,
    own_member_sums,
    own_sums,
    single,
)
from genbench.metrics.readings import FEATURES
from genbench.metrics.second_order import first_order_variance

FEW = 20  # samples, below which the interval is of first order
_SUBSETS, _SUBSET_SIZE, _SUBSET_SEED = 100, 1000, 2020  # torch-fidelity's


def cubic(features: int) -> Kernel:
    """(g / D + 1)^3 - 1 of inner products g (B, M) of rows of D features.

    The constant cancels in the distance; without it there are more digits for the differences.
    """

    def kernel(g: Block) -> None:
        g *= 1 / features
        factor = g + 3
        factor *= g
        factor += 3
        g *= factor

    return kernel


def other_means(x: Rows) -> PairSums:
    """Means over the other rows of k(x_i, x_j), j != i: (N,), and the sum of squares over pairs."""
    sums = own_sums(x, cubic(x.shape[1]))
    return sums._replace(rows=sums.rows / (len(x) - 1))


def reference_similarity(real: Any) -> dict[str, Array]:
    """Mean of k(r_i, r_j) - 1, i != j, over a reference (M, D), which `kid` takes as `known`: ().

    Quadratic in M. Raises as `arrays.matrix`.
    """
    return {"mean": np.asarray(other_means(single(checked_rows("real", real, least=2))).rows.mean())}


class Estimate(NamedTuple):
    """The unbiased estimate, and of the fake rows (N,): means of the kernel over fake and real, sum of squares."""

    value: float
    within: PairSums
    across: Array

    @property
    def effects(self) -> Array:
        """The first-order effect of each fake row (N,) up to a constant."""
        return 2 * (self.within.rows - self.across)


def unbiased(fake: Rows, real: Rows, known: Known = None) -> Estimate:
    """The estimate over all pairs; known: reference_similarity of real, where it is known."""
    within, across = other_means(fake), across_sums(fake, real, cubic(fake.shape[1])).rows / len(real)
    among_real = known["mean"] if known else other_means(real).rows.mean()
    return Estimate(float(within.rows.mean() + among_real - 2 * across.mean()), within, across)


class Subsets(NamedTuple):
    """Row numbers of subsets: fake (S, size), real (S, size)."""

    fake: NDArray[np.int64]
    real: NDArray[np.int64]


class SubsetEstimates(NamedTuple):
    """Of each subset `unbiased` (S,) and the first-order effects of its fake rows (S, size)."""

    values: Array
    effects: Array


def subset_rows(n: int, m: int, subsets: int, size: int, seed: int) -> Subsets:
    """Subsets of n fake and m real rows as torch-fidelity draws them."""
    rng = np.random.RandomState(seed)  # the legacy generator, to draw torch-fidelity's subsets
    pairs = [(rng.choice(n, size, replace=False), rng.choice(m, size, replace=False)) for _ in range(subsets)]
    return Subsets(*(np.array(rows) for rows in zip(*pairs, strict=True)))


def subset_estimates(fake: Rows, real: Rows, drawn: Subsets) -> SubsetEstimates:
    """The estimates of pairs of subsets, by the products of each subset or of all rows, whichever are fewer."""
    count, size = drawn.fake.shape
    n, m = len(fake), len(real)
    if count * 2 * size**2 > n**2 / 2 + m**2 / 2 + n * m:
        return _estimates_of_all_products(fake, real, drawn)
    each = [unbiased(fake[a], real[b]) for a, b in zip(*drawn, strict=True)]
    return SubsetEstimates(np.array([e.value for e in each]), np.array([e.effects for e in each]))


def _estimates_of_all_products(fake: Rows, real: Rows, drawn: Subsets) -> SubsetEstimates:
    size, kernel = drawn.fake.shape[1], cubic(fake.shape[1])
    in_fake, in_real = members(drawn.fake, len(fake)), members(drawn.real, len(real))
    within = np.take_along_axis(own_member_sums(fake, in_fake, kernel).T, drawn.fake, axis=1) / (size - 1)
    among_real = np.take_along_axis(own_member_sums(real, in_real, kernel).T, drawn.real, axis=1) / (size - 1)
    across = np.take_along_axis(across_member_sums(fake, real, in_real, kernel).T, drawn.fake, axis=1) / size
    values = within.mean(axis=1) + among_real.mean(axis=1) - 2 * across.mean(axis=1)
    return SubsetEstimates(values, 2 * (within - across))


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
    fake, real = map(single, checked_pair(fake, real))
    refuse_equal_rows("kernel_distance", "reference", real)
    if subsets is None:
        return unbiased(fake, real).value
    most = min(len(fake), len(real))
    if subsets < 1 or not 2 <= subset_size <= most:
        raise GenbenchError(
            f"kernel_distance: found subsets={subsets}, subset_size={subset_size}; "
            f"allowed: subsets of at least 1, subset_size 2..{most} (the smaller set)"
        )
    return float(
        subset_estimates(fake, real, subset_rows(len(fake), len(real), subsets, subset_size, seed)).values.mean()
    )


def interaction(within: PairSums) -> float:
    """Variance of the second-order term of the mean of k(x_i, x_j), i != j, over draws of N >= 4 rows.

    It is 2 E h^2 / (N (N - 1)), h the kernel less the means of its row and column. within: of the rows, the means a_i.
    With their mean m, the sum of h^2 over pairs is that of k^2 less N (N - 1) m^2 less 2 N times that of (a_i - m)^2.
    """
    n, mean = len(within.rows), float(within.rows.mean())
    total = within.squares - n * (n - 1) * mean**2 - 2 * n * float(np.square(within.rows - mean).sum())
    return 2 * max(total, 0.0) / (n * (n - 3)) / (n * (n - 1))


def kid(*, fake: Any, real: Any, known: Known = None) -> Value:
    """kernel_distance over all pairs with an interval over the fake samples, the reference fixed.

    known: `reference_similarity`; None: it is computed. The variance is that of the infinitesimal jackknife, which
    counts the second-order term twice, minus half of that term. Subtracting all of it would make the variance unbiased,
    but the interval would then contain the truth too rarely where the sets agree, because low values come with low
    variances.
    """
    fake, real = map(single, checked_pair(fake, real))
    refuse_equal_rows("kid", "reference", real)
    return with_second_order(unbiased(fake, real, known))


def with_second_order(estimate: Estimate, scale: float = 1.0, least: float = -np.inf) -> Value:
    """The estimate times `scale` with the interval that `kid` describes, cut at `least`."""
    value, effects = scale * estimate.value, scale * estimate.effects
    if len(effects) < FEW:
        how = "of the first-order effect of each generated sample, the reference fixed"
        return with_normal_interval(value, effects, how, least=least)
    first = first_order_variance([effects])
    how = "normal 95 %: +- 1.96 standard errors, first and second order in the generated samples, the reference fixed"
    return normal_interval(value, max(first - scale**2 * interaction(estimate.within) / 2, first / 2), how, least=least)


_ARITHMETIC = "float32 products, float64 sums"
_CANNOT_DETECT = "Does not detect differences beyond the first three moments of features, nor copies of train images."

KID = Metric(
    name="kid",
    title="KID",
    version=3,
    better="lower",
    unit="MMD^2",
    reads=FEATURES,
    compute=kid,
    least={"fake": 2, "real": 2},
    protocol={"kernel": "(x'y / D + 1)^3", "estimator": "unbiased, all pairs", "arithmetic": _ARITHMETIC},
    of_reference=OfReference("mean of (x'y / D + 1)^3 - 1 over pairs, float32 products", reference_similarity),
    cannot_detect=_CANNOT_DETECT,
)


def kid_subsets(*, fake: Any, real: Any) -> Value:
    """kernel_distance over torch-fidelity's subsets, with an interval over the fake samples and the draw of subsets.

    A subset's estimate is that of all pairs plus the noise of drawing it. The standard error of the first part follows
    from the first-order effects of the samples within subsets; that of the second is of a mean over subsets.
    """
    fake, real = map(single, checked_pair(fake, real))
    refuse_equal_rows("kid_subsets", "reference", real)
    size = min(_SUBSET_SIZE, len(fake), len(real))
    estimates = subset_estimates(fake, real, subset_rows(len(fake), len(real), _SUBSETS, size, _SUBSET_SEED))
    value, spread = float(estimates.values.mean()), float(estimates.values.std())
    variance = estimates.effects.var(axis=1, ddof=1).mean() / len(fake) + spread**2 / _SUBSETS
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
    version=2,
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
        "arithmetic": _ARITHMETIC,
    },
    cannot_detect=_CANNOT_DETECT,
)
