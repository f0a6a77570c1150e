"""The two sets of images that a score compares: paths, names of datasets or arrays; conversion to the same channels."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from genbench import data
from genbench.data.arrays import channels_first
from genbench.data.images import ImageSet, InMemory, Sizing, open_images, to_size
from genbench.data.labels import Classes, as_classes, classes_of_dataset, classes_of_labels
from genbench.errors import DataError
from genbench.keys import digest
from genbench.options import nearest
from genbench.registry import is_target

_SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False)
class Side:
    """One of the two sets: its images, and the dataset and split that they are of, where they are.

    fit: the size that the images were brought to, None for as they are. origin: the arguments of `open_side` that open
    the set in another process.
    """

    images: ImageSet
    dataset: data.Dataset | None = None
    split: str = "all"
    fit: Sizing | None = None
    origin: tuple[Any, ...] = ()

    @property
    def label(self) -> str:
        """A short name for a record."""
        return Path(self.images.name).stem or self.images.name

    @property
    def classes(self) -> Classes | None:
        """The classes of its labels, None without labels."""
        if self.images.given_labels is None:
            return None
        if self.dataset is not None:
            return classes_of_dataset(self.dataset.name, self.dataset.spec.classes)
        return classes_of_labels(self.images.given_labels)


def open_sides(fake: Any, reference: Any, download: bool, fit: Sizing | None) -> tuple[Side, Side]:
    """Both sets, as `open_side` reads them."""
    real = open_side(reference, "reference", download, fit)
    if fit is not None and real.dataset is not None:
        fit = replace(fit, levels=real.dataset.spec.levels)
    return open_side(fake, "fake", download, fit), real


def open_side(images: Any, role: str, download: bool = False, fit: Sizing | None = None) -> Side:
    """A path, a dataset's name (`name` is its train split, `name:test` its test split) or an array.

    role: "fake" or "reference", for messages. fit: the size to bring the images to.
    Raises DataError for what is none of them.
    """
    return replace(_opened(images, role, download, fit), origin=(images, role, download, fit))


def _opened(images: Any, role: str, download: bool, fit: Sizing | None) -> Side:
    if not isinstance(images, str | Path):
        return Side(to_size(InMemory(role, channels_first(np.asarray(images), role)), fit), fit=fit)
    path, (name, split) = Path(images).expanduser(), _name_and_split(str(images))
    if name in data.named() or (is_target(name) and not path.exists()):
        return _named(name, split, role, download, fit)
    if not path.exists():
        known = data.named()
        raise DataError(
            f"{role} '{images}': no such file or folder, and no dataset of that name{nearest(name, known) or ';'} "
            f"allowed: a folder of images, .npz, .npy, or one of {', '.join(known)}"
        )
    return Side(open_images(path, fit), fit=fit)


def _name_and_split(text: str) -> tuple[str, str]:
    """A dataset's name, which may contain a colon, and the split behind it, else the train split."""
    name, _, split = text.rpartition(":")
    return (name, split or _SPLITS[0]) if name in data.named() or split in _SPLITS else (text, _SPLITS[0])


def _named(name: str, split: str, role: str, download: bool, fit: Sizing | None) -> Side:
    if split not in _SPLITS:
        raise DataError(f"{role} '{name}:{split}': unknown split '{split}', allowed: {', '.join(_SPLITS)}")
    entry: dict[str, Any] = {"name": name}
    if download and any(f.name == "download" for f in fields(data.dataset_source(entry).options)):
        entry["download"] = True
    return split_of(data.load(entry), split, fit)


def split_of(dataset: data.Dataset, split: str, fit: Sizing | None = None) -> Side:
    """A split of a dataset as a side, in its own size or brought to another."""
    part = getattr(dataset, split)
    key = digest({"data": dataset.fingerprint, "split": split})
    fit = None if fit is None else replace(fit, levels=dataset.spec.levels)
    images = to_size(InMemory(f"{dataset.name}:{split}", part.pixels, part.labels, key), fit)
    return Side(images, dataset, split, fit)


def labels_as(fake: Side, real: Side) -> tuple[Tensor | None, str]:
    """The labels of fake as numbers of real's classes (N,), or None and the reason."""
    labels, classes = fake.images.given_labels, real.classes
    if labels is None or classes is None:
        return None, "needs labels of both sets: folders named by class, or labels in an .npz"
    numbers, reason = as_classes(labels, classes)
    return numbers, reason and f"{fake.images.name}: {reason}"


def in_same_channels(fake: Side, real: Side) -> tuple[Side, Side]:
    """Both sides with the same channels: grey is repeated to three, or colour that is grey is reduced to one."""
    channels = fake.images.shape[0], real.images.shape[0]
    if channels[0] == channels[1]:
        return fake, real
    colour = [replace(side, images=side.images.in_channels(3)) for side in (fake, real)]
    if all(side.images.shape[0] == 3 for side in colour):
        return colour[0], colour[1]
    return replace(fake, images=fake.images.in_channels(channels[1])), real
