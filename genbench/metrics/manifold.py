"""Precision and recall (Kynkaanniemi et al. 2019, eq. 1-2), density and coverage (Naeem et al. 2020, eq. 4-5).

The ball of a row reaches to its k-th nearest neighbour in its own set, where the row itself does not count.

    precision   share of fake rows inside a ball of real       recall     share of real rows inside a ball of fake
    density     balls of real around a fake row, mean / k      coverage   share of real balls that contain a fake row

A point on the surface is inside.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.errors import GenbenchError
from genbench.metrics.arrays import Z95, Array, Known, matrix, pair, with_normal_interval
from genbench.metrics.base import Metric, OfReference, Value
from genbench.metrics.degenerate import SAMPLES_A_NEIGHBOUR, refuse_few_for_balls, refuse_points_for_balls
from genbench.metrics.readings import FEATURES

DISTANCE_BLOCK = 256  # rows of the distance matrix in memory at a time
_CANNOT_DETECT = {
    "precision": "Does not detect missing modes: one good sample, repeated, scores 1; real outliers admit bad ones.",
    "recall": "Does not detect bad samples: those that are scattered have large balls, which contain the real images.",
    "density": "Does not detect missing modes; samples where real images are dense compensate for bad ones.",
    "coverage": "Does not detect bad samples beside good ones, nor how often each mode is drawn.",
}
_NEIGHBOURS = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}  # each paper's own k


class ManifoldScores(NamedTuple):
    """Shares in 0..1, except density, which is at least 0 and about 1 where fake and real agree."""

    precision: float
    recall: float
    density: float
    coverage: float


class Inside(NamedTuple):
    """Points against balls: the balls around each point (N,), and the points inside each ball (M,)."""

    balls_of_point: Array
    points_of_ball: Array


def squared_distances(x: Array, y: Array) -> Array:
    """|x_i - y_j|^2 of rows x (N, D) and y (M, D): (N, M), never negative."""
    squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)
    return np.maximum(squares - 2 * (x @ y.T), 0.0)


def squared_radii(rows: Array, k: int) -> Array:
    """Squared distance of each row (M, D) to its k-th nearest other row: (M,)."""
    squares = np.square(rows).sum(axis=1)
    radii = np.empty(len(rows))
    for start in range(0, len(rows), DISTANCE_BLOCK):
        part = rows[start : start + DISTANCE_BLOCK]
        block = (-2 * part) @ rows.T
        block += squares  # |x_i - y_j|^2 without |x_i|^2, which does not change the order within a row
        local = np.arange(len(part))
        block[local, start + local] = np.inf
        block.partition(k - 1, axis=1)
        radii[start : start + DISTANCE_BLOCK] = block[:, k - 1] + squares[start : start + DISTANCE_BLOCK]
    return np.maximum(radii, 0.0)


def reference_radii(real: Any, k: int) -> dict[str, Array]:
    """squared_radii of a reference (M, D), which `precision`, `density` and `coverage` take as `known`.

    Quadratic in M. Raises as `arrays.matrix`, GenbenchError for fewer than k + 1 rows.
    """
    rows = matrix("real", real, least=k + 1)
    return {"squared_radii": squared_radii(rows - rows.mean(axis=0), k)}


def radii_for(k: int) -> OfReference:
    """reference_radii as what a metric keeps of the reference."""
    return OfReference(f"squared radii, k = {k}", partial(reference_radii, k=k))


def inside(points: Array, centres: Array, k: int, known: Known = None) -> Inside:
    """Which points (N, D) lie in the k-neighbour balls of centres (M, D).

    known: `reference_radii` of the centres; None: they are computed. Distances by inner products have rounding errors
    that are proportional to the norm of the centre; the radius is increased by that much, so that a point on the
    surface, or on a duplicated centre, is always inside.
    """
    origin = centres.mean(axis=0)
    points, centres = points - origin, centres - origin
    radii = known["squared_radii"] if known else squared_radii(centres, k)
    radii = radii * (1 + 1e-9) + 1e-12 * np.square(centres).sum(axis=1)
    balls, held = [], np.zeros(len(centres))
    for start in range(0, len(points), DISTANCE_BLOCK):
        within = squared_distances(points[start : start + DISTANCE_BLOCK], centres) <= radii
        balls.append(within.sum(axis=1))
        held += within.sum(axis=0)
    return Inside(np.concatenate(balls).astype(np.float64), held)


def _checked(fake: Any, real: Any, k: int) -> tuple[Array, Array]:
    """Features as float64; raises as `arrays.pair`, and GenbenchError for k < 1 or fewer than k + 1 rows."""
    if k < 1:
        raise GenbenchError(f"k: found {k}, allowed: at least 1")
    return pair(fake, real, least=k + 1)


def _judged(
    metric: str, fake: Any, real: Any, k: int, known: Known, balls_of: str = "reference"
) -> tuple[Array, Array, dict[str, Array]]:
    """Features as float64 and the balls' squared radii, for a value that is reported.

    balls_of: "reference" or "generated", the set that has the balls. Raises as `_checked`; TooFewSamples for fewer than
    10 k rows, and Degenerate when most balls have radius 0.
    """
    fake, real = _checked(fake, real, k)
    refuse_few_for_balls(metric, k, generated=fake, reference=real)
    centres = real if balls_of == "reference" else fake
    radii = known or reference_radii(centres, k)
    refuse_points_for_balls(metric, balls_of, radii["squared_radii"], centres)
    return fake, real, radii


def precision_recall(*, fake: Any, real: Any, k: int = 3) -> ManifoldScores:
    """Precision, recall, density and coverage of features fake (N, D) and real (M, D), all four with the same k.

    Raises GenbenchError for shapes that do not fit, k < 1 or fewer than k + 1 rows; Degenerate when most balls of a set
    have radius 0, CellFailure for values that are not finite.

        rng = np.random.default_rng(0)
        fake, real = rng.normal(0.5, 1, (400, 8)), rng.normal(0, 1, (500, 8))
        metrics.precision_recall(fake=fake, real=real).precision  # 0.79
        metrics.precision_recall(fake=fake, real=real, k=5).coverage  # 0.81
    """
    fake, real = _checked(fake, real, k)
    for name, rows in {"generated": fake, "reference": real}.items():
        refuse_points_for_balls("precision_recall", name, reference_radii(rows, k)["squared_radii"], rows)
    in_real, in_fake = inside(fake, real, k), inside(real, fake, k)
    return ManifoldScores(
        precision=float((in_real.balls_of_point > 0).mean()),
        recall=float((in_fake.balls_of_point > 0).mean()),
        density=float(in_real.balls_of_point.mean() / k),
        coverage=float((in_real.points_of_ball > 0).mean()),
    )


def share(hits: NDArray[np.bool_], of: str) -> Value:
    """The share of hits (N,) bool with Wilson's 95 % interval, which keeps a width at 0 and 1."""
    n, p = len(hits), float(hits.mean())
    centre, scale = (p + Z95**2 / (2 * n)), 1 + Z95**2 / n
    half = Z95 * np.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    lo, hi = max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
    return Value(p, float(min(lo, p)), float(max(hi, p)), f"Wilson 95 % over {of}")


def precision(*, fake: Any, real: Any, k: int = _NEIGHBOURS["precision"], known: Known = None) -> Value:
    """Share of fake samples inside a ball of the reference; known: `reference_radii`, computed if not given."""
    fake, real, radii = _judged("precision", fake, real, k, known)
    return share(inside(fake, real, k, radii).balls_of_point > 0, "generated samples, the reference's balls fixed")


def recall(*, fake: Any, real: Any, k: int = _NEIGHBOURS["recall"]) -> Value:
    """Share of reference samples inside a ball of the fake ones."""
    fake, real, radii = _judged("recall", fake, real, k, None, balls_of="generated")
    return share(
        inside(real, fake, k, radii).balls_of_point > 0, "reference samples, the generated samples' balls fixed"
    )


def density(*, fake: Any, real: Any, k: int = _NEIGHBOURS["density"], known: Known = None) -> Value:
    """Mean number of the reference's balls around a fake sample, over k; known as in `precision`."""
    fake, real, radii = _judged("density", fake, real, k, known)
    scores = inside(fake, real, k, radii).balls_of_point / k
    how = "over generated samples, the reference's balls fixed"
    return with_normal_interval(float(scores.mean()), scores, how, least=0.0)


def coverage(*, fake: Any, real: Any, k: int = _NEIGHBOURS["coverage"], known: Known = None) -> Value:
    """Share of the reference's balls that hold a fake sample; known as in `precision`."""
    fake, real, radii = _judged("coverage", fake, real, k, known)
    return share(inside(fake, real, k, radii).points_of_ball > 0, "reference samples, the generated samples fixed")


MANIFOLD = tuple(
    Metric(
        name=name,
        title=name.capitalize(),
        version=1,
        better="higher",
        unit="balls / k" if name == "density" else "share",
        reads=FEATURES,
        compute=compute,
        least=dict.fromkeys(("fake", "real"), SAMPLES_A_NEIGHBOUR * _NEIGHBOURS[name]),
        protocol={"k": _NEIGHBOURS[name], "distance": "Euclidean", "self": "excluded"},
        of_reference=None if name == "recall" else radii_for(_NEIGHBOURS[name]),
        cannot_detect=_CANNOT_DETECT[name],
    )
    for name, compute in {"precision": precision, "recall": recall, "density": density, "coverage": coverage}.items()
)
