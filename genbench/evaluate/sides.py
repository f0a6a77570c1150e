"""The two sets of images that a score compares: paths, names of datasets or arrays; conversion to the same channels."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from genbench import data
from genbench.data.files import channels_first
from genbench.data.images import ImageSet, InMemory, open_images
from genbench.errors import DataError
from genbench.keys import digest
from genbench.options import nearest
from genbench.registry import is_target

_SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two sets: its images, and the dataset and split that contain them, where there are any."""

    images: ImageSet
    dataset: data.Dataset | None = None
    split: str = "all"

    @property
    def label(self) -> str:
        """A short name for a record."""
        return Path(self.images.name).stem or self.images.name


def open_side(images: Any, role: str, download: bool = False) -> Side:
    """A path, a dataset's name (`name` is its train split, `name:test` its test split) or an array.

    role: "fake" or "reference", for messages. Raises DataError for what is none of them.
    """
    if not isinstance(images, str | Path):
        return Side(InMemory(role, channels_first(np.asarray(images), role)))
    path, (name, split) = Path(images).expanduser(), _name_and_split(str(images))
    if name in data.named() or (is_target(name) and not path.exists()):
        return _named(name, split, role, download)
    if not path.exists():
        known = data.named()
        raise DataError(
            f"{role} '{images}': no such file or folder, and no dataset of that name{nearest(name, known) or ';'} "
            f"allowed: a folder of images, .npz, .npy, or one of {', '.join(known)}"
        )
    return Side(open_images(path))


def _name_and_split(text: str) -> tuple[str, str]:
    """A dataset's name, which may contain a colon, and the split behind it, else the train split."""
    name, _, split = text.rpartition(":")
    return (name, split or _SPLITS[0]) if name in data.named() or split in _SPLITS else (text, _SPLITS[0])


def _named(name: str, split: str, role: str, download: bool) -> Side:
    if split not in _SPLITS:
        raise DataError(f"{role} '{name}:{split}': unknown split '{split}', allowed: {', '.join(_SPLITS)}")
    entry: dict[str, Any] = {"name": name}
    if download and any(f.name == "download" for f in fields(data.dataset_source(entry).options)):
        entry["download"] = True
    return split_of(data.load(entry), split)


def split_of(dataset: data.Dataset, split: str) -> Side:
    """A split of a dataset as a side."""
    part = getattr(dataset, split)
    key = digest({"data": dataset.fingerprint, "split": split})
    return Side(InMemory(f"{dataset.name}:{split}", part.pixels, part.labels, key), dataset, split)


def in_same_channels(fake: Side, real: Side) -> tuple[Side, Side]:
    """Both sides with the same channels: grey is repeated to three, or colour that is grey is reduced to one."""
    channels = fake.images.shape[0], real.images.shape[0]
    if channels[0] == channels[1]:
        return fake, real
    colour = [replace(side, images=side.images.in_channels(3)) for side in (fake, real)]
    if all(side.images.shape[0] == 3 for side in colour):
        return colour[0], colour[1]
    return replace(fake, images=fake.images.in_channels(channels[1])), real
