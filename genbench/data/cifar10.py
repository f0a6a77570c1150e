"""`cifar10`: 60,000 colour photographs of ten things, 32x32, 256 levels (Krizhevsky 2009, "Learning Multiple Layers").

The archive is the binary one, cifar-10-binary.tar.gz: records of one byte of class and 3,072 bytes of image, in order
red, green, blue, row by row. The Python archive holds the same images as pickles; genbench unpickles nothing that came
from outside, so the archive without pickles is the one it reads, from memory, after its hash. The split is the
source's: 50,000 train, 10,000 test.

It is looked for in $GENBENCH_DATA, else in the user's cache folder, and downloaded (through torchvision) only when the
user asks for it. A file found there must be the published one. `path` names another archive of the same form, such as
a part of it to try a suite out: it is taken whatever its hash, and its hash is the dataset's fingerprint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genbench.contract import DataSpec
from genbench.data.base import Dataset
from genbench.data.captions import CAPTIONS
from genbench.data.cifar_records import Records, counts, read_archive
from genbench.data.published import PublishedFile, PublishedSet, published_hash
from genbench.errors import DataError

SPEC = DataSpec(channels=3, height=32, width=32, levels=256, classes=10)
NAME = "cifar-10-binary.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{NAME}"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
PUBLISHED = PublishedSet("cifar10", (PublishedFile(NAME, URL, 170_052_171, sha256=SHA256),), images=(50_000, 10_000))
RECORDS = Records(SPEC, train="data_batch_", test="test_batch")


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """The images with the source's split. Raises DataError for an archive that is missing, another one, or broken."""
    archive = place if entry.get("path") else PUBLISHED.folder(entry) / NAME
    expected = published_hash(archive, "sha256")
    train, test = read_archive(read(archive), place if entry.get("path") else NAME, RECORDS)
    return Dataset("cifar10", SPEC, train, test, expected, CAPTIONS["cifar10"])


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint: of the published archive as declared (`load` verifies it), of one named by path its own.

    Raises DataError when the archive is not there and may not be downloaded.
    """
    if entry.get("path"):
        return SPEC, published_hash(place, "sha256")
    PUBLISHED.find(entry)
    return SPEC, PUBLISHED.files[0].sha256


def sizes(entry: dict[str, Any], path: Path) -> tuple[int, int] | None:
    """How many images are trained on and held out; of an archive named by path, from the sizes of its files."""
    return counts(path, RECORDS) if entry.get("path") else PUBLISHED.images


def read(path: Path) -> bytes:
    """The archive's bytes."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
