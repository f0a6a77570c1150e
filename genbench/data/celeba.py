"""`celeba`: 202,599 aligned colour photographs of faces (Liu et al. 2015), brought to a size; default 64.

img_align_celeba.zip and list_eval_partition.txt with the MD5 that torchvision has; no program can download them. The
partition file's train images are the train split, its test images the test split; its validation images are not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genbench.contract import DataSpec
from genbench.data.base import Dataset
from genbench.data.folder import sizing, unpacked
from genbench.data.pictures import Pictures
from genbench.data.published import PublishedFile, PublishedSet
from genbench.data.stored import Named, StoredPart, decoded, describe_stored, read_stored, stored
from genbench.errors import DataError

PAGE = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
IMAGES, PARTITION = "img_align_celeba.zip", "list_eval_partition.txt"
PUBLISHED = PublishedSet(
    "celeba",
    (
        PublishedFile(IMAGES, PAGE, 1_443_490_838, "00d2c5bc6d35e252742224ab0c1e8fcb"),
        PublishedFile(PARTITION, PAGE, 2_836_386, "d32c9cbf5e040fd4025c592c306e6668"),
    ),
    layouts=("celeba",),
    by_hand=True,
)
TRAIN, TEST = "0", "2"  # as the partition file calls them


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """The images. Raises DataError when files are missing or not the published ones."""
    return read_stored(_stored(entry))


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint."""
    return describe_stored(_stored(entry))


def sizes(entry: dict[str, Any], place: Path) -> tuple[int, int]:
    """How many images are trained on and held out."""
    dataset = read_stored(_stored(entry))
    return len(dataset.train), len(dataset.test)


def _stored(entry: dict[str, Any]) -> Path:
    home = PUBLISHED.find(entry)
    assert home is not None

    def make(scratch: Path) -> Named:
        archive = PUBLISHED.folder(entry) / IMAGES
        return unpacked(scratch, [archive], lambda root: _read(entry, root, home / PARTITION, scratch))

    return stored("celeba", entry, home / IMAGES, make)


def _read(entry: dict[str, Any], root: Path, partition: Path, scratch: Path) -> Named:
    pictures = Pictures(root, sizing(entry))
    numbers = {file.name: i for i, file in enumerate(pictures.files)}
    rows = [line.split() for line in partition.read_text().splitlines()]
    absent = [row[0] for row in rows if row[0] not in numbers]
    if absent:
        raise DataError(f"{IMAGES}: {len(absent)} images of {PARTITION} are missing, the first {absent[0]}")
    pixels = decoded(pictures, scratch / "all.npy")
    (scratch / "all.npy").unlink()
    parts = {"train": TRAIN, "test": TEST}
    return {key: StoredPart(pixels, [numbers[n] for n, part in rows if part == of]) for key, of in parts.items()}, ()
