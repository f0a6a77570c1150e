"""Work on a batch of images that is repeated in smaller parts when it runs out of memory.

A part receives the rows of the random numbers that the whole batch would have received, so that the result is the same
up to rounding, as long as each image is computed from its own row. Before a batch is halved for the first time, this is
tested with FEW images; where it does not hold (batch statistics, losses that couple images, random numbers of the whole
batch), the work fails.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Generator, Tensor

from genbench.errors import CellFailure
from genbench.processes.noise import RowsOf, RowsOfNoise
from genbench.reasons import out_of_memory

NO_ROWS = "out of memory, and the batch cannot be divided: its random numbers are not a row for each image"
FEW = 3  # images of the test, as one batch and as parts of 2 and 1
TOLERANCE, COARSE = 1e-4, 2e-2  # of float32 on a CPU, and of TF32 and bfloat16
Result = TypeVar("Result")
Rows = Callable[[int, int], Tensor]


@dataclass
class AtOnce:
    """How many images are computed at once: all of a batch, until that needs more memory than there is.

    size: the most that fitted after a failure; None while nothing has failed. tell: is told what was halved.
    """

    tell: Callable[[str], None] = lambda text: None
    size: int | None = None

    @property
    def facts(self) -> dict[str, int]:
        """For the meta data of what was computed: {} where nothing was halved."""
        return {} if self.size is None else {"at_once": self.size}

    def run(
        self, n: int, attempt: Callable[[int], Result], divisible: Callable[[], bool], gen: Generator | None = None
    ) -> Result:
        """attempt(size), which computes n images and at most `size` at once, with the largest size that fits.

        divisible(): whether parts give what the whole gives; asked before the first halving. gen is set back before an
        attempt is repeated. Raises CellFailure when parts differ and when a single image does not fit.
        """
        state = gen.get_state() if gen is not None else torch.empty(0)
        while True:
            size = min(n, self.size or n)
            try:
                return attempt(size)
            except Exception as error:
                reason = out_of_memory(error)
                if not reason:
                    raise
            self._halve(size, reason, divisible)  # here the frames of the attempt, and their tensors, are gone
            if gen is not None:
                gen.set_state(state)

    def rows(self, n: int, compute: Rows, allowed: float, tested: Rows | None = None) -> Tensor:
        """The rows (n, ...) of n images by compute(start, stop), in parts that fit; for work without random numbers.

        tested(start, stop): what may differ by `allowed` between parts and whole; compute itself by default. Raises
        CellFailure as run.
        """

        def joined(of: Rows, images: int, size: int) -> Tensor:
            parts = [of(start, min(images, start + size)) for start in range(0, images, size)]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        def divisible() -> bool:
            few, of = min(FEW, n), tested or compute
            whole, parts = joined(of, few, few), joined(of, few, max(1, few - 1))
            return torch.allclose(whole, parts, rtol=allowed, atol=allowed, equal_nan=True)

        return self.run(n, lambda size: joined(compute, n, size), divisible)

    def _halve(self, size: int, reason: str, divisible: Callable[[], bool]) -> None:
        _free()
        if size == 1:
            raise CellFailure(f"{reason}; with a single image at once")
        if self.size is None and not holds(divisible):
            raise CellFailure(
                f"{reason}; the batch of {size} cannot be divided, because its images depend on each other"
            )
        self.size = -(-size // 2)
        self.tell(f"out of memory with {size:,} images at once; continues with {self.size:,}")


def in_parts(compute: Callable[[int, int], Result], n: int, size: int, gen: Generator) -> list[Result]:
    """compute(start, stop) of each part of n images, at most `size` in a part; afterwards gen is as after the whole."""
    if size >= n:
        return [compute(0, n)]
    state, results, draws = gen.get_state(), [], list[int | None]()
    for start in range(0, n, size):
        gen.set_state(state)
        with _PartOfNoise(start, min(n, start + size), n, draws):
            results.append(compute(start, min(n, start + size)))
    return results


def tolerance(device: torch.device, precision: str) -> float:
    """By how much results of parts and of the whole may differ from rounding, relative to their size."""
    return TOLERANCE if device.type == "cpu" and precision == "fp32" else COARSE


class _PartOfNoise(RowsOfNoise):
    """Numbers whose first axis has the length of the part are of its images.

    draws: what the first part finds of each operation with a generator in turn: None for numbers of the part's images,
    else the first axis of numbers that all images share. Raises CellFailure where a later part finds something else.
    """

    no_rows = NO_ROWS

    def __init__(self, start: int, stop: int, n: int, draws: list[int | None]) -> None:
        super().__init__()
        self.start, self.stop, self.n, self.draws = start, stop, n, draws
        self.first, self.count = start == 0, 0

    def rows_of(self, shape: Sequence[int]) -> RowsOf | None:
        """As draws says."""
        length, axis = self.stop - self.start, shape[0] if shape else 0
        if self.first:
            self.draws.append(None if axis == length else axis)
        known = self.draws[self.count : self.count + 1]  # [] for more numbers than in the first part
        self.count += 1
        if known not in ([None], [axis]) or (known == [None] and axis != length):
            raise CellFailure(NO_ROWS)
        return RowsOf(0, self.start, self.stop, self.n) if known == [None] else None


def holds(divisible: Callable[[], bool]) -> bool:
    """Whether a test with few images succeeds; False where it raises. CellFailure where memory does not suffice."""
    try:
        return divisible()
    except Exception as error:
        if reason := out_of_memory(error):
            raise CellFailure(f"{reason}; with {FEW} images at once") from None
        return False


def _free() -> None:
    """Gives freed memory back, so that smaller blocks can be allocated from it."""
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
