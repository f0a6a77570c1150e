"""Images of different sizes brought to one square size, in one of three ways, with Pillow's antialiased Lanczos filter.

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
class Fit:
    """A square size in pixels, and how images are brought to it: crop, stretch or pad."""

    size: int
    how: str = "crop"

    def __post_init__(self) -> None:
        """Raises DataError for a size below 1 or an unknown way."""
        if self.how not in WAYS:
            raise DataError(f"--fit: found '{self.how}', allowed: {', '.join(WAYS)}")
        if self.size < 1:
            raise DataError(f"--size: found {self.size}, allowed: at least 1 pixel")

    @property
    def protocol(self) -> dict[str, Any]:
        """The protocol fields."""
        return {"size": self.size, "fit": f"{self.how}, Lanczos (Pillow)"}

    def apply(self, image: Image.Image) -> Image.Image:
        """The picture in the size; unchanged when it has it."""
        wanted = (self.size, self.size)
        if image.size == wanted:
            return image
        if self.how == "crop":
            return ImageOps.fit(image, wanted, FILTER)
        return ImageOps.pad(image, wanted, FILTER) if self.how == "pad" else image.resize(wanted, FILTER)


class Resized(ImageSet):
    """Another set's images in a size; levels: grey levels, which no resized value passes."""

    def __init__(self, images: ImageSet, fit: Fit, levels: int) -> None:
        self.images, self.fit, self.levels, self.name = images, fit, levels, images.name
        self.count, self.shape = images.count, (images.shape[0], fit.size, fit.size)
        self.given_labels, self.folders = images.given_labels, images.folders

    @property
    def found(self) -> Found:
        """As ImageSet."""
        return self.images.found

    def rows(self, size: int) -> Iterator[Tensor]:
        """As ImageSet."""
        for part in self.images.rows(min(size, batch_size(self.images.shape))):
            yield torch.stack([self._one(image) for image in part]).clamp_max(self.levels - 1)

    def _one(self, image: Tensor) -> Tensor:
        planes = [Image.fromarray(plane.numpy()) for plane in image]
        return torch.from_numpy(np.stack([np.array(self.fit.apply(plane)) for plane in planes]))

    @property
    def source_hash(self) -> str:
        """As ImageSet."""
        return hashlib.sha256(f"{self.images.source_hash} {self.fit} {self.levels}".encode()).hexdigest()

    def in_channels(self, channels: int) -> ImageSet:
        """As ImageSet."""
        return Resized(self.images.in_channels(channels), self.fit, self.levels)
