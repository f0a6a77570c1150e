"""`imagenet`: ImageNet's challenge of 2012 (Russakovsky et al. 2015), 1,281,167 train images in a thousand classes.

`path` is a folder with the published archives, whose MD5 torchvision has, or with what torchvision's ImageNet makes of
them: folders train and val with a folder for each class. Classes are numbered in the order of their names (n01440764,
...), as there. The 50,000 val images are the test split. Images are brought to a size; default 64.

Archives are read as streams, a few hundred pictures at a time; neither is unpacked as a whole.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from genbench.contract import DataSpec
from genbench.data import folder
from genbench.data.base import Dataset
from genbench.data.folder import sizing
from genbench.data.pictures import Pictures
from genbench.data.published import NAMES, PublishedFile, shown_size
from genbench.data.stored import Named, StoredPart, classes_of_stored, describe_stored, read_stored, stored
from genbench.data.unpack import BROKEN
from genbench.errors import DataError

FIXED = {"labels": "folders", "captions": None, "split": "folders"}
PAGE = "https://image-net.org/download.php"
TRAIN = PublishedFile("ILSVRC2012_img_train.tar", PAGE, 147_897_477_120, "1d675b47d978889d74fa0da5fadfb00e")
VAL = PublishedFile("ILSVRC2012_img_val.tar", PAGE, 6_744_924_160, "29b22e2961454d5413ddabcf34fc5622")
DEVKIT = PublishedFile("ILSVRC2012_devkit_t12.tar.gz", PAGE, 2_568_145, "fa75699e90414af021442c21a62c3abf")
ARCHIVES = (TRAIN, VAL, DEVKIT)
META, TRUTH = "meta.mat", "ILSVRC2012_validation_ground_truth.txt"  # of the devkit
AT_ONCE = 250  # pictures on the disk at a time

Member = tuple[str, str, IO[bytes]]  # class or "", name, content


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """The images. Raises DataError where folders and archives are missing, or archives are not the published ones."""
    return read_stored(_stored(entry, place)) if _has_archives(place) else folder.load_folder(_as_folder(entry), place)


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint."""
    if _has_archives(place):
        return describe_stored(_stored(entry, place))
    return folder.describe_folder(_as_folder(entry), place)


def sizes(entry: dict[str, Any], place: Path) -> tuple[int, int]:
    """How many images are trained on and held out."""
    if not _has_archives(place):
        return folder.sizes(_as_folder(entry), place)
    dataset = read_stored(_stored(entry, place))
    return len(dataset.train), len(dataset.test)


def class_names(entry: dict[str, Any], place: Path) -> tuple[str, ...]:
    """The names of the classes, as WordNet's numbers."""
    if _has_archives(place):
        return classes_of_stored(_stored(entry, place))
    return folder.class_names(_as_folder(entry), place)


def _as_folder(entry: dict[str, Any]) -> dict[str, Any]:
    return {**entry, **FIXED}


def _has_archives(place: Path) -> bool:
    """Whether the archives are read; False for folders. Raises DataError where neither is there."""
    if all((place / name).is_dir() for name in ("train", "val")):
        return False
    absent = [file for file in ARCHIVES if not (place / file.name).is_file()]
    if not absent:
        return True
    files = ", ".join(f"{f.name} ({shown_size(f.size)}, {NAMES[f.algorithm]} {f.hash})" for f in absent)
    raise DataError(
        f"imagenet: {place}: no folders train and val, and no {files}; download them by hand from {PAGE} to {place}"
    )


def _stored(entry: dict[str, Any], place: Path) -> Path:
    options = {key: value for key, value in entry.items() if key != "path"}

    def make(scratch: Path) -> Named:
        for file in ARCHIVES:
            file.check(place / file.name)
        try:
            return _read(entry, place, scratch)
        except BROKEN as error:
            raise DataError(f"imagenet: {place}: not a readable archive: {error}") from error

    return stored("imagenet", options, place, make)


def _read(entry: dict[str, Any], place: Path, scratch: Path) -> Named:
    truth = val_classes(place / DEVKIT.name)
    pixels, train = decode_stream(train_members(place / TRAIN.name), entry, scratch / "train.raw")
    held_out, names = decode_stream(val_members(place / VAL.name), entry, scratch / "val.raw")
    if len(truth) != len(names):
        raise DataError(f"{place}: found {len(names)} images in {VAL.name}, {DEVKIT.name} has classes of {len(truth)}")
    order = sorted(range(len(names)), key=lambda i: names[i][1])  # the file of classes is in the order of names
    wnids = [name for name, _ in train]
    numbers = {name: number for number, name in enumerate(sorted(set(wnids)))}
    unknown = sorted(set(truth) - set(numbers))
    if unknown:
        raise DataError(f"{place}: {VAL.name} has images of {unknown[0]}, of which {TRAIN.name} has none")
    labels = dict(zip(order, (numbers[name] for name in truth), strict=True))
    parts = {
        "train": StoredPart(pixels, range(len(wnids)), [numbers[name] for name in wnids]),
        "test": StoredPart(held_out, order, [labels[i] for i in range(len(names))]),
    }
    return parts, list(numbers)


def train_members(path: Path) -> Iterator[Member]:
    """The images of an archive that has an archive for each class, with the class."""
    with tarfile.open(path, mode="r|") as outer:
        for member in outer:
            content = outer.extractfile(member) if member.isreg() else None
            if content is not None:
                with tarfile.open(fileobj=content, mode="r|") as inner:
                    yield from _images(inner, PurePosixPath(member.name).stem)


def val_members(path: Path) -> Iterator[Member]:
    """The images of an archive without classes."""
    with tarfile.open(path, mode="r|") as archive:
        yield from _images(archive, "")


def _images(archive: tarfile.TarFile, name: str) -> Iterator[Member]:
    for member in archive:
        content = archive.extractfile(member) if member.isreg() else None
        if content is not None:
            yield name, PurePosixPath(member.name).name, content


def decode_stream(members: Iterator[Member], entry: dict[str, Any], path: Path) -> tuple[Tensor, list[tuple[str, str]]]:
    """All images (N, C, H, W) of a stream, mapped from a file at path that has no name any more; class and name."""
    known, shape = list[tuple[str, str]](), (0, 0, 0)
    with path.open("wb") as file:
        while True:
            with tempfile.TemporaryDirectory(dir=path.parent) as block:
                names = [_written(member, Path(block), i) for i, member in enumerate(islice(members, AT_ONCE))]
                if not names:
                    break
                pictures = Pictures(Path(block), sizing(entry)).in_channels(3)
                if pictures.count != len(names):
                    raise DataError(f"imagenet: {len(names) - pictures.count} files after {names[0]} are no pictures")
                for part in pictures.batches():
                    file.write(part.numpy().tobytes())
                known, shape = known + names, pictures.shape
    if not known:
        raise DataError(f"imagenet: {path.stem}: found no images in the archive")
    pixels = torch.from_numpy(np.memmap(path, np.uint8, "c", shape=(len(known), *shape)))
    path.unlink()
    return pixels, known


def _written(member: Member, block: Path, number: int) -> tuple[str, str]:
    """Writes a member under its number, whatever its name."""
    kind, name, content = member
    (block / f"{number:04}.jpeg").write_bytes(content.read())
    return kind, name


def val_classes(devkit: Path) -> list[str]:
    """The class of each val image, in the order of the images' names."""
    from scipy.io import loadmat  # slow to import: only for these archives

    with tarfile.open(devkit, mode="r:gz") as archive:
        members = {PurePosixPath(m.name).name: m for m in archive if m.isreg()}
        absent = [name for name in (META, TRUTH) if name not in members]
        if absent:
            raise DataError(f"{devkit}: {' and '.join(absent)}: not in the archive")
        contents = {name: archive.extractfile(members[name]) for name in (META, TRUTH)}
        table, truth = (content.read() if content else b"" for content in contents.values())
    try:
        synsets = loadmat(io.BytesIO(table), squeeze_me=True)["synsets"]  # type: ignore[arg-type]
        names = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in np.atleast_1d(synsets)}
        return [names[int(line)] for line in truth.split()]
    except Exception as error:  # a damaged file may make its reader raise anything
        raise DataError(f"{devkit}: not a readable devkit: {error}") from error
