"""The moments of features that arrive block by block and are not kept: memory does not depend on their number.

Two sets of n and k rows with means m and b and centred rows X and Y have together the squares
X'X + Y'Y + n k / (n + k) (b - m)(b - m)' (Chan, Golub and LeVeque 1983). With a root R of X'X, the root of the sum is
the triangular factor of the QR decomposition of R, Y and that row, one below the other, so that no digits are lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from genbench.errors import GenbenchError
from genbench.metrics.arrays import Array, checked_rows
from genbench.metrics.frechet import Moments


def streamed_moments(blocks: Iterable[Any]) -> Moments:
    """The moments of features in blocks (., D), at least two rows together; raises as `arrays.checked_rows`.

    fake = streamed_moments(features(batch) for batch in batches)
    distance(fake, feature_moments(real))  # of genbench.metrics.frechet
    """
    count, mean, root = 0, np.zeros(0), np.zeros((0, 0))
    for block in blocks:
        rows = checked_rows("features", block, least=1).astype(np.float64, copy=False)
        if count and rows.shape[1] != len(mean):
            raise GenbenchError(f"features: found {rows.shape[1]} in a block after {len(mean)}; must agree")
        count, mean, root = _with_block(count, mean, root, rows) if count else _first_block(rows)
    if count < 2:
        raise GenbenchError(f"features: found {count} rows, allowed: at least 2")
    return Moments(mean, root / np.sqrt(count - 1))


def _first_block(rows: Array) -> tuple[int, Array, Array]:
    mean = rows.mean(axis=0)
    return len(rows), mean, _root(rows - mean)


def _with_block(count: int, mean: Array, root: Array, rows: Array) -> tuple[int, Array, Array]:
    new, total = len(rows), count + len(rows)
    middle = rows.mean(axis=0)
    shift = middle - mean
    apart = np.sqrt(count * new / total) * shift
    return total, mean + new / total * shift, _root(np.concatenate([root, rows - middle, apart[None]]))


def _root(rows: Array) -> Array:
    """R with R' R = X' X for rows X (n, D): at most D rows."""
    return rows if len(rows) <= rows.shape[1] else np.asarray(np.linalg.qr(rows, mode="r"))
