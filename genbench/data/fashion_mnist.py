"""`fashion-mnist`: 70,000 grey images of clothes, 28x28, 256 levels, ten classes (Xiao et al. 2017, arXiv:1708.07747).

Its four files are looked for in $GENBENCH_DATA and where Debian's package dataset-fashion-mnist puts them; they are
downloaded (through torchvision) only when the user asks for it. The split is the source's: 60,000 train, 10,000 test.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench.contract import DataSpec
from genbench.data.base import Dataset, Split, download_allowed, download_folder
from genbench.data.captions import CAPTIONS
from genbench.errors import DataError

SPEC = DataSpec(channels=1, height=28, width=28, levels=256, classes=10)
FINGERPRINT = "efb2e23bd1b4ba720c4d5f84419a708c9ae8f8e12b01e1cb05b810795b78977e"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
# SHA-256 of each file's content, decompressed: gzip's own header (a date, a level) does not matter.
FILES = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """The images with the source's split. Raises DataError when files are missing or not the published ones."""
    home = find(entry) or download()
    train_x, train_y, test_x, test_y = (read_idx(home / name, expected) for name, expected in FILES.items())
    train = Split(train_x[:, None], train_y.long())
    test = Split(test_x[:, None], test_y.long())
    return Dataset("fashion-mnist", SPEC, train, test, FINGERPRINT, CAPTIONS["fashion-mnist"])


def find(entry: dict[str, Any]) -> Path | None:
    """The first folder that has the four files; None when there is none and a download is allowed, else DataError."""
    for place in places():
        if all((place / name).is_file() for name in FILES):
            return place
    if download_allowed(bool(entry.get("download"))):
        return None
    looked = ", ".join(str(place) for place in places())
    raise DataError(
        f"fashion-mnist: {', '.join(FILES)}: not found in any of {looked}; set GENBENCH_DATA to their folder, "
        "install Debian's dataset-fashion-mnist, or allow a download with `download: true` or GENBENCH_DOWNLOAD=1"
    )


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint, declared (`load` verifies them), once the files are known to be there or allowed."""
    find(entry)
    return SPEC, FINGERPRINT


def places() -> list[Path]:
    """Folders to look in, in order; `FashionMNIST/raw` is torchvision's layout."""
    home = download_folder()
    named = [home / "fashion-mnist", home] if os.environ.get("GENBENCH_DATA") else []
    return [*named, home / "FashionMNIST" / "raw", DEBIAN]


def download() -> Path:
    """Fetches the four files through torchvision; returns their folder."""
    from torchvision.datasets import FashionMNIST  # 4 s to import: only for a download

    home = download_folder()
    try:
        FashionMNIST(str(home), download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(f"fashion-mnist: download to {home} failed: {error}") from error
    return home / "FashionMNIST" / "raw"


def read_idx(path: Path, expected: str) -> Tensor:
    """The uint8 array of a gzipped IDX file whose decompressed content has the expected SHA-256."""
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(f"{path}: found content of SHA-256 {found}, allowed: {expected}")
    axes = content[3]  # magic number: 0, 0, type (8 = uint8), number of axes; then each length as big-endian int32
    shape = np.frombuffer(content, ">i4", count=axes, offset=4).tolist()
    values = np.frombuffer(content, np.uint8, count=math.prod(shape), offset=4 + 4 * axes)
    return torch.from_numpy(values.reshape(shape).copy())
