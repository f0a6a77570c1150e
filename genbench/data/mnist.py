"""`mnist`: 70,000 grey images of handwritten digits, 28x28, ten classes (LeCun et al. 1998).

Four files in IDX format, with the MD5 that torchvision has. The split is the source's: 60,000 train, 10,000 test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genbench.contract import DataSpec
from genbench.data.base import Dataset, Split
from genbench.data.captions import CAPTIONS
from genbench.data.idx import read_idx
from genbench.data.published import PublishedFile, PublishedSet

SPEC = DataSpec(channels=1, height=28, width=28, levels=256, classes=10)
URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
PUBLISHED = PublishedSet(
    "mnist",
    tuple(
        PublishedFile(name, f"{URL}{name}", size, md5)
        for name, size, md5 in (
            ("train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
            ("train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
            ("t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
            ("t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
        )
    ),
    ("MNIST/raw",),
    images=(60_000, 10_000),
)


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """The images with the source's split. Raises DataError when files are missing or not the published ones."""
    home = PUBLISHED.folder(entry)
    train_x, train_y, test_x, test_y = (read_idx(home / file.name) for file in PUBLISHED.files)
    train, test = Split(train_x[:, None], train_y.long()), Split(test_x[:, None], test_y.long())
    return Dataset("mnist", SPEC, train, test, PUBLISHED.fingerprint, CAPTIONS["mnist"])


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint, declared (`load` verifies them), once the files are known to be there or allowed."""
    PUBLISHED.find(entry)
    return SPEC, PUBLISHED.fingerprint
