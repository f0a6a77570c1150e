"""Sets for which a metric computes a number that says nothing: each function raises with the reason."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from genbench.errors import Degenerate, TooFewSamples
from genbench.metrics.arrays import ROW_BLOCK, Array

SAME = 1e-5  # of the norm: rows closer than this differ by the rounding of float32 features
_FIRST = 256  # rows tested at a time
SAMPLES_A_NEIGHBOUR = 10  # rows for each neighbour counted: below, a ball is a large part of the whole set


def refuse_equal_rows(metric: str, name: str, rows: NDArray[Any]) -> None:
    """Raises Degenerate when all rows (N, D) are the same but for rounding."""
    largest = off = 0.0
    for start in range(0, len(rows), _FIRST):  # mostly the first rows differ
        part = rows[start : start + _FIRST].astype(np.float64)
        largest = max(largest, float(np.abs(part).max(initial=0.0)))
        off = max(off, float(np.abs(part - rows[0]).max(initial=0.0)))
        if off > SAME * largest:
            return
    raise Degenerate(
        f"{metric}: all {len(rows):,} {name} samples are the same: there is no distribution to compare with"
    )


def refuse_few_for_balls(metric: str, k: int, **sets: NDArray[Any]) -> None:
    """Raises TooFewSamples when a set has fewer than 10 rows for each of the k neighbours that make its balls."""
    least = SAMPLES_A_NEIGHBOUR * k
    for name, rows in sets.items():
        if len(rows) < least:
            raise TooFewSamples(f"{metric}: {len(rows)} {name} samples; needs at least {least} for k = {k}")


def refuse_points_for_balls(metric: str, name: str, squared_radii: Array, rows: NDArray[Any]) -> None:
    """Raises Degenerate when most balls of rows (M, D) have radius 0 but for rounding, as rows are repeated."""
    points = 0
    for start in range(0, len(rows), ROW_BLOCK):
        part = rows[start : start + ROW_BLOCK].astype(np.float64)
        squares = np.einsum("nd,nd->n", part, part)
        points += int((squared_radii[start : start + ROW_BLOCK] <= SAME**2 * squares).sum())
    if 2 * points > len(rows):
        found = f"{points:,} of {len(rows):,} balls of the {name} samples have radius 0"
        raise Degenerate(f"{metric}: {found}, as these samples are repeated")


def refuse_one_class(metric: str, name: str, labels: NDArray[Any]) -> None:
    """Raises Degenerate when all labels (N,) are the same."""
    if len(labels) and (labels == labels[0]).all():
        raise Degenerate(f"{metric}: all {len(labels):,} {name} samples are of class {labels[0]}; needs two classes")
