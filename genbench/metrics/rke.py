"""RKE: the Renyi kernel entropy of order 2 as a number of samples (Jalali et al. 2023; Ospanov and Farnia 2024).

    RKE = 1 / |K / n|_F^2 = n^2 / sum_{i, j} k(x_i, x_j)^2,   k: cosine of the angle between features i and j

It is the Vendi score of order 2, with the same kernel as `vendi`: n identical samples score 1, n orthogonal ones n.
Its value settles with far fewer samples than that of order 1, because rare samples hardly count in a sum of squares.
With X the features divided by their norms, |K|_F is also |X' X|_F: the smaller matrix is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genbench.errors import TooFewSamples
from genbench.metrics.arrays import Array, normal_interval
from genbench.metrics.base import Metric, Value
from genbench.metrics.computing import arithmetic
from genbench.metrics.readings import GENERATED
from genbench.metrics.second_order import pairs, variance
from genbench.metrics.vendi import Directions


def mean_squares(x: Directions) -> Array:
    """Means over all j of (x_i' x_j)^2 of rows x (N, D): (N,)."""
    at, (n, d) = arithmetic(), x.rows.shape
    if d < n:
        squares = x.squares()
        blocks = (at.put(x[part]) for part in x.parts())
        return np.concatenate([at.row_products(block @ squares, block) for block in blocks])
    there = at.put(x[:])
    products = there @ there.T
    return at.get((products * products).mean(1))


def second_derivative(x: Directions, means: Array) -> float:
    """E h^2 of RKE over pairs of rows x (N, D); means: `mean_squares` (N,), q below, with their mean Q.

    h = 8 (q(x) - Q) (q(y) - Q) / Q^3 - 2 ((x'y)^2 - q(x) - q(y) + Q) / Q^2
    """
    rows, left, right = pairs(len(means))
    unit, mean = x[rows], means.mean()
    squares, q = np.square(np.einsum("nd,nd->n", unit.take(left, axis=0), unit.take(right, axis=0))), means[rows] - mean
    a, b = q[left], q[right]
    return float(np.square(8 * a * b / mean**3 - 2 * (squares - a - b - mean) / mean**2).mean())


def renyi_kernel_entropy(*, fake: Any) -> float:
    """Effective number of different samples, of order 2, among features fake (N, D): 1 to min(N, D).

    Higher is more diverse. Raises GenbenchError for another shape or no rows; Degenerate for a row of zeros,
    CellFailure for values that are not finite.

        metrics.renyi_kernel_entropy(fake=np.eye(5)[[0, 1, 2, 0, 1, 2]])  # 3.00
    """
    return float(1 / mean_squares(Directions("rke", fake)).mean())


def rke(*, fake: Any) -> Value:
    """renyi_kernel_entropy with an interval over the fake samples; TooFewSamples for a single one."""
    if len(fake) < 2:
        raise TooFewSamples("rke: 1 generated sample; needs at least 2")
    x = Directions("rke", fake)
    squares = mean_squares(x)
    value = float(1 / squares.mean())
    spread = variance([-2 * value**2 * squares], [second_derivative(x, squares)])
    how = "normal 95 %: +- 1.96 standard errors, first and second order in the generated samples; small-sample bias "
    how += "not included"
    return normal_interval(value, spread, how, least=1.0, most=min(np.shape(fake)))


RKE = Metric(
    name="rke",
    title="RKE",
    version=1,
    better="higher",
    unit="samples",
    reads=GENERATED,
    compute=rke,
    least={"fake": 2},
    protocol={"kernel": "cosine of features", "order": 2, "arithmetic": "float64"},
    cannot_detect="Does not detect unrealistic samples, nor missing rare modes: they hardly count in the value.",
)
