"""Sums of a kernel over pairs of rows: float32 products in blocks, sums in float64.

A product of float32 rows has a relative rounding error of about 1e-7, which differs in sign from pair to pair and
averages out in a mean over pairs; `tests/metrics/test_gram.py` states how closely the sums agree with float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.metrics.arrays import Array

Rows = NDArray[np.float32]
Kernel = Callable[[Rows], Rows]  # of inner products (B, M); it may change its argument
BLOCK = 1024  # rows of the kernel matrix in memory at a time


class PairSums(NamedTuple):
    """Of each row the sum of the kernel over the other set (N,), and the sum of its squares over all pairs."""

    rows: Array
    squares: float


def single(rows: Any) -> Rows:
    """Rows (N, D) as float32, contiguous."""
    return np.ascontiguousarray(rows, dtype=np.float32)


def blocks(n: int) -> Iterator[slice]:
    """Consecutive parts of 0..n."""
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))


def across_sums(x: Rows, y: Rows, kernel: Kernel) -> PairSums:
    """Sums over y (M, D) for each x (N, D)."""
    rows, squares = np.empty(len(x)), 0.0
    for part in blocks(len(x)):
        k = kernel(x[part] @ y.T)
        rows[part] = k.sum(axis=1, dtype=np.float64)
        squares += _squares(k)
    return PairSums(rows, squares)


def own_sums(x: Rows, kernel: Kernel) -> PairSums:
    """Sums over the other rows j != i of x (N, D), each pair computed once."""
    rows, squares = np.zeros(len(x)), 0.0
    for part, rest, k in upper_blocks(x, kernel):
        rows[part] += k.sum(axis=1, dtype=np.float64)
        rows[rest] += k[:, part.stop - part.start :].sum(axis=0, dtype=np.float64)
        squares += 2 * _squares(k) - _squares(k[:, : part.stop - part.start])
    return PairSums(rows, squares)


def upper_blocks(x: Rows, kernel: Kernel) -> Iterator[tuple[slice, slice, Rows]]:
    """(part, rest, k): the kernel of the rows of a part with those of the part and of the rest after it; k_ii is 0."""
    for part in blocks(len(x)):
        k = kernel(x[part] @ x[part.start :].T)
        k.ravel()[:: k.shape[1] + 1] = 0.0
        yield part, slice(part.stop, len(x)), k


def members(drawn: NDArray[np.int64], n: int) -> Array:
    """Which of n rows (n, S) belong to subsets drawn (S, size): 1 or 0."""
    inside = np.zeros((n, len(drawn)))
    inside[drawn, np.arange(len(drawn))[:, None]] = 1.0
    return inside


def own_member_sums(x: Rows, inside: Array, kernel: Kernel) -> Array:
    """Of each row x (N, D) the sum of the kernel over the other rows of each subset (N, S); inside: `members`."""
    sums = np.zeros(inside.shape)
    for part, rest, k in upper_blocks(x, kernel):
        sums[part] += k @ inside[part.start :]
        sums[rest] += k[:, part.stop - part.start :].T @ inside[part]
    return sums


def across_member_sums(x: Rows, y: Rows, inside: Array, kernel: Kernel) -> Array:
    """Of each row x (N, D) the sum of the kernel over the rows y (M, D) of each subset (N, S); inside: of y."""
    return np.concatenate([kernel(x[part] @ y.T) @ inside for part in blocks(len(x))])


def _squares(k: Rows) -> float:
    return float(np.einsum("ij,ij->i", k, k).sum(dtype=np.float64))
