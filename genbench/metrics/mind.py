"""MIND, the Monge inception distance: sliced squared Wasserstein distance of features (Berthet et al. 2026).

    MIND = 3 D mean over directions t of W2^2(t'F, t'R),   t uniform on the unit sphere of R^D

For a shift by m it is 3 |m|^2. Directions are drawn as torch-fidelity's development version draws them from its default
seed. That version drops random rows of the larger set; here W2 between sets of different sizes is exact, from all rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from genbench.errors import TooFewSamples
from genbench.metrics.arrays import Array, checked_pair, normal_interval
from genbench.metrics.base import Metric, Value
from genbench.metrics.degenerate import refuse_equal_rows
from genbench.metrics.readings import FEATURES
from genbench.metrics.wasserstein import mean_squared_distance, with_variance

_PROJECTIONS, _SEED = 1000, 2020  # torch-fidelity's
_FACTOR = 3
_LEAST = 20  # samples of either set


def published_directions(features: int, count: int = _PROJECTIONS, seed: int = _SEED) -> Array:
    """Directions (count, features) of length 1, uniform on the sphere, by torch's generator for the CPU."""
    import torch  # late: reading a suite names metrics and must be fast

    t = torch.randn(count, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float32).double()
    return np.asarray(t / t.norm(dim=1, keepdim=True))


def _checked(fake: Any, real: Any) -> tuple[NDArray[Any], NDArray[Any], Array]:
    """Both sets and the directions."""
    fake, real = checked_pair(fake, real)
    refuse_equal_rows("mind", "reference", real)
    return fake, real, published_directions(fake.shape[1])


def monge_inception_distance(*, fake: Any, real: Any) -> float:
    """MIND of features fake (N, D) and real (M, D), in squared units of the features; 0 is best.

    Biased upwards at small N or M. Raises GenbenchError for shapes that do not fit or fewer than two rows; Degenerate
    when all rows of real are the same, CellFailure for values that are not finite.

        real = np.random.default_rng(0).normal(size=(500, 8))
        metrics.monge_inception_distance(fake=real + 0.5, real=real)  # 6.06
    """
    fake, real, along = _checked(fake, real)
    return _FACTOR * fake.shape[1] * mean_squared_distance(fake, real, along)


def mind(*, fake: Any, real: Any) -> Value:
    """monge_inception_distance with an interval over the fake samples, the reference and the directions fixed."""
    for name, rows in {"generated": fake, "reference": real}.items():
        if len(rows) < _LEAST:
            raise TooFewSamples(f"mind: {len(rows)} {name} samples; needs at least {_LEAST}")
    fake, real, along = _checked(fake, real)
    factor = _FACTOR * fake.shape[1]
    squared, variance = with_variance(fake, real, along)
    how = (
        "normal 95 %: +- 1.96 standard errors of the first-order effect of each generated sample, the reference and "
        "the directions fixed; small-sample bias not included"
    )
    return normal_interval(factor * squared, factor**2 * variance, how, least=0.0)


MIND = Metric(
    name="mind",
    title="MIND",
    version=2,
    better="lower",
    unit="feature^2",
    reads=FEATURES,
    compute=mind,
    least={"fake": _LEAST, "real": _LEAST},
    protocol={
        "distance": f"{_FACTOR} D times the mean squared W2 over unit directions",
        "projections": _PROJECTIONS,
        "direction_seed": _SEED,
        "arithmetic": "float64",
    },
    cannot_detect="Does not detect differences in few of many features, nor copies of train images.",
)
