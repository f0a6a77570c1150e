"""Vendi score: the effective number of different samples (Friedman & Dieng 2023).

    VS = exp(-sum_i l_i log l_i)   l: eigenvalues of K / n,   K_ij = cosine of the angle between features i and j

n identical samples score 1, n orthogonal ones n. It measures how different the samples are from each other and does
not use the reference: noise scores high too, and the held-out row shows the score of real images. With X the features
divided by their norms, K / n = X X' / n and X' X / n (D, D) have the same eigenvalues: the smaller matrix is used.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from genbench.errors import Degenerate, TooFewSamples
from genbench.metrics.arrays import Array, matrix, with_normal_interval
from genbench.metrics.base import Metric, Value
from genbench.metrics.readings import GENERATED

_TINY = np.finfo(np.float64).tiny


def directions(metric: str, fake: Any) -> Array:
    """Rows (N, D) divided by their norms; Degenerate when one is all zero."""
    rows = matrix("fake", fake, least=1)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    zero = int((norms == 0).sum())
    if zero:
        raise Degenerate(f"{metric}: {zero} of {len(rows)} rows are all zero and have no direction")
    return rows / norms


def entropies(x: Array) -> Array:
    """-x_i' log(S) x_i of rows x (N, D) of length 1, S = x' x / N: (N,), nats. Their mean is the entropy of S.

    They are also each row's first-order effect on that entropy: its gradient in S is -log S, up to a constant.
    """
    n, d = x.shape
    if d < n:
        values, axes = np.linalg.eigh(x.T @ x / n)
        squares = np.square(x @ axes)
    else:
        values, axes = np.linalg.eigh(x @ x.T / n)
        squares = n * np.maximum(values, 0.0) * np.square(axes)
    return -squares @ np.log(np.maximum(values, _TINY))


def vendi_score(*, fake: Any) -> float:
    """Effective number of different samples among features fake (N, D): 1 to min(N, D); higher is more diverse.

    Grows with N: compare equal N only. Raises GenbenchError for another shape or no rows; Degenerate for a row of
    zeros, CellFailure for values that are not finite.

        metrics.vendi_score(fake=np.eye(5)[[0, 1, 2, 0, 1, 2]])  # 3.00
    """
    return float(np.exp(entropies(directions("vendi", fake)).mean()))


def vendi(*, fake: Any) -> Value:
    """vendi_score with an interval over the fake samples; TooFewSamples for a single one."""
    if len(fake) < 2:
        raise TooFewSamples("vendi: 1 generated sample; needs at least 2")
    shares = entropies(directions("vendi", fake))
    value = float(np.exp(shares.mean()))
    how = "of the first-order effect of each generated sample; small-sample bias not included"
    return with_normal_interval(value, value * shares, how, least=1.0)


VENDI = Metric(
    name="vendi",
    title="Vendi",
    version=1,
    better="higher",
    unit="samples",
    reads=GENERATED,
    compute=vendi,
    least={"fake": 2},
    protocol={"kernel": "cosine of features", "order": 1, "arithmetic": "float64"},
    cannot_detect="Does not detect unrealistic samples: noise is diverse too.",
)
