"""Frechet distance at an infinite number of generated samples (Chong & Forsyth 2020).

The distance of N generated samples is too large by about c / N, where c depends on the model, so that the order of
models can depend on N. The paper measures it at several N and extrapolates a line in 1/N to 0. Here the shuffled
samples are split into 8 disjoint groups, which are joined in pairs until one group is left:

    size     N / 8    N / 4    N / 2    N
    groups       8        4        2    1

Every size uses every sample once. The first-order effect of the draw is therefore the same at all sizes and does not
change the slope, and each distance needs only the roots of the two groups that it joins. The line is weighted by N^2,
because both its noise and the terms in 1/N^2 are larger for small groups. The bias of the reference, about c / M,
remains.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.errors import TooFewSamples
from genbench.metrics.arrays import Array, Known, checked_pair
from genbench.metrics.base import Metric, OfReference, Value
from genbench.metrics.computing import arithmetic
from genbench.metrics.degenerate import refuse_equal_rows
from genbench.metrics.frechet import FID, Moments, distance, feature_moments, reference_moments
from genbench.metrics.readings import FEATURES

_GROUPS, _SHUFFLE_SEED = 8, 2020
_ROWS_PER_FEATURE = (
    2  # samples of the smallest group for each feature; with fewer the bias is not linear in 1/N (1: a fifth remains)
)
_T95 = 2.364624251592784  # 97.5 % quantile of Student's t with _GROUPS - 1 degrees of freedom


class Group(NamedTuple):
    """A group of generated samples: its size and moments."""

    size: int
    moments: Moments


def join(a: Group, b: Group) -> Group:
    """The samples of both groups; the root follows from the stacked roots and the difference of the two means."""
    n = a.size + b.size
    step = np.sqrt(a.size * b.size / n) * (a.moments.mean - b.moments.mean)
    roots = [np.sqrt(g.size - 1) * g.moments.root for g in (a, b)]
    at = arithmetic()
    root = at.get(at.triangle(at.put(np.vstack([*roots, step])))) / np.sqrt(n - 1)
    return Group(n, Moments((a.size * a.moments.mean + b.size * b.moments.mean) / n, root))


def ladder(fake: NDArray[Any], real: Moments, seed: int) -> tuple[Array, Array, Array]:
    """Of each size, the smallest first: 1/N and the mean distance of its groups (S,); and the smallest's (_GROUPS,)."""
    rows = fake[np.random.default_rng(seed).permutation(len(fake))]
    edges = [i * len(rows) // _GROUPS for i in range(_GROUPS + 1)]
    groups = [Group(b - a, feature_moments(rows[a:b])) for a, b in pairwise(edges)]
    inverse, distances = [], []
    while groups:
        inverse.append(np.mean([1 / g.size for g in groups]))
        distances.append(np.array([distance(g.moments, real) for g in groups]))
        groups = [join(a, b) for a, b in zip(groups[::2], groups[1::2], strict=False)]
    return np.array(inverse), np.array([d.mean() for d in distances]), distances[0]


def intercept(inverse: Array, values: Array) -> float:
    """At 1/N = 0, the line through values (S,) at inverse = 1/N (S,) that fits best with weights N^2."""
    ones, heights = 1 / inverse, values / inverse  # a + b x = y, times the square root N of the weight
    line = np.stack([ones, np.ones_like(inverse)], axis=1)
    return float(np.linalg.lstsq(line, heights)[0][0])


def _checked(fake: Any, real: Any, known: Known = None) -> tuple[NDArray[Any], Moments]:
    """Fake, and real's moments; raises as `arrays.pair`, TooFewSamples when the groups are too small."""
    rows, real = checked_pair(fake, real)
    refuse_equal_rows("fd_infinity", "reference", real)
    least = _GROUPS * max(2, _ROWS_PER_FEATURE * rows.shape[1])
    if len(rows) < least:
        raise TooFewSamples(
            f"fd_infinity: {len(rows)} generated samples make {_GROUPS} groups too small for {rows.shape[1]} features, "
            f"where the bias is no line in 1/N; needs at least {least}"
        )
    return rows, Moments(**(known or reference_moments(real)))


def frechet_distance_infinity(*, fake: Any, real: Any, seed: int = _SHUFFLE_SEED) -> float:
    """Squared Frechet distance of features fake (N, D) and real (M, D) extrapolated to N = infinity, M as it is.

    0 is best; slightly negative values are noise around 0. The seed shuffles the fake rows.
    Raises GenbenchError for shapes that do not fit or fewer than two rows; TooFewSamples for N < 16 D, CellFailure
    for values that are not finite.

        rng = np.random.default_rng(0)
        fake, real = rng.normal(0.5, 1, (400, 8)), rng.normal(0, 1, (500, 8))
        metrics.frechet_distance_infinity(fake=fake, real=real)  # 1.65
    """
    fake, reference = _checked(fake, real)
    return intercept(*ladder(fake, reference, seed)[:2])


def fd_infinity(*, fake: Any, real: Any, known: Known = None) -> Value:
    """frechet_distance_infinity with an interval over the fake samples, the reference fixed.

    known: `reference_moments`; None: they are computed. The spread of the distances of the disjoint groups is used for
    that of the intercept. The two are equal where the first-order effect of the samples dominates; where fake and real
    agree, the former is larger.
    """
    fake, reference = _checked(fake, real, known)
    inverse, values, groups = ladder(fake, reference, _SHUFFLE_SEED)
    value = intercept(inverse, values)
    half = _T95 * float(groups.std(ddof=1)) / _GROUPS**0.5
    how = (
        f"t 95 %: +- {_T95:.2f} standard errors of the mean distance of {_GROUPS} disjoint groups of generated "
        "samples, the reference fixed; curvature in 1/N and the reference's own bias not included"
    )
    return Value(value, value - half, value + half, how)


FD_INFINITY = Metric(
    name="fd_infinity",
    title="FD-infinity",
    version=1,
    better="lower",
    unit="feature^2",
    reads=FEATURES,
    compute=fd_infinity,
    least={"fake": 2 * _GROUPS, "real": 2},
    protocol={
        "sizes": "N/8, N/4, N/2, N, each of disjoint groups of all samples",
        "fit": "line in 1/N, weights N^2",
        "shuffle_seed": _SHUFFLE_SEED,
        "covariance": "divided by n - 1",
        "arithmetic": "float64",
    },
    of_reference=OfReference("moments", reference_moments),
    cannot_detect=FID.cannot_detect,
)
