"""Random numbers of a part of a batch: drawn for the whole batch, of which the part's rows are kept.

An image then has the same numbers however the batch is divided, and the generator is afterwards as after the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from genbench.dispatch import Intercepts
from genbench.errors import CellFailure


class RowsOf(NamedTuple):
    """The rows start..stop of n along an axis."""

    axis: int
    start: int
    stop: int
    n: int


class RowsOfNoise(Intercepts):
    """Operations with a generator draw for the whole batch where `rows_of` says so; the part's rows are kept.

    no_rows: the reason of a CellFailure where numbers of the part have no axis of images, as a permutation of it.
    """

    no_rows = "its random numbers are not a row for each image"

    def rows_of(self, shape: Sequence[int]) -> RowsOf | None:
        """Which rows of which whole an operation's numbers of this shape are; None for numbers that all parts share."""
        raise NotImplementedError

    def enlarged(self, values: Tensor, rows: RowsOf) -> Tensor:
        """An operation's argument with this part's rows, for the whole batch; those of the others may be any."""
        repeats = [rows.n if axis == rows.axis else 1 for axis in range(values.ndim)]
        whole = values.narrow(rows.axis, 0, 1).repeat(repeats)
        whole.narrow(rows.axis, rows.start, rows.stop - rows.start).copy_(values)
        return whole

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """The part's rows of what the operation gives for the whole batch."""
        kwargs = kwargs or {}
        if not isinstance(kwargs.get("generator"), Generator):
            return op(*args, **kwargs)
        sized = next((i for i, a in enumerate(args) if isinstance(a, Tensor | list | tuple)), None)
        rows = self.rows_of(args[:1] if sized is None else _shape(args[sized]))
        if rows is None:
            return op(*args, **kwargs)
        if sized is None:
            raise CellFailure(self.no_rows)
        whole = [self._whole(a, rows) if i == sized or isinstance(a, Tensor) else a for i, a in enumerate(args)]
        numbers = op(*whole, **kwargs).narrow(rows.axis, rows.start, rows.stop - rows.start)
        return args[sized].copy_(numbers) if op._schema.name.endswith("_") else numbers.clone()

    def _whole(self, value: Any, rows: RowsOf) -> Any:
        if not isinstance(value, Tensor):
            return [*value[: rows.axis], rows.n, *value[rows.axis + 1 :]]
        divided = value.ndim > rows.axis and value.shape[rows.axis] == rows.stop - rows.start
        return self.enlarged(value, rows) if divided else value


def _shape(value: Tensor | Sequence[int]) -> Sequence[int]:
    return value.shape if isinstance(value, Tensor) else value


class NoiseOfTheBatch(TorchFunctionMode):
    """While it is open, random numbers are drawn for a batch of n images, of which this process has start..stop.

    The generators of all processes must be in one state, and then are so again. Numbers are of the images where their
    first axis, or the second where the first is not 1, is as long as the part, and where the first divides that length,
    as in a loss of every second image; others are shared by all images.
    """

    def __init__(self, start: int, stop: int, n: int) -> None:
        super().__init__()
        self.rows = _RowsOfTheBatch(start, stop, n)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the function, with random numbers of the batch where it has a generator."""
        kwargs = kwargs or {}
        if not isinstance(kwargs.get("generator"), Generator):
            return func(*args, **kwargs)
        with self.rows:
            return func(*args, **kwargs)


class _RowsOfTheBatch(RowsOfNoise):
    no_rows = "the batch cannot be divided among processes: its random numbers are not a row for each image"

    def __init__(self, start: int, stop: int, n: int) -> None:
        super().__init__()
        self.start, self.stop, self.n = start, stop, n

    def rows_of(self, shape: Sequence[int]) -> RowsOf | None:
        """As NoiseOfTheBatch says."""
        count, first = self.stop - self.start, shape[0] if shape else 1
        if shape and first == count:
            return RowsOf(0, self.start, self.stop, self.n)
        if first == 1:
            return None
        if len(shape) > 1 and shape[1] == count:
            return RowsOf(1, self.start, self.stop, self.n)
        ends = [end * first for end in (self.start, self.stop, self.n)]
        if count % first or any(end % count for end in ends):
            return None
        return RowsOf(0, *(end // count for end in ends))


class RecordedDraws(Intercepts):
    """While it is open, remembers every operation with a generator, so that `repeat` draws as much again."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[Callable[[], object]] = []

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls the operation."""
        kwargs = kwargs or {}
        if isinstance(kwargs.get("generator"), Generator):
            self._calls.append(_call_again(op, args, kwargs))
        return op(*args, **kwargs)

    def repeat(self) -> None:
        """Repeats the operations in their order; what they draw is not used."""
        for call in self._calls:
            call()


def _call_again(op: Any, args: Any, kwargs: Any) -> Callable[[], object]:
    """The operation with the same arguments; one that fills a tensor fills a new one of that shape."""
    if not op._schema.name.endswith("_"):
        return lambda: op(*args, **kwargs)
    filled, *others = args
    shape, kind, device = filled.shape, filled.dtype, filled.device
    return lambda: op(torch.empty(shape, dtype=kind, device=device), *others, **kwargs)
