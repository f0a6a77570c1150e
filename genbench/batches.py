"""Batches of real images from a whole dataset that stays on the training device as uint8."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from genbench.contract import Batch
from genbench.seeds import stream_seed
from genbench.space import seeded, to_unit_range


class Batches:
    """An endless shuffled stream: each epoch is a permutation that depends on (seed, epoch) alone.

    pixels (N, C, H, W) uint8 and labels (N,) or None on one device. taken: images handed out so far; setting it
    moves to that place of the stream, which is all that a checkpoint needs to keep.
    """

    def __init__(self, pixels: Tensor, labels: Tensor | None, levels: int, seed: int, flip: bool = False) -> None:
        self.pixels, self.labels, self.levels, self.seed, self.flip = pixels, labels, levels, seed, flip
        self.taken = 0
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def next(self, size: int, gen: Generator) -> Batch:
        """The next `size` images; gen decides which are mirrored when flip is on."""
        index = self._indices(size).to(self.pixels.device)
        pixels = self.pixels[index]
        if self.flip:
            mirrored = torch.rand(size, 1, 1, 1, generator=gen, device=gen.device) < 0.5
            pixels = torch.where(mirrored.to(pixels.device), pixels.flip(3), pixels)
        labels = None if self.labels is None else self.labels[index]
        return Batch(to_unit_range(pixels, self.levels), pixels, labels)

    def _indices(self, size: int) -> Tensor:
        parts: list[Tensor] = []
        missing = size
        while missing:
            epoch, place = divmod(self.taken, len(self.pixels))
            part = self._permutation(epoch)[place : place + missing]
            parts.append(part)
            self.taken += len(part)
            missing -= len(part)
        return torch.cat(parts)

    def _permutation(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            gen = seeded(stream_seed(self.seed, "epoch", epoch))
            self._epoch, self._order = epoch, torch.randperm(len(self.pixels), generator=gen)
        return self._order
