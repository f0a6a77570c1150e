"""The array operations that metrics spend their time in, by NumPy on the CPU.

A metric asks `computing.arithmetic` for an object of this class and writes its sums with it and with the operators that
NumPy's arrays and torch's tensors share (`@`, `+=`, slices, comparisons). `device_arithmetic` has the same operations
by torch on an accelerator. "There" means: in the memory of whatever computes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genbench.machine import products_in
from genbench.metrics.parts import Work, in_threads, steps
from genbench.metrics.products import BFLOAT16, FLOAT32, Products

Block = Any  # an array that is there
MEMORY = 2 * 2**30  # bytes beside the features
OWN_BLOCK = 512  # rows of a symmetric matrix at a time
SHARED = 2**19  # values of a block that a thread works on: they stay in the processor's cache
FEW_ROWS = 256  # of a symmetric matrix: up to here NumPy's eigenvalues take no time
TEMPORARY = 1 / 2  # of the memory: for one block with what is computed from it


class Arithmetic:
    """Operations on arrays that are there.

    memory: bytes that a metric may use beside the features. kind: of `coarse` products.
    """

    device = "cpu"
    halves_pairs = True  # whether each pair of a set with itself is computed once, which needs more comparisons

    def __init__(self, memory: int = MEMORY, kind: Products = FLOAT32) -> None:
        self.memory, self.kind = memory, kind

    def step(self, usual: int, bytes_each: float) -> int:
        """How many rows to compute at a time: as usual, or as many as fit into memory; bytes_each: of a row."""
        return max(1, min(usual, self.most(bytes_each)))

    def most(self, bytes_each: float) -> int:
        """How many rows with this many bytes of temporary values fit into memory."""
        return int(TEMPORARY * self.memory / max(bytes_each, 1.0))

    def blocks(self, n: int, usual: int, bytes_each: float) -> Iterator[slice]:
        """Consecutive parts of 0..n, each of `step` rows."""
        step = self.step(usual, bytes_each)
        return (slice(start, min(start + step, n)) for start in range(0, n, step))

    def put(self, values: NDArray[Any]) -> Block:
        """An array, there."""
        return values

    def get(self, block: Block) -> NDArray[Any]:
        """What is there as an array of NumPy."""
        return np.asarray(block)

    def rows(self, values: NDArray[Any]) -> Any:
        """Rows (N, D) for `products`, which may be too many to be there at once; slices of them are such rows too."""
        return values

    def whole(self, rows: Any) -> Block:
        """`rows`, there."""
        return rows

    def products(self, left: Any, right: Any) -> Block:
        """Inner products (N, M) of `rows` (N, D) and `rows` (M, D)."""
        return left @ right.T

    def coarse_rows(self, values: NDArray[np.float32]) -> Any:
        """Rows (N, D), which may be changed, for `coarse`."""
        rows = self.kind.rounded(values)
        if self.kind is not BFLOAT16:
            return rows  # NumPy's products: on an AMD EPYC torch's take 1.2 to 1.7 times as long

        import torch  # late: reading a suite names metrics and must be fast; it takes half of NumPy's time

        return self.kind.as_stored(torch.from_numpy(rows))

    def coarse(self, left: Any, right: Any) -> Block:
        """Inner products (N, M) of `coarse_rows`, float32, with the error of `kind`."""
        if self.kind is not BFLOAT16:
            return left @ right.T
        with products_in("highest"):
            return (left @ right.T).float().numpy()

    def coarse_own(self, rows: Any) -> Block:
        """Inner products (N, N) of `coarse_rows`, each pair computed once."""
        n = len(rows)
        result = np.empty((n, n), dtype=np.float32)
        for part in steps(n, OWN_BLOCK):
            result[part, part.start :] = self.coarse(rows[part], rows[part.start :])
            result[part.stop :, part] = result[part, part.stop :].T
        return result

    def share(self, block: Block, work: Work) -> None:
        """Calls work with consecutive parts of the rows of a block, at the same time where that is faster."""
        in_threads(len(block), work, max(1, SHARED // max(1, block.shape[1])))

    def zeros(self, *shape: int) -> Block:
        """Zeros, float64."""
        return np.zeros(shape)

    def stacked(self, *blocks: Block) -> Block:
        """Blocks (., D), one below the other."""
        return np.concatenate(blocks)

    def beside(self, *blocks: Block) -> Block:
        """Blocks (L, .), one beside the other."""
        return np.concatenate(blocks, axis=1)

    def square_sums(self, blocks: Iterable[NDArray[np.float64]], d: int) -> Block:
        """The sum of B' B (D, D) over blocks B (., D)."""
        from scipy.linalg.blas import dsyrk  # late, as above

        total = np.zeros((d, d), order="F")
        for block in blocks:
            dsyrk(1.0, block.T, beta=1.0, c=total, overwrite_c=1, lower=1)
        for part in steps(d, OWN_BLOCK):
            total[part, part.stop :] = total[part.stop :, part].T
            total[part, part] = np.tril(total[part, part]) + np.tril(total[part, part], -1).T
        return total.T

    def sums(self, block: Block, axis: int) -> NDArray[np.float64]:
        """Sums over an axis, added in float64."""
        return np.asarray(block.sum(axis=axis, dtype=np.float64))

    def square_sum(self, block: Block) -> float:
        """The sum of all squares: those of a row in the block's type, over rows in float64."""
        return float(np.einsum("ij,ij->i", block, block).sum(dtype=np.float64))

    def row_products(self, left: Block, right: Block) -> NDArray[np.float64]:
        """x_i' y_i of rows (N, D), float64: (N,)."""
        return np.asarray(np.einsum("nd,nd->n", left, right))

    def weighted(self, block: Block, weights: Block) -> Block:
        """Block (N, M) times weights (M, S), float64."""
        return block @ weights

    def double(self, block: Block) -> Block:
        """In float64."""
        return block.astype(np.float64, copy=False)

    def single(self, block: Block) -> Block:
        """In float32."""
        return block.astype(np.float32, copy=False)

    def divergences(self, block: Block, mean: Block) -> Block:
        """The terms p log(p / mean) of probabilities p (N, K), mean (K,), with 0 log 0 = 0."""
        return block * np.log(np.divide(block, mean, out=np.ones_like(block), where=block > 0))

    def picked(self, block: Block, columns: NDArray[np.int64]) -> NDArray[Any]:
        """Of each row (M,) the values in some columns (N, C)."""
        return np.take_along_axis(block, columns, axis=1)

    def expm1(self, block: Block) -> Block:
        """The exponential minus 1 of the block, which is overwritten."""
        return np.expm1(block, out=block)

    def chosen(self, block: Block, mask: Block) -> tuple[NDArray[np.intp], NDArray[Any]]:
        """Numbers in the flattened block of what the mask chooses, in order, and the values there."""
        flat = np.flatnonzero(mask)
        return flat, block[np.divmod(flat, block.shape[1])]

    def kth_largest(self, block: Block, k: int) -> Block:
        """The k-th largest value of each row."""
        return np.partition(block, block.shape[1] - k, axis=1)[:, -k]

    def ascending(self, block: Block) -> Block:
        """Each row sorted."""
        return np.sort(block, axis=1)

    def order(self, block: Block) -> tuple[Block, Block]:
        """Each row sorted, and the numbers that sort it."""
        order = block.argsort(axis=1)
        return np.take_along_axis(block, order, axis=1), order

    def placed(self, values: Block, order: Block) -> Block:
        """The inverse of `order`: values of a sorted row where they were before."""
        result = np.empty_like(values)
        np.put_along_axis(result, order, values, axis=1)
        return result

    def running(self, block: Block) -> Block:
        """Sums along each row up to each value."""
        return block.cumsum(axis=1)

    def cholesky(self, squares: Block) -> Block | None:
        """Upper R with R' R = squares; None where that is not positive definite."""
        import torch  # late, as above

        lower, info = torch.linalg.cholesky_ex(torch.from_numpy(squares))
        return None if int(info) else lower.numpy().T

    def triangle(self, rows: Block) -> Block:
        """R (min(n, D), D) of rows = Q R."""
        return np.linalg.qr(rows, mode="r")

    def singular_values(self, matrix: Block) -> NDArray[np.float64]:
        """Largest first."""
        return np.asarray(np.linalg.svd(matrix, compute_uv=False))

    def right_singular(self, matrix: Block) -> tuple[Block, Block]:
        """Singular values, largest first, and the right singular vectors as rows."""
        return np.linalg.svd(matrix, full_matrices=False)[1:]

    def eigenvalues(self, symmetric: Block) -> NDArray[np.float64]:
        """Smallest first; of a symmetric matrix, of which only the lower triangle is read here and below."""
        if len(symmetric) <= FEW_ROWS:
            return np.asarray(np.linalg.eigvalsh(symmetric))
        import torch  # late, as above

        return np.asarray(torch.linalg.eigvalsh(torch.from_numpy(symmetric)))

    def eigenvectors(self, symmetric: Block) -> tuple[Block, Block]:
        """Eigenvalues, smallest first, and the vectors as columns."""
        values, vectors = np.linalg.eigh(symmetric)
        return values, vectors

    def coarse_eigenvectors(self, symmetric: Block) -> tuple[Block, Block]:
        """The same in float32, of a matrix in float32."""
        import torch  # late, as above

        values, vectors = torch.linalg.eigh(torch.from_numpy(symmetric))
        return values.numpy(), vectors.numpy()

    def congruence(self, root: Block, symmetric: Block) -> Block:
        """R S R' of an upper triangle R and a symmetric S (D, D): only its lower triangle, which eigenvalues read."""
        from scipy.linalg.lapack import dsygst  # late, as above

        lower: Block = dsygst(symmetric.T, root.T, itype=2, lower=1)[0]
        return lower
