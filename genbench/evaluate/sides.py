"""The two sets of images that a score compares: paths, names of datasets or arrays, and how they are made alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from genbench import data
from genbench.data.files import channels_first
from genbench.data.images import ImageSet, InMemory, open_images
from genbench.errors import DataError
from genbench.keys import digest
from genbench.registry import nearest

SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two sets: its images, and the dataset and split that they are of, where they are."""

    images: ImageSet
    dataset: data.Dataset | None = None
    split: str = "all"

    @property
    def label(self) -> str:
        """A short name for a record."""
        return Path(self.images.name).stem or self.images.name


def open_side(given: Any, role: str, download: bool = False) -> Side:
    """A path, a dataset's name (`name` is its train split, `name:test` its test split) or an array.

    role: "fake" or "reference", for messages. Raises DataError for what is none of them.
    """
    if not isinstance(given, str | Path):
        return Side(InMemory(role, channels_first(np.asarray(given), role)))
    name, _, split = str(given).partition(":")
    if name in datasets():
        return _named(name, split or SPLITS[0], role, download)
    path = Path(given).expanduser()
    if not path.exists():
        raise DataError(
            f"{role} '{given}': no such file or folder, and no dataset of that name{nearest(name, datasets()) or ';'} "
            f"allowed: a folder of images, .npz, .npy, or one of {', '.join(datasets())}"
        )
    return Side(open_images(path))


def datasets() -> tuple[str, ...]:
    """The datasets that a name alone tells."""
    return tuple(name for name, source in data.SOURCES.items() if not {"path", "of"} & set(source.keys))


def _named(name: str, split: str, role: str, download: bool) -> Side:
    if split not in SPLITS:
        raise DataError(f"{role} '{name}:{split}': unknown split '{split}', allowed: {', '.join(SPLITS)}")
    asked = download and "download" in data.SOURCES[name].keys
    return split_of(data.load({"name": name, "download": asked} if asked else {"name": name}), split)


def split_of(dataset: data.Dataset, split: str) -> Side:
    """A split of a dataset as a side."""
    part = getattr(dataset, split)
    key = digest({"data": dataset.fingerprint, "split": split})
    return Side(InMemory(f"{dataset.name}:{split}", part.pixels, part.labels, key), dataset, split)


def in_same_channels(fake: Side, real: Side) -> tuple[Side, Side]:
    """Both sides, grey pictures repeated to three channels beside colour, or grey ones stored as colour made grey."""
    channels = fake.images.shape[0], real.images.shape[0]
    if channels[0] == channels[1]:
        return fake, real
    colour = [replace(side, images=side.images.in_channels(3)) for side in (fake, real)]
    if all(side.images.shape[0] == 3 for side in colour):
        return colour[0], colour[1]
    return replace(fake, images=fake.images.in_channels(channels[1])), real
