"""Sets of images that are read a batch at a time, so that their number does not matter to memory.

open_images(path)          a folder of pictures, an .npy or an .npz
InMemory(name, pixels)     an array, or a split of a dataset
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench.data.labels import Labels
from genbench.errors import DataError

MOST, BYTES = 500, 1 << 26  # images and bytes of one batch
MOST_VALUES = 1 << 27  # of one image, e.g. 6,600 x 6,600 pixels in colour


def batch_size(shape: tuple[int, int, int]) -> int:
    """How many images of this shape are held at a time."""
    return max(1, min(MOST, BYTES // int(np.prod(shape))))


def refuse_huge(values: int, place: object) -> None:
    """Raises DataError for an image of more values than are decoded at a time."""
    if values > MOST_VALUES:
        raise DataError(f"{place}: found an image of {values:,} values, allowed: at most {MOST_VALUES:,}")


@dataclass(frozen=True)
class Note:
    """Something to report of a set's files: how many it concerns, the first one's name, and details in words."""

    count: int = 0
    first: str = ""
    text: str = ""


@dataclass(frozen=True)
class Found:
    """What the files say and the pixels do not, by code; `genbench.lint.files` has the sentences."""

    notes: Mapping[str, Note] = field(default_factory=dict)

    @property
    def plain(self) -> dict[str, dict[str, Any]]:
        """As plain data for JSON."""
        return {code: asdict(note) for code, note in self.notes.items()}


def found_from(plain: Mapping[str, Mapping[str, Any]]) -> Found:
    """The inverse of Found.plain."""
    return Found({code: Note(**note) for code, note in plain.items()})


class ImageSet(ABC):
    """A set of images in a fixed order.

    name: for messages. count: N. shape: (C, H, W). given_labels: what the files say of classes, None for nothing.
    folders: whether the order is that of folders named by class. found: what else the files say. texts: of an array,
    what its file says each image was drawn for, () for nothing.
    """

    name: str
    count: int
    shape: tuple[int, int, int]
    given_labels: Labels | None = None
    folders: bool = False
    texts: tuple[str, ...] = ()

    @property
    def labels(self) -> Tensor | None:
        """Numbers of the classes (N,) int64, None where there are none."""
        return None if self.given_labels is None else self.given_labels.numbers

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names by number, () where labels are numbers."""
        return () if self.given_labels is None else self.given_labels.names

    @property
    def found(self) -> Found:
        """What the files say; complete once the images have been read."""
        return Found()

    @abstractmethod
    def rows(self, size: int, first: int = 0, every: int = 1) -> Iterator[Tensor]:
        """Every image once, in order, (n, C, H, W) uint8 at a time, n at most size.

        first, every: only each `every`-th of these parts, from number `first` on; others are not decoded.
        """

    @property
    @abstractmethod
    def source_hash(self) -> str:
        """SHA-256 (hex) of where the images come from: equal hashes hold equal images; known without decoding."""

    def in_channels(self, channels: int) -> ImageSet:
        """The same images in 1 or 3 channels, where that loses nothing; as they are where they are an array."""
        return self

    def batches(self, first: int = 0, every: int = 1) -> Iterator[Tensor]:
        """As rows, in parts that fit into memory whatever the size of the images."""
        return self.rows(batch_size(self.shape), first, every)

    def load(self) -> Tensor:
        """All images at once, (N, C, H, W) uint8."""
        pixels, start = torch.empty((self.count, *self.shape), dtype=torch.uint8), 0
        for part in self.batches():
            pixels[start : start + len(part)] = part
            start += len(part)
        return pixels


class InMemory(ImageSet):
    """Pixels (N, C, H, W) uint8 that are there already; source_hash: None to compute it from them."""

    def __init__(self, name: str, pixels: Tensor, labels: Tensor | None = None, source_hash: str | None = None) -> None:
        self.name, self.pixels, self.known_hash = name, pixels, source_hash
        self.given_labels = None if labels is None else Labels(labels)
        self.count, self.shape = len(pixels), (pixels.shape[1], pixels.shape[2], pixels.shape[3])

    def rows(self, size: int, first: int = 0, every: int = 1) -> Iterator[Tensor]:
        """As ImageSet."""
        yield from self.pixels.split(size)[first::every]

    @property
    def source_hash(self) -> str:
        """As ImageSet."""
        if self.known_hash is not None:
            return self.known_hash
        state = hashlib.sha256(f"{tuple(self.pixels.shape)}".encode())
        for part in self.batches():
            state.update(part.contiguous().numpy().data)
        return state.hexdigest()
