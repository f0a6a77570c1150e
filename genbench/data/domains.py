"""`domains`: a translation task between your own pictures.

    path/trainA, trainB, testA, testB     two domains, unpaired, as of CycleGAN
    path/train, test (or val)             pictures with two halves side by side, paired, as of pix2pix

A model sees pictures of both domains unpaired. In the test split of the second form, picture i of one domain is the
translation of picture i of the other; of the first form, the files of the same number are, where both folders have the
same names; otherwise the errors against a true translation are not available.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genbench.contract import DataSpec
from genbench.data.base import Dataset
from genbench.data.folder import refuse_unused, sizing
from genbench.data.pictures import Pictures
from genbench.data.resizing import Sizing
from genbench.data.stored import Named, Parts, StoredPart, Unpaired, decoded, describe_stored, read_stored, stored
from genbench.errors import DataError

UNPAIRED = ("trainA", "trainB", "testA", "testB")
TEST_NAMES = ("test", "val")


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """{name: domains, path, size, direction}. Raises DataError for folders that are missing or do not fit."""
    return read_stored(_stored(entry, place))


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint."""
    return describe_stored(_stored(entry, place))


def sizes(entry: dict[str, Any], path: Path) -> tuple[int, int]:
    """How many images of the target domain are trained on and held out."""
    dataset = load(entry, path)
    return len(dataset.train), len(dataset.test)


def _stored(entry: dict[str, Any], place: Path) -> Path:
    refuse_unused(entry)
    options = {key: value for key, value in entry.items() if key != "path"}
    two = all((place / name).is_dir() for name in UNPAIRED)
    test = next((name for name in TEST_NAMES if (place / name).is_dir()), None)
    if not two and (test is None or not (place / "train").is_dir()):
        raise DataError(f"{place}: allowed: folders {', '.join(UNPAIRED)}, or train and test (or val) of pairs")

    def make(scratch: Path) -> Named:
        found = _two_folders(place, entry, scratch) if two else _halves(place, ("train", str(test)), entry, scratch)
        parts = _parts(found, entry["direction"])
        return parts if not two or _same_names(place) else Unpaired(parts), ()

    return stored("domains", options, place, make)


def _same_names(place: Path) -> bool:
    """Whether the test pictures of both domains have the same names, without their suffixes."""
    first, second = ([file.stem for file in Pictures(place / name, Sizing(1)).files] for name in ("testA", "testB"))
    return first == second


def _two_folders(place: Path, entry: dict[str, Any], scratch: Path) -> dict[str, Tensor]:
    fit = sizing(entry)
    sets = {name: Pictures(place / name, fit) for name in UNPAIRED}
    channels = max(images.shape[0] for images in sets.values())
    sizes = {images.shape[1:] for images in sets.values()}
    if len(sizes) > 1:
        raise DataError(f"{place}: pictures of {len(sizes)} sizes, allowed: one; `size:` brings them to it")
    return {name: _read(images.in_channels(channels), scratch / f"{name}.npy") for name, images in sets.items()}


def _read(images: Any, path: Path) -> Tensor:
    pixels = decoded(images, path)
    path.unlink()
    return pixels


def _halves(place: Path, names: tuple[str, str], entry: dict[str, Any], scratch: Path) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    fit = None if entry["size"] is None else Sizing((_side(entry, 0), 2 * _side(entry, 1)), "stretch")
    for split, name in zip(("train", "test"), names, strict=True):
        images = Pictures(place / name, fit)
        if images.shape[2] % 2:
            raise DataError(f"{place / name}: pictures {images.shape[2]} wide, allowed: two halves of the same width")
        pixels = _read(images, scratch / f"{split}.npy")
        found |= {f"{split}A": pixels.chunk(2, dim=3)[0], f"{split}B": pixels.chunk(2, dim=3)[1]}
    return found


def _side(entry: dict[str, Any], axis: int) -> int:
    size = entry["size"]
    return int(size if isinstance(size, int) else size[axis])


def _parts(found: dict[str, Tensor], direction: str) -> Parts:
    source, target = ("A", "B") if direction == "a_to_b" else ("B", "A")
    channels = max(pixels.shape[1] for pixels in found.values())
    named = {"train": f"train{target}", "test": f"test{target}"}
    named |= {"source_train": f"train{source}", "source_test": f"test{source}"}
    shown = {key: found[name].expand(-1, channels, -1, -1) for key, name in named.items()}
    return {key: StoredPart(pixels, torch.arange(len(pixels)).tolist()) for key, pixels in shown.items()}
