"""The processes that compute a batch together: operations over all of them, and what a model may ask of the others.

Of a batch of B images, process r of N has about the rows r B/N .. (r + 1) B/N. The objective is the mean of the
losses that the processes return, each weighted by its number of images, so that a loss that is a mean over images needs
no change. A model whose images depend on each other in training asks for what the other processes have:

    across_processes(x)        the rows of the whole batch
    own_rows(x)                of rows of the whole batch those of this process
    mean_across_processes(x)   the mean over the whole batch of what is a mean over this process's rows

All of them are differentiable, any number of times, and return their argument where there is one process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from genbench.errors import CellFailure


@dataclass(frozen=True)
class Processes:
    """Process `rank` of `size` processes, which are torch.distributed's default group if there are several.

    local_rank: its number among those of its machine. Every process must call the same operations in the same order.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def alone(self) -> bool:
        """Whether there is one process."""
        return self.size == 1

    def device(self, name: str) -> str:
        """The device of this process: of several GPUs the one with its number."""
        return f"cuda:{self.local_rank}" if name == "cuda" and not self.alone else name

    def rows(self, n: int) -> tuple[int, int]:
        """Start and end of this process's rows among n, which are about as many for each process.

        Pairs of rows stay together if n is even and large enough, for a loss of every second image.
        """
        unit = 2 if n % self.size and n % 2 == 0 and n >= 2 * self.size else 1
        start, stop = (unit * (n // unit * rank // self.size) for rank in (self.rank, self.rank + 1))
        return start, stop

    @torch.no_grad()
    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors by their means over the processes: one message for each type of number."""
        for kind in dict.fromkeys(t.dtype for t in tensors if not self.alone):
            same = [t for t in tensors if t.dtype == kind]
            message = torch.cat([t.flatten() for t in same])
            dist.all_reduce(message)
            parts = message.div_(self.size).split([t.numel() for t in same])
            for tensor, part in zip(same, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    @torch.no_grad()
    def agree(self, tensors: Sequence[Tensor]) -> None:
        """Replaces tensors by those of process 0."""
        for tensor in tensors if not self.alone else ():
            message = tensor.contiguous()
            dist.broadcast(message, 0)
            tensor.copy_(message)

    def from_first(self, value: Any) -> Any:
        """Plain data and tensors that process 0 has; what the others give is not used."""
        values = [value]
        if not self.alone:
            dist.broadcast_object_list(values, 0)
        return values[0]

    def collected(self, value: Any) -> list[Any]:
        """In process 0 what each process gives, in the order of their numbers; in the others nothing."""
        if self.alone:
            return [value]
        values = [None] * self.size if self.rank == 0 else None
        dist.gather_object(value, values, 0)
        return values or []


ALONE = Processes()


@dataclass(frozen=True)
class Shares:
    """A batch of n images, of which each process of the group has its rows."""

    group: Processes
    n: int

    @property
    def own(self) -> int:
        """How many images this process has."""
        start, stop = self.group.rows(self.n)
        return stop - start

    @property
    def weight(self) -> float:
        """The factor of a mean over this process's images that makes the mean over the processes that of the batch."""
        return self.own * self.group.size / self.n

    def bounds(self, total: int) -> list[tuple[int, int]]:
        """Start and end of each process's part of `total` rows. Raises CellFailure where they are no whole numbers."""
        size = self.group.size
        ends = [Processes(rank, size).rows(self.n)[1] * total for rank in range(size)]
        if any(end % self.n for end in ends):
            raise CellFailure(f"{total} rows cannot be divided as the {self.n} images of the batch among processes")
        return list(pairwise([0, *(end // self.n for end in ends)]))


_current = [Shares(ALONE, 1)]


@contextmanager
def together(shares: Shares) -> Iterator[None]:
    """While it is open, the functions below ask the other processes that have a share of the batch."""
    _current.append(shares)
    try:
        yield
    finally:
        _current.pop()


def across_processes(rows: Tensor) -> Tensor:
    """The rows (B, ...) of the whole batch, of which this process has `rows` (B / N, ...)."""
    shares = _current[-1]
    if shares.group.alone:
        return rows
    if rows.dtype == torch.bool:  # which gloo does not send
        return across_processes(rows.to(torch.uint8)).bool()
    gathered: Tensor = _Gather.apply(rows, shares.group.rank, shares.bounds(len(rows) * shares.n // shares.own))
    return gathered


def own_rows(rows: Tensor) -> Tensor:
    """The rows of this process (B / N, ...) of those (B, ...) of the whole batch."""
    shares = _current[-1]
    if shares.group.alone:
        return rows
    start, stop = shares.bounds(len(rows))[shares.group.rank]
    return rows[start:stop]


def mean_across_processes(values: Tensor) -> Tensor:
    """The mean over the images of the batch, from a tensor that is a mean over this process's images.

    The tensor has the same shape in each process.
    """
    shares = _current[-1]
    if shares.group.alone:
        return values
    total: Tensor = _Sum.apply(values * shares.weight)
    return total / shares.group.size


class _Sum(torch.autograd.Function):
    """The sum over the processes. Its gradient is the sum over the processes of the gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Sum.apply(gradients[0])


class _Gather(torch.autograd.Function):
    """The rows of all processes, with the bounds of each; all send as many as the one that has most.

    The gradient of a process's rows is summed over the processes, which all use them.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: int, bounds: list[tuple[int, int]]) -> Tensor:
        ctx.own, sizes = bounds[rank], [stop - start for start, stop in bounds]
        message = rows.new_zeros(max(sizes), *rows.shape[1:])
        message[: len(rows)] = rows.detach()
        parts = [torch.empty_like(message) for _ in sizes]
        dist.all_gather(parts, message)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        start, stop = ctx.own
        return _Sum.apply(gradients[0])[start:stop], None, None
