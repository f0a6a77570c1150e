"""Batches of real images from a whole dataset that stays on the training device as uint8."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from genbench.contract import Batch
from genbench.keys import stream_seed
from genbench.space import seeded, to_unit_range


class Batches:
    """An endless shuffled stream: each epoch is a permutation that depends on (seed, epoch) alone.

    pixels (N, C, H, W) uint8 and labels (N,) or None on one device. captions: a text for each label. source
    (M, C, H, W) uint8: the domain to translate from, drawn with replacement. taken: images handed out so far; setting
    it moves to that place of the stream, which is all that a checkpoint needs to keep.
    """

    def __init__(
        self,
        pixels: Tensor,
        labels: Tensor | None,
        levels: int,
        seed: int,
        flip: bool = False,
        captions: tuple[str, ...] = (),
        source: Tensor | None = None,
    ) -> None:
        self.pixels, self.labels, self.levels, self.seed, self.flip = pixels, labels, levels, seed, flip
        self.captions, self.source = captions, source
        self.taken = 0
        self._epoch, self._order = -1, torch.empty(0, dtype=torch.long)

    def next(self, size: int, gen: Generator) -> Batch:
        """The next `size` images; gen decides which are mirrored when flip is on."""
        index = self._indices(size).to(self.pixels.device)
        pixels = self._mirrored(self.pixels[index], gen)
        labels = None if self.labels is None else self.labels[index]
        texts = tuple(self.captions[k] for k in labels.tolist()) if self.captions and labels is not None else None
        return Batch(to_unit_range(pixels, self.levels), pixels, labels, texts, self._sources(size, gen))

    def _mirrored(self, pixels: Tensor, gen: Generator) -> Tensor:
        if not self.flip:
            return pixels
        mirrored = torch.rand(len(pixels), 1, 1, 1, generator=gen, device=gen.device) < 0.5
        return torch.where(mirrored.to(pixels.device), pixels.flip(3), pixels)

    def _sources(self, size: int, gen: Generator) -> Tensor | None:
        if self.source is None:
            return None
        index = torch.randint(len(self.source), (size,), generator=gen, device=gen.device)
        chosen = self.source[index.to(self.source.device)]
        return to_unit_range(self._mirrored(chosen, gen), self.levels)

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
