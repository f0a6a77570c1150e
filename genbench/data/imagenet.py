"""`imagenet`: ImageNet's folders train and val with a folder for each class, brought to a size; default 64.

They are what torchvision's ImageNet makes of the archives ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar. Classes
are numbered in the order of their names, as there. The val images are the test split.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genbench.contract import DataSpec
from genbench.data import folder
from genbench.data.base import Dataset
from genbench.errors import DataError

FIXED = {"labels": "folders", "captions": None, "split": "folders"}
ARCHIVES = (
    "ILSVRC2012_img_train.tar (138 GB, MD5 1d675b47d978889d74fa0da5fadfb00e) and ILSVRC2012_img_val.tar (6.74 GB, MD5 "
    "29b22e2961454d5413ddabcf34fc5622)"
)
PAGE = "https://image-net.org/download.php"


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """The images. Raises DataError where the folders are missing."""
    return folder.load_folder(_checked(entry, place), place)


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint."""
    return folder.describe_folder(_checked(entry, place), place)


def sizes(entry: dict[str, Any], place: Path) -> tuple[int, int]:
    """How many images are trained on and held out."""
    return folder.sizes(_checked(entry, place), place)


def _checked(entry: dict[str, Any], place: Path) -> dict[str, Any]:
    absent = [name for name in ("train", "val") if not (place / name).is_dir()]
    if absent:
        make = f"torchvision.datasets.ImageNet({str(place)!r}, split)"
        raise DataError(
            f"imagenet: {place}: no folder {' and '.join(absent)}; download {ARCHIVES} from {PAGE} to {place}; "
            f"`{make}` for split 'train' and 'val' makes the folders"
        )
    return {**entry, **FIXED}
