"""Datasets of pictures, decoded once into arrays of the store and read from there as needed.

The arrays are mapped into memory and not loaded: a dataset may be larger than memory. The key of an artefact is made of
names, sizes and times of the files, so that unchanged files are not read again; the dataset's fingerprint is computed
from pixels, labels and captions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from genbench.contract import DataSpec
from genbench.data.base import Dataset, Domain, Split, fingerprint
from genbench.data.image_set import ImageSet, batch_size
from genbench.data.walk import list_files
from genbench.store import Kind, Store

VERSION = 4  # changes when the same files become another dataset
INFO = "info.json"


@dataclass(frozen=True)
class StoredPart:
    """A split to be written: images, the numbers of those that belong to it, and what is known of all of them."""

    images: Tensor
    numbers: Sequence[int]
    labels: Sequence[int] | None = None
    texts: Sequence[str] | None = None


class Unpaired(dict[str, "StoredPart"]):
    """The parts of a translation task whose test splits are not pairs."""


Parts = dict[str, StoredPart]  # "train", "test", and in a translation task "source_train", "source_test"
Named = tuple[Parts, Sequence[str]]  # and the names of the classes


def stored(name: str, options: dict[str, Any], path: Path, make: Callable[[Path], Named]) -> Path:
    """The folder with the dataset's arrays; make(scratch folder) returns its parts and the names of its classes."""

    def write(folder: Path) -> None:
        parts, classes = make(folder)
        _write(folder, name, parts, classes)

    return Store().kept(Kind.DATA, _key(name, options, path), write)


def _key(name: str, options: dict[str, Any], path: Path) -> str:
    files = list_files(path).files if path.is_dir() else [path]
    state = hashlib.sha256(json.dumps([VERSION, name, options, str(path.absolute())], sort_keys=True).encode())
    for file in files:
        stat = file.stat()
        state.update(f"{file} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return state.hexdigest()


def _write(folder: Path, name: str, parts: Parts, classes: Sequence[str]) -> None:
    first = parts["train"].images.shape
    spec = DataSpec(int(first[1]), int(first[2]), int(first[3]), classes=len(classes))
    for key, part in parts.items():
        _write_part(folder, key, part)
    splits = _splits(folder, list(parts))
    info = {
        "name": name,
        "spec": vars(spec),
        "classes": list(classes),
        "parts": list(parts),
        "paired": not isinstance(parts, Unpaired),
        "fingerprint": fingerprint(*splits.values()),
    }
    (folder / INFO).write_text(json.dumps(info))


def _write_part(folder: Path, key: str, part: StoredPart) -> None:
    target = open_memmap(folder / f"{key}.npy", "w+", np.uint8, (len(part.numbers), *part.images.shape[1:]))
    size = batch_size((part.images.shape[1], part.images.shape[2], part.images.shape[3]))
    for start in range(0, len(part.numbers), size):
        target[start : start + size] = part.images[list(part.numbers[start : start + size])].numpy()
    target.flush()
    if part.labels is not None:
        np.save(folder / f"{key}-labels.npy", np.array([part.labels[i] for i in part.numbers], np.int64))
    if part.texts is not None:
        (folder / f"{key}-texts.json").write_text(json.dumps([part.texts[i] for i in part.numbers]))


def read_stored(folder: Path) -> Dataset:
    """The dataset of such a folder."""
    info = json.loads((folder / INFO).read_text())
    splits = _splits(folder, info["parts"])
    source = Domain(splits["source_train"], splits["source_test"], info["paired"]) if "source_train" in splits else None
    spec = DataSpec(**info["spec"])
    return Dataset(info["name"], spec, splits["train"], splits["test"], info["fingerprint"], source=source)


def describe_stored(folder: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint, without the arrays."""
    info = json.loads((folder / INFO).read_text())
    return DataSpec(**info["spec"]), info["fingerprint"]


def classes_of_stored(folder: Path) -> tuple[str, ...]:
    """The names of its classes by number, () for none."""
    return tuple(json.loads((folder / INFO).read_text())["classes"])


def _splits(folder: Path, keys: list[str]) -> dict[str, Split]:
    return {key: _split(folder, key) for key in keys}


def _split(folder: Path, key: str) -> Split:
    labels, texts = folder / f"{key}-labels.npy", folder / f"{key}-texts.json"
    return Split(
        mapped(folder / f"{key}.npy"),
        torch.from_numpy(np.load(labels)) if labels.is_file() else None,
        tuple(json.loads(texts.read_text())) if texts.is_file() else None,
    )


def mapped(path: Path) -> Tensor:
    """The array of an .npy file, mapped into memory; writing to it does not change the file."""
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def decoded(images: ImageSet, path: Path) -> Tensor:
    """All images of a set in an .npy file at path, mapped into memory."""
    target, start = open_memmap(path, "w+", np.uint8, (images.count, *images.shape)), 0
    for part in images.batches():
        target[start : start + len(part)] = part.numpy()
        start += len(part)
    target.flush()
    return mapped(path)
