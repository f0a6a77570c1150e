"""What a model is built for and receives: the shape of the data, batches of real images, and what samples must show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class DataSpec:
    """Shape and value range of a dataset: (channels, height, width), grey levels, number of classes (0: no labels)."""

    channels: int
    height: int
    width: int
    levels: int = 256
    classes: int = 0

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (self.channels, self.height, self.width)

    @property
    def dims(self) -> int:
        """Number of pixel values in one image, C * H * W."""
        return self.channels * self.height * self.width


@dataclass(frozen=True)
class Batch:
    """Real images: x (B, C, H, W) float in [-1, 1], pixels (B, C, H, W) uint8, labels (B,) int64 or None.

    texts: a caption of each image, where the data has captions. source: in a translation task, images (B, C, H, W) in
    [-1, 1] of the domain to translate from, unpaired with x.
    """

    x: Tensor
    pixels: Tensor
    labels: Tensor | None = None
    texts: tuple[str, ...] | None = None
    source: Tensor | None = None

    def __len__(self) -> int:
        return len(self.x)

    def rows(self, start: int, stop: int) -> Batch:
        """The images start..stop of the batch, with what belongs to them."""
        parts: dict[str, Any] = {name: part if part is None else part[start:stop] for name, part in vars(self).items()}
        return Batch(**parts)


@dataclass(frozen=True)
class Condition:
    """What samples must show: labels (n,) int64, texts (n strings), or images (n, C, H, W) in [-1, 1]."""

    labels: Tensor | None = None
    texts: tuple[str, ...] | None = None
    images: Tensor | None = None

    def rows(self, start: int, stop: int) -> Condition:
        """What the samples start..stop must show."""
        parts: dict[str, Any] = {name: part if part is None else part[start:stop] for name, part in vars(self).items()}
        return Condition(**parts)
