"""FLD, feature likelihood divergence: how well a mixture around the samples predicts held-out images (Jiralerspong et
al. 2023, sections 3.1 and 3.2).

    FLD = 100 / D (mean over held-out x of -log p_fake(x)  -  the same of a mixture around real images)
    p(x) = 1/N sum_j N(x; f_j, s_j I)

Features are scaled to mean 0 and standard deviation 1 of the held-out set. The variances s_j are fitted to the train
images: a sample that copies a train image gets a variance near 0 and predicts nothing else, so that copies, bad
samples and missing modes all raise the value. Too little spread within a mode does not: the variances make up for it.
For the second mixture one half of the train images is fitted to the other half; real images score about 0.

As in the released code: at most 10,000 centres; variances start at the distance to the nearest train image; Adam, rate
0.5, 50 passes at most; while fitting, a broad component around the mean of the train images bounds the loss
(`genbench.metrics.mixture`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genbench.errors import Degenerate, TooFewSamples
from genbench.metrics.arrays import ROW_BLOCK, Array, checked_rows
from genbench.metrics.base import Metric, Value
from genbench.metrics.computing import arithmetic
from genbench.metrics.means import mean_interval
from genbench.metrics.mixture import BATCH, PASSES, RATE, fitted_log_variances, losses_per_dim
from genbench.metrics.neighbour_pass import NeighbourPass
from genbench.metrics.readings import MEMORY

if TYPE_CHECKING:
    from torch import Tensor

_CENTRES, _SEED = 10_000, 2020
_LEAST = 20


class Standard:
    """Features in units of the held-out set's standard deviation; features without spread there are left out."""

    def __init__(self, held_out: NDArray[Any]) -> None:
        """Raises Degenerate when all rows (T, D) are the same."""
        first = held_out[0].astype(np.float64)
        shifted = held_out - first  # exactly 0 where nothing varies
        self.mean, std = first + shifted.mean(axis=0), shifted.std(axis=0, ddof=1)
        self.varies = std > 0
        self.std = std[self.varies]
        if not self.varies.any():
            raise Degenerate("fld: all held-out samples are the same: there is no distribution to predict")

    def __call__(self, rows: NDArray[Any], which: NDArray[np.int64] | None = None) -> Tensor:
        """Rows (N, D), or those with these numbers, float32, on the device that metrics compute on."""
        import torch  # late: reading a suite names metrics and must be fast

        numbers = np.arange(len(rows)) if which is None else which
        scaled = np.empty((len(numbers), len(self.std)), dtype=np.float32)
        for i in range(0, len(numbers), ROW_BLOCK):
            scaled[i : i + ROW_BLOCK] = (rows[numbers[i : i + ROW_BLOCK]] - self.mean)[:, self.varies] / self.std
        return torch.from_numpy(scaled).to(arithmetic().device)


def divergences(fake: Any, train: Any, held_out: Any) -> Array:
    """FLD's terms, of each held-out row (T,); raises as `feature_likelihood_divergence`."""
    arrays = {"train": train, "held_out": held_out, "fake": fake}
    for name, rows in arrays.items():
        least = 2 * _LEAST if name == "train" else _LEAST
        if len(rows) < least:
            raise TooFewSamples(f"fld: {len(rows)} {name} samples; needs at least {least}")
    train, fake, held_out = (checked_rows(name, arrays[name], least=2) for name in ("train", "fake", "held_out"))
    scaled, rng = Standard(held_out), np.random.default_rng(_SEED)
    tested, centres = scaled(held_out), scaled(fake, rng.permutation(len(fake))[:_CENTRES])
    rows = scaled(train, rng.permutation(len(train)))
    half = min(len(centres), len(rows) // 2)
    mixture = losses_per_dim(tested, centres, fitted_log_variances(centres, rows))
    real = losses_per_dim(tested, rows[:half], fitted_log_variances(rows[:half], rows[half:]))
    return np.asarray(100 * (mixture - real))


def feature_likelihood_divergence(*, fake: Any, train: Any, held_out: Any) -> float:
    """FLD of features fake (N, D), train (M, D) and held_out (T, D), in hundredths of a nat per feature.

    Lower is better: about 0 for real images, hundreds and more for copies of the train images. Raises GenbenchError for
    shapes that do not fit; TooFewSamples for fewer than 20 fake, 20 held-out or 40 train rows, Degenerate when all
    held-out rows are the same, CellFailure for values that are not finite.

        rng = np.random.default_rng(0)
        train, held_out = rng.normal(size=(400, 4)), rng.normal(size=(100, 4))
        fake = rng.normal(size=(200, 4))
        metrics.feature_likelihood_divergence(fake=fake, train=train, held_out=held_out)  # 0.1
    """
    return float(divergences(fake, train, held_out).mean())


def fld(*, fake: Any, train: Any, held_out: Any, near: NeighbourPass | None = None) -> Value:
    """feature_likelihood_divergence with an interval over the held-out samples; near is not used."""
    return mean_interval(divergences(fake, train, held_out), "held-out samples, both mixtures fixed")


FLD = Metric(
    name="fld",
    title="FLD",
    version=1,
    better="lower",
    unit="nats/100 feature",
    reads=MEMORY,
    compute=fld,
    least={"fake": _LEAST, "train": 2 * _LEAST, "held_out": _LEAST},
    protocol={
        "centres": f"generated samples, at most {_CENTRES}",
        "fit": f"Adam, rate {RATE}, at most {PASSES} passes in batches of {BATCH}",
        "baseline": "half of the train images, fitted to the other half",
        "seed": _SEED,
    },
    cannot_detect="Does not detect too little variety within a mode: samples near its centre have good values.",
)
