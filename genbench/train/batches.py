"""Batches of real images from a whole dataset, which is on the training device as uint8 where it fits there.

A larger one stays where it is, in the CPU's memory or mapped from a file: a thread reads the images of the next batch
while the model trains on this one, and they are copied. No step waits for the device: the numbers of the next images
and their captions are computed on the CPU, and the order of an epoch is copied to the device once.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Generator, Tensor

from genbench.contract import Batch
from genbench.keys import stream_seed
from genbench.space import seeded, to_device, to_unit_range

ALL, CPU = slice(None), torch.device("cpu")
AHEAD = 2**28  # bytes: larger datasets that are not on the device are read ahead, as they may be mapped from files


class Batches:
    """An endless shuffled stream: each epoch is a permutation that depends on (seed, epoch) alone.

    pixels (N, C, H, W) uint8 on any device, labels (N,) on any device or None. device: of the batches, where both are
    moved if they fit. texts: a caption for each
    image. source (M, C, H, W) uint8: the domain to translate from, drawn with replacement. taken: number of images
    returned so far; setting it moves to that position of the stream, and a checkpoint needs nothing else.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor | None,
        levels: int,
        seed: int,
        flip: bool = False,
        texts: tuple[str, ...] | None = None,
        source: Tensor | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        self.device = torch.device(device or pixels.device)
        self.pixels, self.levels, self.seed, self.flip = resident(pixels, self.device), levels, seed, flip
        self.labels = None if labels is None else labels.to(self.device)
        self.texts, self.source = texts, None if source is None else resident(source, self.device)
        self.taken = 0
        self._reader = ThreadPoolExecutor(1) if self.pixels.nbytes > AHEAD else None
        self._ahead: tuple[Tensor, Future[Tensor]] | None = None
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)
        self._order_there = self._order

    def next(self, size: int, gen: Generator, rows: slice = ALL) -> Batch:
        """The next `size` images; gen decides which are mirrored when flip is on.

        rows: of these images, the ones that are returned; neither the stream nor gen depends on it.
        """
        here, index = (numbers[rows] for numbers in self._indices(size))
        chosen = self.pixels[index] if self.pixels.device == self.device != CPU else self._read(here, size, rows)
        pixels = self._mirrored(to_device(chosen, self.device), size, gen, rows)
        labels = None if self.labels is None else self.labels[index]
        texts = None if self.texts is None else tuple(self.texts[i] for i in here.tolist())
        return Batch(to_unit_range(pixels, self.levels), pixels, labels, texts, self._sources(size, gen, rows))

    def _read(self, here: Tensor, size: int, rows: slice) -> Tensor:
        """The images with these numbers, which the thread has read unless the stream was moved."""
        if self._reader is None:
            return self.pixels[here]
        known = self._ahead is not None and torch.equal(self._ahead[0], here)
        chosen = self._ahead[1].result() if self._ahead is not None and known else self.pixels[here]
        taken = self.taken
        following = self._indices(size)[0][rows]
        self.taken = taken
        self._ahead = following, self._reader.submit(self.pixels.__getitem__, following)
        return chosen

    def _mirrored(self, pixels: Tensor, size: int, gen: Generator, rows: slice) -> Tensor:
        if not self.flip:
            return pixels
        mirrored = torch.rand(size, 1, 1, 1, generator=gen, device=gen.device)[rows] < 0.5
        return torch.where(mirrored.to(pixels.device), pixels.flip(3), pixels)

    def _sources(self, size: int, gen: Generator, rows: slice) -> Tensor | None:
        if self.source is None:
            return None
        index = torch.randint(len(self.source), (size,), generator=gen, device=gen.device)[rows]
        chosen = to_device(self.source[index.to(self.source.device)], self.device)
        return to_unit_range(self._mirrored(chosen, size, gen, rows), self.levels)

    def _indices(self, size: int) -> tuple[Tensor, Tensor]:
        """The numbers (size,) of the next images, on the CPU and on the device."""
        here, there = [], []
        missing = size
        while missing:
            epoch, start = divmod(self.taken, len(self.pixels))
            self._enter(epoch)
            here.append(self._order[start : start + missing])
            there.append(self._order_there[start : start + missing])
            self.taken += len(here[-1])
            missing -= len(here[-1])
        return torch.cat(here), torch.cat(there)

    def _enter(self, epoch: int) -> None:
        if epoch != self._epoch:
            gen = seeded(stream_seed(self.seed, "epoch", epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.pixels), generator=gen)
            self._order_there = to_device(self._order, self.device)


def resident(pixels: Tensor, device: torch.device) -> Tensor:
    """Images on the device where they fill at most half of its free memory; else as they are."""
    if device.type == "cuda" and 2 * pixels.nbytes > torch.cuda.mem_get_info(device)[0]:
        return pixels
    return pixels.to(device)
