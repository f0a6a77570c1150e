"""FLD, feature likelihood divergence: how well a mixture around the samples predicts held-out images (Jiralerspong et
al. 2023, sections 3.1 and 3.2).

    FLD = 100 / D (mean over held-out x of -log p_fake(x)  -  the same of a mixture around real images)
    p(x) = 1/N sum_j N(x; f_j, s_j I)

Features are scaled to mean 0 and standard deviation 1 of the held-out set. The variances s_j are fitted to the train
images: a sample that copies a train image gets a variance near 0 and predicts nothing else, so that copies, bad
samples and missing modes all raise the value. Too little spread within a mode does not: the variances make up for it.
For the second mixture one half of the train images is fitted to the other half; real images score about 0.

As in the released code: at most 10,000 centres; variances start at the distance to the nearest train image; Adam, rate
0.5, 50 passes at most; while fitting, a broad component around the mean of the train images bounds the loss.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from genbench.errors import Degenerate, TooFewSamples
from genbench.metrics.arrays import ROW_BLOCK, Array, checked_rows, matrix
from genbench.metrics.base import Metric, Value
from genbench.metrics.bootstrap import mean_interval
from genbench.metrics.computing import arithmetic
from genbench.metrics.neighbour_pass import NeighbourPass
from genbench.metrics.readings import MEMORY

if TYPE_CHECKING:
    from torch import Tensor

_CENTRES, _SEED = 10_000, 2020
_RATE, _PASSES, _BATCH = 0.5, 50, 10_000
_OUTER = 0.9**2  # squared distances to the mean are scaled by this for the broad component
_BLOCK, _KEPT = 1000, 2**27  # rows at a time; distances in memory at most
_SETTLED, _WINDOW = 5e-4, 5  # fitting ends when the loss differed by less from each of that many earlier passes
_LEAST = 20
_LARGEST_LOG = 40.0  # of a variance: identical rows would have -infinity


def standardised(train: NDArray[Any], held_out: Array, fake: NDArray[Any]) -> list[Tensor]:
    """The sets in units of the held-out set's standard deviation; features without spread there are left out.

    They are float32, on the device that metrics compute on.
    """
    import torch  # late: reading a suite names metrics and must be fast

    mean, std = held_out.mean(axis=0), held_out.std(axis=0, ddof=1)
    varies = std > 0
    if not varies.any():
        raise Degenerate("fld: all held-out samples are the same: there is no distribution to predict")
    device, sets = arithmetic().device, []
    for rows in (train, held_out, fake):
        scaled = np.empty((len(rows), int(varies.sum())), dtype=np.float32)
        for i in range(0, len(rows), ROW_BLOCK):
            scaled[i : i + ROW_BLOCK] = (rows[i : i + ROW_BLOCK, varies] - mean[varies]) / std[varies]
        sets.append(torch.from_numpy(scaled).to(device))
    return sets


def squared_distances_of(x: Tensor, y: Tensor) -> Tensor:
    """|x_i - y_j|^2 of rows (N, D), (M, D): (N, M)."""
    import torch  # late, as above

    return torch.cdist(x, y).square_()


class DistanceBlocks:
    """Squared distances (_BLOCK, N) of blocks of rows to centres, in memory when all of them fit, else made anew."""

    def __init__(self, rows: Tensor, centres: Tensor) -> None:
        self.rows, self.centres = rows.split(_BLOCK), centres
        few = len(rows) * len(centres) <= _KEPT and len(rows) <= arithmetic().most(4 * len(centres))
        self.kept = [squared_distances_of(block, centres) for block in self.rows] if few else []

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> Tensor:
        return self.kept[i] if self.kept else squared_distances_of(self.rows[i], self.centres)


def fitted_log_variances(centres: Tensor, rows: Tensor) -> Tensor:
    """Log s_j (N,) of a mixture around centres (N, D) for which rows (M, D) are most likely."""
    import torch  # late, as above

    blocks, n = DistanceBlocks(rows, centres), len(rows)
    nearest = torch.stack([blocks[i].min(dim=0).values for i in range(len(blocks))]).min(dim=0).values
    outer = (_OUTER * squared_distances_of(rows, rows.mean(0)[None])).split(_BLOCK)
    log_s = ((nearest + 1e-3) / rows.shape[1]).log().requires_grad_()
    log_outer = torch.zeros(1, device=rows.device, requires_grad=True)
    optimiser, losses = torch.optim.Adam([log_s, log_outer], lr=_RATE), []
    for _ in range(_PASSES):
        losses.append(0.0)
        for i, far in enumerate(outer):
            loss = _loss(blocks[i], far, log_s, log_outer, rows.shape[1])
            batch = min(_BATCH, n - i * _BLOCK // _BATCH * _BATCH)
            (loss / batch).backward()
            losses[-1] += loss.item() / n
            if (i + 1) * _BLOCK % _BATCH == 0 or i + 1 == len(blocks):
                optimiser.step()
                optimiser.zero_grad()
                with torch.no_grad():
                    log_s.clamp_(-_LARGEST_LOG, _LARGEST_LOG)
        if len(losses) > _WINDOW + 1 and max(abs(losses[-1] - x) for x in losses[-_WINDOW - 1 : -1]) < _SETTLED:
            break
    return log_s.detach()


def _loss(near: Tensor, far: Tensor, log_s: Tensor, log_outer: Tensor, dims: int) -> Tensor:
    """-log p / D, summed over rows, with the broad component."""
    import torch  # late, as above

    inner = log_normal(near, log_s, dims) - float(np.log(near.shape[1]))
    return -torch.cat([inner, log_normal(far, log_outer, dims)], dim=1).logsumexp(dim=1).sum() / dims


def log_normal(squared: Tensor, log_s: Tensor, dims: int) -> Tensor:
    """Log-density (N, M) of normal distributions with log-variances (M,) at these squared distances, in nats."""
    return -0.5 * (squared / log_s.exp() + dims * (log_s + float(np.log(2 * np.pi))))


def losses_per_dim(rows: Tensor, centres: Tensor, log_s: Tensor) -> Array:
    """-log p(x) / D of rows (T, D) under the mixture: (T,), nats."""
    dims = rows.shape[1]
    parts = [
        log_normal(squared_distances_of(x, centres).double(), log_s.double(), dims).logsumexp(dim=1)
        for x in rows.split(_BLOCK)
    ]
    return np.concatenate([(float(np.log(len(centres))) - part).cpu().numpy() / dims for part in parts])


def divergences(fake: Any, train: Any, held_out: Any) -> Array:
    """FLD's terms, of each held-out row (T,); raises as `feature_likelihood_divergence`."""
    arrays = {"train": train, "held_out": held_out, "fake": fake}
    for name, rows in arrays.items():
        least = 2 * _LEAST if name == "train" else _LEAST
        if len(rows) < least:
            raise TooFewSamples(f"fld: {len(rows)} {name} samples; needs at least {least}")
    train, fake = (checked_rows(name, arrays[name], least=2) for name in ("train", "fake"))
    train, held_out, fake = standardised(train, matrix("held_out", held_out, least=2), fake)
    rng = np.random.default_rng(_SEED)
    fake, train = fake[rng.permutation(len(fake))[:_CENTRES]], train[rng.permutation(len(train))]
    half = min(len(fake), len(train) // 2)
    mixture = losses_per_dim(held_out, fake, fitted_log_variances(fake, train))
    real = losses_per_dim(held_out, train[:half], fitted_log_variances(train[:half], train[half:]))
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
        "fit": f"Adam, rate {_RATE}, at most {_PASSES} passes in batches of {_BATCH}",
        "baseline": "half of the train images, fitted to the other half",
        "seed": _SEED,
    },
    cannot_detect="Does not detect too little variety within a mode: samples near its centre have good values.",
)
