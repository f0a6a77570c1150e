"""Bits per dimension of the discrete pixels: -log P / (D ln 2), mean over test images.

P is at most 1, so no kind of likelihood can be below 0 bits/dim. Only an exact mass must satisfy this for each
image: a density or a bound is random, and satisfies it on average over its noise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from genbench.errors import CellFailure, GenbenchError
from genbench.metrics.arrays import Array
from genbench.metrics.base import Metric, Value
from genbench.metrics.means import mean_interval
from genbench.metrics.readings import LIKELIHOOD
from genbench.records import ESTIMATE, LIKELIHOOD_KINDS, MASS

_ROUNDING = 1e-5  # bits/dim that float32 may be below 0 for a probability of 1


def image_bits(log_probs: Any, dims: int, kind: str) -> Array:
    """Bits/dim of each image (N,); arguments and errors as `mean_bits_per_dim`."""
    import torch  # late: reading a suite names metrics and must not load torch

    from genbench.space import bits_per_dim

    nats = torch.as_tensor(log_probs, dtype=torch.float64)
    if nats.ndim != 1 or len(nats) == 0:
        raise GenbenchError(f"log_probs: found shape {tuple(nats.shape)}, allowed: (N,) with at least one image")
    if kind not in LIKELIHOOD_KINDS:
        raise GenbenchError(f"kind: found {kind!r}, allowed: {', '.join(LIKELIHOOD_KINDS)}")
    bad = int((~nats.isfinite()).sum())
    if bad:
        raise CellFailure(f"bits/dim: the log-likelihood of {bad} of {len(nats)} images is not finite")
    bits: Array = bits_per_dim(nats, dims).cpu().numpy()
    _check_possible(bits, kind)
    return bits


def mean_bits_per_dim(*, log_probs: Any, dims: int, kind: str) -> Value:
    """Mean bits/dim of log-probabilities (N,) in nats of discrete images of `dims` pixel values each.

    kind: one of genbench.records.LIKELIHOOD_KINDS; it becomes the value's kind. The interval is over images.
    Raises CellFailure when a log-probability is not finite, as no image may be left out, and when the result is below
    0; GenbenchError for another shape or kind.
    """
    return mean_interval(image_bits(log_probs, dims, kind), "images", kind=kind)


def _check_possible(bits: Array, kind: str) -> None:
    """Raises CellFailure for bits/dim (N,) that no probability of discrete pixels can have."""
    lowest = float(bits.min() if kind == MASS else bits.mean())
    if lowest >= -_ROUNDING:
        return
    of = "the lowest image" if kind == MASS else "the mean"
    cause = (
        "the numerical method has not converged: more steps, or a smaller tolerance"
        if kind == ESTIMATE
        else "the log-likelihood is too high: its sign, or -D ln(levels) of dequantisation forgotten?"
    )
    raise CellFailure(
        f"bits/dim: found {lowest:.4g} ({kind}, {of}), allowed: 0 or more, as probabilities are at most 1; {cause}"
    )


def check_together(log_probs: np.ndarray[Any, Any], images: np.ndarray[Any, Any]) -> None:
    """Raises CellFailure for log-probabilities (N,) in nats that images (N, ...) cannot have together.

    Their mean is at most minus the entropy of the images' frequencies (Gibbs' inequality): -ln N where all differ.
    """
    mean = float(np.mean(log_probs, dtype=np.float64))
    if not -math.log(len(images)) < mean <= 0:  # the entropy is at most ln N; the metric refuses means above 0
        return
    counts = np.unique(images.reshape(len(images), -1), axis=0, return_counts=True)[1] / len(images)
    highest = float((counts * np.log(counts)).sum())
    if mean > highest + _ROUNDING:
        raise CellFailure(
            f"bits/dim: found a mean log-likelihood of {mean:.4g} nats for {len(images):,} images, {len(counts):,} of "
            f"them different, allowed: at most {highest:.4g}, as probabilities add up to at most 1"
        )


_PROTOCOL = {"pixels": "discrete", "arithmetic": "float64 mean"}
_CANNOT_DETECT = (
    "Does not detect bad samples: replacing 99 % of them by noise costs at most 6.7 bits for a whole image."
)

BITS_PER_DIM = Metric(
    name="bits_per_dim",
    title="Bits/dim",
    version=3,
    better="lower",
    unit="bits/dim",
    reads=LIKELIHOOD,
    compute=mean_bits_per_dim,
    abilities=("ExactLikelihood", "DequantisedDensity", "LikelihoodBound"),
    protocol=_PROTOCOL,
    cannot_detect=_CANNOT_DETECT,
)

BITS_PER_DIM_IWAE = Metric(
    name="bits_per_dim_iwae",
    title="Bits/dim (IWAE)",
    version=2,
    better="lower",
    unit="bits/dim",
    reads=LIKELIHOOD,
    compute=mean_bits_per_dim,
    abilities=("ImportanceBound",),
    protocol={**_PROTOCOL, "k": 64},
    cannot_detect=_CANNOT_DETECT,
)

BITS_PER_DIM_ODE = Metric(
    name="bits_per_dim_ode",
    title="Bits/dim (ODE)",
    version=3,
    better="lower",
    unit="bits/dim",
    reads=LIKELIHOOD,
    compute=mean_bits_per_dim,
    abilities=("LikelihoodEstimate",),
    protocol={**_PROTOCOL, "steps": 16, "halved_steps_within": 0.1},
    cannot_detect=_CANNOT_DETECT,
)

LIKELIHOOD_METRICS = (BITS_PER_DIM, BITS_PER_DIM_IWAE, BITS_PER_DIM_ODE)
