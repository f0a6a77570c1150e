"""What a dataset is: two named splits of uint8 grey levels, their shape, and a fingerprint of the pixels."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path
from torch import Tensor

from genbench.contract import DataSpec


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split: pixels (N, C, H, W) uint8 grey-level indices, labels (N,) int64 or None."""

    pixels: Tensor
    labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, eq=False)
class Domain:
    """The other side of a translation task: image i of test is the counterpart of image i of the dataset's test."""

    train: Split
    test: Split


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset as loaded: models see train only; test is held out. fingerprint: SHA-256 (hex) of both splits, or
    of the archive that they come from.

    captions: one text a class, () where there are none. source: what translators translate from, into this dataset.
    """

    name: str
    spec: DataSpec
    train: Split
    test: Split
    fingerprint: str
    captions: tuple[str, ...] = ()
    source: Domain | None = None


def fingerprint(*splits: Split) -> str:
    """SHA-256 (hex) over the shapes, pixels and labels of the splits, in order; the same on every machine."""
    state = hashlib.sha256()
    for split in splits:
        state.update(f"{tuple(split.pixels.shape)} {split.labels is not None};".encode())
        state.update(split.pixels.contiguous().numpy().data)
        if split.labels is not None:
            state.update(split.labels.numpy().astype("<i8").data)
    return state.hexdigest()


def download_folder() -> Path:
    """Where named datasets are looked for first and downloaded to: $GENBENCH_DATA, or the user's cache folder."""
    named = os.environ.get("GENBENCH_DATA")
    return Path(named).expanduser() if named else user_cache_path("genbench") / "data"


def download_allowed(download: bool) -> bool:
    """Whether the dataset's entry or GENBENCH_DOWNLOAD=1 allows to fetch what is not on this machine."""
    return download or os.environ.get("GENBENCH_DOWNLOAD") == "1"
