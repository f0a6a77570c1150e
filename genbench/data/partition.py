"""Which images are held out: by folder, by the hash of their pixels, or a random share from a seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from genbench.errors import DataError
from genbench.space import seeded

POLICIES = ("auto", "folders", "hash", "share")
TRAIN_NAMES, TEST_NAMES = ("train", "training"), ("test", "testing", "val", "valid", "validation")
TENTH = 10  # of the images, the part that is held out by hash
Parts = tuple[list[int], list[int]]


def split_folders(tops: Sequence[str]) -> tuple[str, str] | None:
    """The names of the folders of the train and the test split among the first folders of all images; else None."""
    names = {name.lower(): name for name in tops}
    train = next((names[name] for name in TRAIN_NAMES if name in names), None)
    test = next((names[name] for name in TEST_NAMES if name in names), None)
    return None if train is None or test is None or not all(map(is_split, names)) else (train, test)


def is_split(top: str) -> bool:
    """Whether a folder has the name of a split."""
    return top.lower() in (*TRAIN_NAMES, *TEST_NAMES)


def by_folder(tops: Sequence[str], folders: tuple[str, str]) -> Parts:
    """The numbers of the images below each of two folders; a third folder is left out."""
    train, test = ([i for i, top in enumerate(tops) if top == name] for name in folders)
    return train, test


def by_hash(pixels: Tensor) -> Parts:
    """Images are ordered by the SHA-256 of their pixels; the first tenth (rounded down, at least one) is held out.

    So the split depends neither on file names nor on a random number generator.
    """
    hashes = [hashlib.sha256(image.numpy().data).digest() for image in pixels]
    order = sorted(range(len(hashes)), key=lambda i: (hashes[i], i))
    end = held_out(len(order))
    return sorted(order[end:]), sorted(order[:end])


def held_out(count: int) -> int:
    """How many images of that many are held out by hash."""
    return max(1, count // TENTH)


def by_share(count: int, share: float, seed: int) -> Parts:
    """A random share (rounded to whole images, at least one and not all) is held out."""
    order = torch.randperm(count, generator=seeded(seed)).tolist()
    end = min(max(1, round(count * share)), count - 1)
    return sorted(order[end:]), sorted(order[:end])


def refuse_single(count: int, name: object) -> None:
    """Raises DataError for a set that cannot be split."""
    if count < 2:
        raise DataError(f"{name}: 1 image, allowed: at least 2, one to train on and one to hold out")
