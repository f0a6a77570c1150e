"""Precision and recall (Kynkaanniemi et al. 2019, eq. 1-2), density and coverage (Naeem et al. 2020, eq. 4-5).

The ball of a row reaches to its k-th nearest neighbour in its own set, where the row itself does not count.

    precision   share of fake rows inside a ball of real       recall     share of real rows inside a ball of fake
    density     balls of real around a fake row, mean / k      coverage   share of real balls that contain a fake row

A point on the surface is inside. `neighbour_pass` computes all four at once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.errors import GenbenchError
from genbench.metrics.arrays import Z95, checked_pair, with_normal_interval
from genbench.metrics.base import Metric, Value
from genbench.metrics.degenerate import SAMPLES_A_NEIGHBOUR, refuse_few_for_balls, refuse_points_for_balls
from genbench.metrics.neighbour_pass import NeighbourPass
from genbench.metrics.readings import NEIGHBOURS

_CANNOT_DETECT = {
    "precision": "Does not detect missing modes: one good sample, repeated, scores 1; real outliers admit bad ones.",
    "recall": "Does not detect bad samples: those that are scattered have large balls, which contain the real images.",
    "density": "Does not detect missing modes; samples where real images are dense compensate for bad ones.",
    "coverage": "Does not detect bad samples beside good ones, nor how often each mode is drawn.",
}
_PROTOCOL = {"distance": "Euclidean", "self": "excluded", "arithmetic": "decisions as in float64"}
_NEIGHBOURS = {"precision": 3, "recall": 3, "density": 5, "coverage": 5}  # each paper's own k


class ManifoldScores(NamedTuple):
    """Shares in 0..1, except density, which is at least 0 and about 1 where fake and real agree."""

    precision: float
    recall: float
    density: float
    coverage: float


def _checked(fake: Any, real: Any, k: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Features; raises as `arrays.checked_pair`, and GenbenchError for k < 1 or fewer than k + 1 rows."""
    if k < 1:
        raise GenbenchError(f"k: found {k}, allowed: at least 1")
    return checked_pair(fake, real, least=k + 1)


def judged(
    metric: str, fake: Any, real: Any, k: int, near: NeighbourPass | None, balls_of: str = "reference"
) -> NeighbourPass:
    """The pass for a value that is reported; near: the row's, None makes one.

    balls_of: "reference" or "generated", the set that has the balls. Raises as `_checked`; TooFewSamples for fewer than
    10 k rows, and Degenerate when most balls have radius 0.
    """
    fake, real = _checked(fake, real, k)
    refuse_few_for_balls(metric, k, generated=fake, reference=real)
    near = near if near and k in near.ks else NeighbourPass(fake, real, (k,))
    centres, name = (real, "real") if balls_of == "reference" else (fake, "fake")
    refuse_points_for_balls(metric, balls_of, near.radii(name, k), centres)
    return near


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
    near = NeighbourPass(fake, real, (k,))
    refuse_points_for_balls("precision_recall", "generated", near.radii("fake", k), fake)
    refuse_points_for_balls("precision_recall", "reference", near.radii("real", k), real)
    of_real, of_fake = near.counts(f"real {k}"), near.counts(f"fake {k}")
    return ManifoldScores(
        precision=float((of_real.x > 0).mean()),
        recall=float((of_fake.y > 0).mean()),
        density=float(of_real.x.mean() / k),
        coverage=float((of_real.y > 0).mean()),
    )


def share(hits: NDArray[np.bool_], of: str) -> Value:
    """The share of hits (N,) bool with Wilson's 95 % interval, which keeps a width at 0 and 1."""
    n, p = len(hits), float(hits.mean())
    centre, scale = (p + Z95**2 / (2 * n)), 1 + Z95**2 / n
    half = Z95 * np.sqrt(p * (1 - p) / n + Z95**2 / (4 * n * n))
    lo, hi = max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
    return Value(p, float(min(lo, p)), float(max(hi, p)), f"Wilson 95 % over {of}")


def precision(*, fake: Any, real: Any, k: int = _NEIGHBOURS["precision"], near: NeighbourPass | None = None) -> Value:
    """Share of fake samples inside a ball of the reference; near: the row's pass, made if not given."""
    inside = judged("precision", fake, real, k, near).counts(f"real {k}").x > 0
    return share(inside, "generated samples, the reference's balls fixed")


def recall(*, fake: Any, real: Any, k: int = _NEIGHBOURS["recall"], near: NeighbourPass | None = None) -> Value:
    """Share of reference samples inside a ball of the fake ones; near as in `precision`."""
    inside = judged("recall", fake, real, k, near, balls_of="generated").counts(f"fake {k}").y > 0
    return share(inside, "reference samples, the generated samples' balls fixed")


def density(*, fake: Any, real: Any, k: int = _NEIGHBOURS["density"], near: NeighbourPass | None = None) -> Value:
    """Mean number of the reference's balls around a fake sample, over k; near as in `precision`."""
    scores = judged("density", fake, real, k, near).counts(f"real {k}").x / k
    how = "over generated samples, the reference's balls fixed"
    return with_normal_interval(float(scores.mean()), scores, how, least=0.0)


def coverage(*, fake: Any, real: Any, k: int = _NEIGHBOURS["coverage"], near: NeighbourPass | None = None) -> Value:
    """Share of the reference's balls that hold a fake sample; near as in `precision`."""
    held = judged("coverage", fake, real, k, near).counts(f"real {k}").y > 0
    return share(held, "reference samples, the generated samples fixed")


MANIFOLD = tuple(
    Metric(
        name=name,
        title=name.capitalize(),
        version=2,
        better="higher",
        unit="balls / k" if name == "density" else "share",
        reads=NEIGHBOURS,
        compute=compute,
        least=dict.fromkeys(("fake", "real"), SAMPLES_A_NEIGHBOUR * _NEIGHBOURS[name]),
        protocol={"k": _NEIGHBOURS[name], **_PROTOCOL},
        cannot_detect=_CANNOT_DETECT[name],
    )
    for name, compute in {"precision": precision, "recall": recall, "density": density, "coverage": coverage}.items()
)
