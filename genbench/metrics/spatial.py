"""sFID: the Frechet distance of features that keep their position in the image (Nash et al. 2021).

FID's features are averaged over the image, so that FID does not notice parts at wrong positions. The distance is the
same, the features are not: the two numbers are never comparable.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from genbench.metrics.base import Value
from genbench.metrics.frechet import FID, fid, frechet_distance
from genbench.metrics.readings import SPATIAL


def spatial_frechet_distance(*, fake: Any, real: Any) -> float:
    """Squared Frechet distance of spatial features fake (N, S) and real (M, S), each image's map laid out in a row.

    0 is best, biased upwards at small N or M; raises as frechet_distance.

        rng = np.random.default_rng(0)
        fake, real = rng.normal(0.5, 1, (400, 8)), rng.normal(0, 1, (500, 8))
        metrics.spatial_frechet_distance(fake=fake, real=real)  # 1.72
    """
    return frechet_distance(fake=fake, real=real)


def sfid(*, fake: Any, real: Any) -> Value:
    """spatial_frechet_distance with FID's interval."""
    return fid(fake=fake, real=real)


SFID = replace(FID, name="sfid", title="sFID", version=1, reads=SPATIAL, compute=sfid)
