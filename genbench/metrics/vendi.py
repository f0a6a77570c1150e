"""Vendi score: the effective number of different samples (Friedman & Dieng 2023).

    VS = exp(-sum_i l_i log l_i)   l: eigenvalues of K / n,   K_ij = cosine of the angle between features i and j

n identical samples score 1, n orthogonal ones n. It measures how different the samples are from each other and does
not use the reference: noise scores high too, and the held-out row shows the score of real images. With X the features
divided by their norms, K / n = X X' / n and X' X / n (D, D) have the same eigenvalues: the smaller matrix is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genbench.errors import Degenerate, TooFewSamples
from genbench.metrics.arithmetic import Block
from genbench.metrics.arrays import ROW_BLOCK, Array, checked_rows, with_normal_interval
from genbench.metrics.base import Metric, Value
from genbench.metrics.computing import arithmetic
from genbench.metrics.readings import GENERATED

_TEMPORARIES = 4  # float64 values in memory for each value of a block
_TINY = np.finfo(np.float64).tiny


class Directions:
    """Rows (N, D) divided by their norms, float64, a block at a time."""

    def __init__(self, metric: str, fake: Any) -> None:
        """Raises as `arrays.checked_rows`; Degenerate when a row is all zero."""
        self.rows = checked_rows("fake", fake, least=1)
        self.norms = np.concatenate([_norms(self.rows[part]) for part in self.parts()])
        zero = int((self.norms == 0).sum())
        if zero:
            raise Degenerate(f"{metric}: {zero} of {len(self.rows)} rows are all zero and have no direction")

    def parts(self) -> Iterator[slice]:
        """Blocks of the rows."""
        n, d = self.rows.shape
        return arithmetic().blocks(n, ROW_BLOCK, 8 * _TEMPORARIES * d)

    def __getitem__(self, part: slice | NDArray[np.int64]) -> Array:
        return self.rows[part] / self.norms[part]

    def squares(self) -> Block:
        """The mean of x x' (D, D), where it computes."""
        at, (n, d) = arithmetic(), self.rows.shape
        total = at.zeros(d, d)
        for part in self.parts():
            there = at.put(self[part])
            total += there.T @ there
        return total / n


def _norms(rows: NDArray[Any]) -> Array:
    return np.linalg.norm(rows.astype(np.float64, copy=False), axis=1, keepdims=True)


def entropies(x: Directions) -> Array:
    """-x_i' log(S) x_i of rows x (N, D) of length 1, S = x' x / N: (N,), nats. Their mean is the entropy of S.

    They are also each row's first-order effect on that entropy: its gradient in S is -log S, up to a constant.
    """
    at, (n, d) = arithmetic(), x.rows.shape
    if d < n:
        values, axes = at.eigenvectors(x.squares())
        logs = at.put(-np.log(np.maximum(at.get(values), _TINY)))
        turned = (at.put(x[part]) @ axes for part in x.parts())
        return np.concatenate([at.get((block * block) @ logs) for block in turned])
    there = at.put(x[:])
    values, axes = at.eigenvectors(there @ there.T / n)
    squares = n * values.clip(min=0.0) * (axes * axes)
    return at.get(squares @ at.put(-np.log(np.maximum(at.get(values), _TINY))))


def vendi_score(*, fake: Any) -> float:
    """Effective number of different samples among features fake (N, D): 1 to min(N, D); higher is more diverse.

    Grows with N: compare equal N only. Raises GenbenchError for another shape or no rows; Degenerate for a row of
    zeros, CellFailure for values that are not finite.

        metrics.vendi_score(fake=np.eye(5)[[0, 1, 2, 0, 1, 2]])  # 3.00
    """
    return float(np.exp(entropies(Directions("vendi", fake)).mean()))


def vendi(*, fake: Any) -> Value:
    """vendi_score with an interval over the fake samples; TooFewSamples for a single one."""
    if len(fake) < 2:
        raise TooFewSamples("vendi: 1 generated sample; needs at least 2")
    shares = entropies(Directions("vendi", fake))
    value = float(np.exp(shares.mean()))
    how = "of the first-order effect of each generated sample; small-sample bias not included"
    return with_normal_interval(value, value * shares, how, least=1.0, most=min(np.shape(fake)))


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
