"""`svhn`: 99,289 colour photographs of house numbers, 32x32, ten classes (Netzer et al. 2011), the cropped digits.

Two MATLAB files with the MD5 that torchvision has. The split is the source's: 73,257 train, 26,032 test; the additional
images are not used. The files call the digit 0 class 10; here it is class 0.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from genbench.contract import DataSpec
from genbench.data.base import Dataset, Split
from genbench.data.captions import CAPTIONS
from genbench.data.published import PublishedFile, PublishedSet
from genbench.errors import DataError

SPEC = DataSpec(channels=3, height=32, width=32, levels=256, classes=10)
URL = "http://ufldl.stanford.edu/housenumbers/"
PUBLISHED = PublishedSet(
    "svhn",
    (
        PublishedFile(
            "train_32x32.mat", f"{URL}train_32x32.mat", 182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"
        ),
        PublishedFile("test_32x32.mat", f"{URL}test_32x32.mat", 64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
    ),
    images=(73_257, 26_032),
)  # fmt: skip


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """The images with the source's split. Raises DataError when files are missing or not the published ones."""
    home = PUBLISHED.folder(entry)
    train, test = (read_mat(home / file.name) for file in PUBLISHED.files)
    return Dataset("svhn", SPEC, train, test, PUBLISHED.fingerprint, CAPTIONS["svhn"])


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint, declared; `load` verifies them."""
    PUBLISHED.find(entry)
    return SPEC, PUBLISHED.fingerprint


def read_mat(path: Path) -> Split:
    """X (32, 32, 3, N) uint8 and y (N, 1) with classes 1 to 10 of a MATLAB file."""
    from scipy.io import loadmat  # slow to import: only for this dataset

    try:
        content = loadmat(path)
        x, y = content["X"], np.asarray(content["y"]).reshape(-1)
    except Exception as error:  # a damaged file may make its reader raise anything
        raise DataError(f"{path}: not a readable MATLAB file with X and y: {error}") from error
    if x.dtype != np.uint8 or x.shape != (*SPEC.shape[1:], SPEC.channels, len(y)):
        raise DataError(f"{path}: X: found {x.dtype} of shape {x.shape}, allowed: uint8 of shape (32, 32, 3, {len(y)})")
    if not set(np.unique(y).tolist()) <= set(range(1, 11)):
        raise DataError(f"{path}: y: found classes {y.min()} to {y.max()}, allowed: 1 to 10")
    pixels = np.ascontiguousarray(x.transpose(3, 2, 0, 1))
    return Split(torch.from_numpy(pixels), torch.from_numpy(y.astype(np.int64) % 10))
