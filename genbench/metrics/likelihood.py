"""Bits per dimension of the discrete pixels: -log P / (D ln 2), mean over test images."""

from __future__ import annotations

from typing import Any

import numpy as np

from genbench.errors import CellFailure, GenbenchError
from genbench.metrics.base import Metric, Value
from genbench.metrics.bootstrap import mean_interval
from genbench.metrics.readings import LIKELIHOOD


def bits_per_dim(*, log_probs: Any, dims: int, kind: str) -> Value:
    """Mean bits/dim of log-probabilities (N,) in nats of discrete images of `dims` pixel values each.

    kind: "=" exact, "<=" upper bound, "~" estimate, passed through. The interval is over images.
    Raises CellFailure when a log-probability is not finite: none is dropped.
    """
    import torch  # late: reading a suite names metrics and must not load torch

    from genbench.space import bits_per_dim as to_bits

    nats = torch.as_tensor(log_probs, dtype=torch.float64)
    if nats.ndim != 1 or len(nats) == 0:
        raise GenbenchError(f"log_probs: found shape {tuple(nats.shape)}, allowed: (N,) with at least one image")
    bad = int((~nats.isfinite()).sum())
    if bad:
        raise CellFailure(f"bits_per_dim: the log-likelihood of {bad} of {len(nats)} images is not finite")
    bits: np.ndarray[Any, np.dtype[np.float64]] = to_bits(nats, dims).cpu().numpy()
    return mean_interval(bits, "images", kind=kind)


COMMON = {"pixels": "discrete", "arithmetic": "float64 mean"}

BITS_PER_DIM = Metric(
    name="bits_per_dim",
    title="Bits/dim",
    version=2,
    better="lower",
    unit="bits/dim",
    reads=LIKELIHOOD,
    compute=bits_per_dim,
    abilities=("ExactLikelihood", "LikelihoodBound"),
    protocol=COMMON,
)

BITS_PER_DIM_IWAE = Metric(
    name="bits_per_dim_iwae",
    title="Bits/dim (IWAE)",
    version=1,
    better="lower",
    unit="bits/dim",
    reads=LIKELIHOOD,
    compute=bits_per_dim,
    abilities=("ImportanceBound",),
    protocol={**COMMON, "k": 64},
)

BITS_PER_DIM_ODE = Metric(
    name="bits_per_dim_ode",
    title="Bits/dim (ODE)",
    version=1,
    better="lower",
    unit="bits/dim",
    reads=LIKELIHOOD,
    compute=bits_per_dim,
    abilities=("LikelihoodEstimate",),
    protocol={**COMMON, "steps": 16},
)

LIKELIHOODS = (BITS_PER_DIM, BITS_PER_DIM_IWAE, BITS_PER_DIM_ODE)
