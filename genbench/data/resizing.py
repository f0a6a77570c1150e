"""Images of different sizes brought to one size, in one of three ways, with Pillow's antialiased Lanczos filter.

crop: the shorter side is resized and the middle kept. stretch: both sides are resized, whatever the proportions.
pad: the longer side is resized and the rest is black.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from genbench.data.image_set import Found, ImageSet, batch_size
from genbench.errors import DataError

WAYS = ("crop", "stretch", "pad")
FILTER = Image.Resampling.LANCZOS


@dataclass(frozen=True)
class Sizing:
    """A side in pixels, or (height, width), and how images are brought to it: crop, stretch or pad.

    levels: grey levels; no resized value of an image passes the highest, where the image does not.
    """

    size: int | tuple[int, int]
    how: str = "crop"
    levels: int = 256

    def __post_init__(self) -> None:
        """Raises DataError for a size below 1 or an unknown way."""
        if self.how not in WAYS:
            raise DataError(f"--fit: found '{self.how}', allowed: {', '.join(WAYS)}")
        if min(self.shape) < 1:
            raise DataError(f"--size: found {self.size}, allowed: at least 1 pixel")

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def protocol(self) -> dict[str, Any]:
        """The protocol fields."""
        return {"size": self.size, "fit": f"{self.how}, Lanczos (Pillow)"}

    def apply(self, image: Image.Image) -> Image.Image:
        """The picture in the size; unchanged when it has it."""
        wanted = (self.shape[1], self.shape[0])
        if image.size == wanted:
            return image
        top = self.levels - 1
        within = top < 255 and int(np.asarray(image).max()) <= top
        shown = self._resized(image, wanted)
        return shown.point([min(k, top) for k in range(256)] * len(shown.getbands())) if within else shown

    def _resized(self, image: Image.Image, wanted: tuple[int, int]) -> Image.Image:
        if self.how == "crop":
            return ImageOps.fit(image, wanted, FILTER)
        return ImageOps.pad(image, wanted, FILTER) if self.how == "pad" else image.resize(wanted, FILTER)


class Resized(ImageSet):
    """Another set's images in a size."""

    def __init__(self, images: ImageSet, fit: Sizing) -> None:
        self.images, self.fit, self.name = images, fit, images.name
        self.count, self.shape = images.count, (images.shape[0], *fit.shape)
        self.given_labels, self.folders, self.texts = images.given_labels, images.folders, images.texts

    @property
    def found(self) -> Found:
        """As ImageSet."""
        return self.images.found

    def rows(self, size: int, first: int = 0, every: int = 1) -> Iterator[Tensor]:
        """As ImageSet."""
        for part in self.images.rows(min(size, batch_size(self.images.shape)), first, every):
            yield torch.stack([self._one(image) for image in part])

    def _one(self, image: Tensor) -> Tensor:
        planes = [Image.fromarray(plane.numpy()) for plane in image]
        return torch.from_numpy(np.stack([np.array(self.fit.apply(plane)) for plane in planes]))

    @property
    def source_hash(self) -> str:
        """As ImageSet."""
        return hashlib.sha256(f"{self.images.source_hash} {self.fit}".encode()).hexdigest()

    def in_channels(self, channels: int) -> ImageSet:
        """As ImageSet."""
        return Resized(self.images.in_channels(channels), self.fit)
