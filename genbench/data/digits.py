"""`digits`: scikit-learn's 1,797 handwritten digits, 8x8 pixels, 17 grey levels; in that package, no download.

The source is the test half of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998). It names
no split; ours sorts the images by (class, SHA-256 of the image's number) and takes every fifth one for the test split:
1,437 train, 360 test, each class within one image of a fifth, no random number generator involved.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genbench.contract import DataSpec
from genbench.data.base import Dataset, Split, fingerprint
from genbench.data.captions import CAPTIONS
from genbench.errors import DataError

SPEC = DataSpec(channels=1, height=8, width=8, levels=17, classes=10)
IMAGES = (1_437, 360)
FINGERPRINT = "8d0fd8ce2a82923dff34e5f906df0bb3c4fc242613a484983c701585efab8a65"


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint, declared; `load` verifies them."""
    return SPEC, FINGERPRINT


def sizes(entry: dict[str, Any], path: Path) -> tuple[int, int]:
    """How many images are trained on and held out, declared."""
    return IMAGES


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """The digits with their fixed split. Raises DataError when scikit-learn brings other pixels than the declared."""
    from sklearn.datasets import load_digits  # 1.6 s to import: only when the pixels are wanted

    raw = load_digits()
    pixels = torch.from_numpy(raw.images.astype(np.uint8))[:, None]  # (1797, 1, 8, 8)
    labels = torch.from_numpy(raw.target.astype(np.int64))
    train, test = split_numbers(labels.tolist())
    splits = Split(pixels[train], labels[train]), Split(pixels[test], labels[test])
    dataset = Dataset("digits", SPEC, *splits, FINGERPRINT, CAPTIONS["digits"])
    found = fingerprint(dataset.train, dataset.test)
    if found != FINGERPRINT:
        raise DataError(
            f"digits: scikit-learn's load_digits(): found pixels of SHA-256 {found}, allowed: {FINGERPRINT}"
        )
    return dataset


def split_numbers(labels: list[int]) -> tuple[list[int], list[int]]:
    """Numbers of the train and of the test images, each ascending."""
    order = sorted(range(len(labels)), key=lambda i: (labels[i], hashlib.sha256(str(i).encode()).digest()))
    test = set(order[::5])
    return [i for i in range(len(labels)) if i not in test], sorted(test)
