"""The operations of `arithmetic` by torch on an accelerator, within a memory budget."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genbench.machine import products_in
from genbench.metrics.arithmetic import Arithmetic
from genbench.metrics.parts import Work
from genbench.metrics.products import TF32, Products

RESIDENT = 1 / 5  # of the memory: for each of up to two sets that stay there between blocks
CHUNK = 1 / 20  # of the memory: rows of a larger set that are there at once
LARGER = 8  # times the CPU's blocks: small ones leave a GPU idle


class DeviceRows:
    """Rows (N, D): there at once where they fit, else copied a chunk at a time when they are used."""

    def __init__(self, source: Tensor, device: torch.device, chunk: int) -> None:
        self.source, self.device, self.chunk = source, device, chunk

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, part: slice) -> DeviceRows:
        return DeviceRows(self.source[part], self.device, self.chunk)

    def whole(self) -> Tensor:
        """All of them, there."""
        return self.source.to(self.device)

    def chunks(self) -> Iterator[Tensor]:
        """Consecutive parts, there."""
        there = self.source.device.type == self.device.type
        return (part.to(self.device) for part in self.source.split(max(len(self), 1) if there else self.chunk))


class _DeviceArithmetic(Arithmetic):
    """As `Arithmetic`, on a device of torch."""

    halves_pairs = False  # a GPU multiplies faster than the CPU decides what is left

    def __init__(self, device: torch.device, memory: int, kind: Products) -> None:
        super().__init__(memory, kind)
        self.device, self.there = str(device), device

    def step(self, usual: int, bytes_each: float) -> int:
        return super().step(LARGER * usual, bytes_each)

    def put(self, values: NDArray[Any]) -> Tensor:
        return _tensor(values).to(self.there)

    def get(self, block: Tensor) -> NDArray[Any]:
        values: NDArray[Any] = block.cpu().numpy()
        return values

    def rows(self, values: NDArray[Any]) -> DeviceRows:
        return self._rows(_tensor(values))

    def _rows(self, source: Tensor) -> DeviceRows:
        row_bytes = source.itemsize * source.shape[1]
        fits = len(source) * row_bytes <= RESIDENT * self.memory
        chunk = max(1, int(CHUNK * self.memory / max(row_bytes, 1)))
        return DeviceRows(source.to(self.there) if fits else source, self.there, chunk)

    def whole(self, rows: DeviceRows) -> Tensor:
        return rows.whole()

    def products(self, left: DeviceRows, right: DeviceRows) -> Tensor:
        x = left.whole()
        parts = [x @ y.T for y in right.chunks()]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def coarse_rows(self, values: NDArray[np.float32]) -> DeviceRows:
        return self._rows(self.kind.as_stored(_tensor(self.kind.rounded(values))))

    def coarse(self, left: DeviceRows, right: DeviceRows) -> Tensor:
        with products_in("high" if self.kind is TF32 else "highest"):
            return self.products(left, right).float()

    def coarse_own(self, rows: DeviceRows) -> Tensor:
        return self.coarse(rows, rows)

    def share(self, block: Tensor, work: Work) -> None:
        work(slice(0, len(block)))

    def zeros(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.float64, device=self.there)

    def stacked(self, *blocks: Tensor) -> Tensor:
        return torch.cat(blocks)

    def beside(self, *blocks: Tensor) -> Tensor:
        return torch.cat(blocks, dim=1)

    def square_sums(self, blocks: Iterable[NDArray[np.float64]], d: int) -> Tensor:
        total = self.zeros(d, d)
        for block in blocks:
            there = self.put(block)
            total += there.T @ there
        return total

    def sums(self, block: Tensor, axis: int) -> NDArray[np.float64]:
        return self.get(block.sum(axis, dtype=torch.float64))

    def square_sum(self, block: Tensor) -> float:
        return float(block.square().sum(1).sum(dtype=torch.float64))

    def row_products(self, left: Tensor, right: Tensor) -> NDArray[np.float64]:
        return self.get((left * right).sum(1))

    def weighted(self, block: Tensor, weights: Tensor) -> Tensor:
        return block.double() @ weights

    def double(self, block: Tensor) -> Tensor:
        return block.double()

    def single(self, block: Tensor) -> Tensor:
        return block.float()

    def divergences(self, block: Tensor, mean: Tensor) -> Tensor:
        return torch.where(block > 0, block / mean, 1.0).log() * block

    def picked(self, block: Tensor, columns: NDArray[np.int64]) -> NDArray[Any]:
        return self.get(block.gather(1, self.put(columns)))

    def expm1(self, block: Tensor) -> Tensor:
        return block.expm1_()

    def chosen(self, block: Tensor, mask: Tensor) -> tuple[NDArray[np.intp], NDArray[Any]]:
        flat = mask.flatten().nonzero().flatten()
        return self.get(flat), self.get(block.flatten()[flat])

    def kth_largest(self, block: Tensor, k: int) -> Tensor:
        return block.topk(k, dim=1).values[:, -1]

    def ascending(self, block: Tensor) -> Tensor:
        return block.sort(dim=1).values

    def order(self, block: Tensor) -> tuple[Tensor, Tensor]:
        values, order = block.sort(dim=1)
        return values, order

    def placed(self, values: Tensor, order: Tensor) -> Tensor:
        return torch.empty_like(values).scatter_(1, order, values)

    def running(self, block: Tensor) -> Tensor:
        return block.cumsum(1)

    def cholesky(self, squares: Tensor) -> Tensor | None:
        lower, info = torch.linalg.cholesky_ex(squares)
        return None if int(info) else lower.T.contiguous()

    def triangle(self, rows: Tensor) -> Tensor:
        return torch.linalg.qr(rows, mode="r").R

    def singular_values(self, matrix: Tensor) -> NDArray[np.float64]:
        return self.get(torch.linalg.svdvals(matrix))

    def right_singular(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        return torch.linalg.svd(matrix, full_matrices=False)[1:]

    def eigenvalues(self, symmetric: Tensor) -> NDArray[np.float64]:
        return self.get(torch.linalg.eigvalsh(symmetric))

    def eigenvectors(self, symmetric: Tensor) -> tuple[Tensor, Tensor]:
        return torch.linalg.eigh(symmetric)

    coarse_eigenvectors = eigenvectors

    def congruence(self, root: Tensor, symmetric: Tensor) -> Tensor:
        return root @ symmetric @ root.T


def arithmetic_on(device: torch.device, memory: int, kind: Products) -> Arithmetic:
    """The operations on a device that is not the CPU, with at most this many bytes beside the features."""
    return _DeviceArithmetic(device, memory, kind)


def _tensor(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.require(values, requirements=["C", "W"]))  # torch warns of memory that is read-only
