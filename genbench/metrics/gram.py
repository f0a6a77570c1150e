"""Sums of a kernel over pairs of rows: float32 products in blocks, sums in float64.

A product of float32 rows has a relative rounding error of about 1e-7, which differs in sign from pair to pair and
averages out in a mean over pairs; `tests/metrics/test_kernel.py` states how closely the sums agree with float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from genbench.metrics.arithmetic import Arithmetic, Block
from genbench.metrics.arrays import Array
from genbench.metrics.computing import arithmetic

Rows = NDArray[np.float32]
Kernel = Callable[[Block], object]  # writes its values over inner products (B, M)
BLOCK = 1024  # rows of the kernel matrix in memory at a time
_TEMPORARIES = 6  # values of 4 bytes for each pair: products, kernel, a copy, the kernel in float64


class PairSums(NamedTuple):
    """Of each row the sum of the kernel over the other set (N,), and the sum of its squares over all pairs."""

    rows: Array
    squares: float


def single(rows: Any) -> Rows:
    """Rows (N, D) as float32, contiguous."""
    return np.ascontiguousarray(rows, dtype=np.float32)


def _blocks(at: Arithmetic, n: int, columns: int, features: int) -> Iterator[slice]:
    """Parts of n rows whose kernel with this many columns fits into memory."""
    return at.blocks(n, BLOCK, 4 * (_TEMPORARIES * columns + features))


def _kernel_of(kernel: Kernel, products: Block) -> Block:
    """The kernel in the place of its products (B, M)."""
    arithmetic().share(products, lambda rows: kernel(products[rows]))
    return products


def across_sums(x: Rows, y: Rows, kernel: Kernel) -> PairSums:
    """Sums over y (M, D) for each x (N, D)."""
    at, rows, squares = arithmetic(), np.empty(len(x)), 0.0
    left, right = at.rows(x), at.rows(y)
    for part in _blocks(at, len(x), *y.shape):
        k = _kernel_of(kernel, at.products(left[part], right))
        rows[part] = at.sums(k, 1)
        squares += at.square_sum(k)
    return PairSums(rows, squares)


def own_sums(x: Rows, kernel: Kernel) -> PairSums:
    """Sums over the other rows j != i of x (N, D), each pair computed once."""
    at, rows, squares = arithmetic(), np.zeros(len(x)), 0.0
    for part, rest, k in upper_blocks(x, kernel):
        rows[part] += at.sums(k, 1)
        rows[rest] += at.sums(k[:, part.stop - part.start :], 0)
        squares += 2 * at.square_sum(k) - at.square_sum(k[:, : part.stop - part.start])
    return PairSums(rows, squares)


def upper_blocks(x: Rows, kernel: Kernel) -> Iterator[tuple[slice, slice, Block]]:
    """(part, rest, k): the kernel of the rows of a part with those of the part and of the rest after it; k_ii is 0."""
    at = arithmetic()
    rows = at.rows(x)
    for part in _blocks(at, len(x), *x.shape):
        k = _kernel_of(kernel, at.products(rows[part], rows[part.start :]))
        k.ravel()[:: k.shape[1] + 1] = 0.0
        yield part, slice(part.stop, len(x)), k


def members(drawn: NDArray[np.int64], n: int) -> Array:
    """Which of n rows (n, S) belong to subsets drawn (S, size): 1 or 0."""
    inside = np.zeros((n, len(drawn)))
    inside[drawn, np.arange(len(drawn))[:, None]] = 1.0
    return inside


def own_member_sums(x: Rows, inside: Array, kernel: Kernel) -> Array:
    """Of each row x (N, D) the sum of the kernel over the other rows of each subset (N, S); inside: `members`."""
    at, sums = arithmetic(), np.zeros(inside.shape)
    belongs = at.put(inside)
    for part, rest, k in upper_blocks(x, kernel):
        sums[part] += at.get(at.weighted(k, belongs[part.start :]))
        sums[rest] += at.get(at.weighted(k[:, part.stop - part.start :].T, belongs[part]))
    return sums


def across_member_sums(x: Rows, y: Rows, inside: Array, kernel: Kernel) -> Array:
    """Of each row x (N, D) the sum of the kernel over the rows y (M, D) of each subset (N, S); inside: of y."""
    at = arithmetic()
    left, right, belongs = at.rows(x), at.rows(y), at.put(inside)
    kernels = (_kernel_of(kernel, at.products(left[part], right)) for part in _blocks(at, len(x), *y.shape))
    return np.concatenate([at.get(at.weighted(k, belongs)) for k in kernels])
