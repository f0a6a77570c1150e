"""`cifar100`: 60,000 colour photographs of a hundred things, 32x32, 256 levels (Krizhevsky 2009).

As `cifar10`, from cifar-100-binary.tar.gz, whose records have two bytes of class, of which the second, fine one is
used. The split is the source's: 50,000 train, 10,000 test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genbench.contract import DataSpec
from genbench.data.base import Dataset
from genbench.data.captions import CAPTIONS
from genbench.data.cifar_records import Records, read_archive
from genbench.data.published import PublishedFile, PublishedSet

SPEC = DataSpec(channels=3, height=32, width=32, levels=256, classes=100)
NAME = "cifar-100-binary.tar.gz"
PUBLISHED = PublishedSet(
    "cifar100",
    (PublishedFile(NAME, f"https://www.cs.toronto.edu/~kriz/{NAME}", 168_513_733, "03b5dce01913d631647c71ecec9e9cb8"),),
    images=(50_000, 10_000),
)
RECORDS = Records(SPEC, train="train.", test="test.", label_bytes=2)


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """The images with the source's split. Raises DataError for an archive that is missing, another one, or broken."""
    train, test = read_archive((PUBLISHED.folder(entry) / NAME).read_bytes(), NAME, RECORDS)
    return Dataset("cifar100", SPEC, train, test, PUBLISHED.fingerprint, CAPTIONS["cifar100"])


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint, declared; `load` verifies them."""
    PUBLISHED.find(entry)
    return SPEC, PUBLISHED.fingerprint
