"""`stl10`: 13,000 labelled colour photographs of ten things, 96x96 (Coates et al. 2011).

The archive has images column by column. The split is the source's: 5,000 train, 8,000 test; the images without labels
are not used.
"""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genbench.contract import DataSpec
from genbench.data.base import Dataset, Split
from genbench.data.captions import CAPTIONS
from genbench.data.published import PublishedFile, PublishedSet
from genbench.errors import DataError

SPEC = DataSpec(channels=3, height=96, width=96, levels=256, classes=10)
NAME = "stl10_binary.tar.gz"
PUBLISHED = PublishedSet(
    "stl10",
    (
        PublishedFile(
            NAME, f"http://ai.stanford.edu/~acoates/stl10/{NAME}", 2_640_397_119, "91f7769df0f17e558f3565bffb0c7dfb"
        ),
    ),
    images=(5_000, 8_000),
)
MEMBERS = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """The images with the source's split. Raises DataError for an archive that is missing, another one, or broken."""
    content = read_members(PUBLISHED.folder(entry) / NAME)
    train, test = (_split(content[f"{part}_X.bin"], content[f"{part}_y.bin"], part) for part in ("train", "test"))
    return Dataset("stl10", SPEC, train, test, PUBLISHED.fingerprint, CAPTIONS["stl10"])


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint, declared; `load` verifies them."""
    PUBLISHED.find(entry)
    return SPEC, PUBLISHED.fingerprint


def read_members(path: Path) -> dict[str, bytes]:
    """The labelled parts, by name; the archive is read as a stream, and nothing is written."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, mode="r|*") as archive:
            for member in archive:
                name = Path(member.name).name
                content = archive.extractfile(member) if name in MEMBERS and member.isreg() else None
                if content is not None:
                    found[name] = content.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: not a readable tar archive: {error}") from error
    absent = [name for name in MEMBERS if name not in found]
    if absent:
        raise DataError(f"{path}: {', '.join(absent)}: not in the archive")
    return found


def _split(images: bytes, labels: bytes, part: str) -> Split:
    count = len(labels)
    if len(images) != count * SPEC.dims:
        found = f"{len(images):,} bytes of images and {count} labels"
        raise DataError(f"{NAME}: {part}: found {found}, allowed: {SPEC.dims:,} bytes for each label")
    y = np.frombuffer(labels, np.uint8).astype(np.int64) - 1
    if y.min() < 0 or y.max() >= SPEC.classes:
        raise DataError(f"{NAME}: {part}: found classes {y.min() + 1} to {y.max() + 1}, allowed: 1 to 10")
    x = np.frombuffer(images, np.uint8).reshape(-1, SPEC.channels, SPEC.width, SPEC.height).transpose(0, 1, 3, 2)
    return Split(torch.from_numpy(x.copy()), torch.from_numpy(y))
