"""Datasets: fixed named splits of uint8 grey levels in memory, and a fingerprint of the pixels for every record.

load({"name": "digits"})                                   scikit-learn's digits, always there
load({"name": "fashion-mnist", "download": True})          $GENBENCH_DATA, Debian's package, or a download
load({"name": "cifar10"})                                  the published archive, or a part of it by its path
load({"name": "edges", "of": "fashion-mnist"})             a translation task: pictures <-> their edges
load({"name": "folder", "path": "images", "size": 32})     a folder of pictures
load({"name": "npz", "path": "x.npz", "levels": 17})       an array of images
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genbench.contract import DataSpec
from genbench.data import cifar10, digits, edges, fashion_mnist, files
from genbench.data.base import Dataset, Domain, Split, fingerprint
from genbench.data.captions import CAPTIONS
from genbench.data.files import image_member, labels_beside, read_images
from genbench.errors import DataError
from genbench.registry import nearest

__all__ = ["Dataset", "Domain", "Split", "describe", "fingerprint", "load", "names", "read_images"]


@dataclass(frozen=True)
class Source:
    """How a dataset is loaded and described, given its entry and path; keys: what the entry may say beside `name`.

    about: a line for `genbench ls`. needs: the keys that it must say. imports: slow modules that loading needs.
    """

    about: str
    load: Callable[[dict[str, Any], Path], Dataset]
    describe: Callable[[dict[str, Any], Path], tuple[DataSpec, str]]
    keys: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()


SOURCES = {
    "digits": Source(
        "scikit-learn's 1,797 digits, 8x8, 17 grey levels; no download",
        digits.load,
        digits.describe,
        imports=("sklearn.datasets",),
    ),
    "fashion-mnist": Source(
        "70,000 grey images of clothes, 28x28, 256 levels", fashion_mnist.load, fashion_mnist.describe, ("download",)
    ),
    "cifar10": Source(
        "60,000 colour photographs of ten things, 32x32, 256 levels",
        cifar10.load,
        cifar10.describe,
        ("path", "download"),
    ),
    "edges": Source(
        "pictures <-> their edges, unpaired, of digits or fashion-mnist",
        edges.load,
        edges.describe,
        ("of", "download"),
        needs=("of",),
        imports=("sklearn.datasets",),
    ),
    "folder": Source(
        "your own pictures in one folder", files.load_folder, files.describe_folder, ("path", "size"), ("path",)
    ),
    "npz": Source("your own array of images", files.load_npz, files.describe_npz, ("path", "levels"), ("path",)),
}


def names() -> tuple[str, ...]:
    """What `dataset: {name: ...}` may be."""
    return tuple(SOURCES)


def about(name: str) -> str:
    """A line about a dataset."""
    return SOURCES[name].about


def imports(entry: dict[str, Any]) -> tuple[str, ...]:
    """Modules that loading needs and that are slow to import: worker processes share one import of them."""
    return _source(entry).imports


def load(entry: dict[str, Any], folder: Path | None = None) -> Dataset:
    """The dataset of a suite's `dataset:` entry; folder: where its relative path starts (default: where we are).

    Raises DataError for an unknown name or key, and for data that is missing or not what was declared.
    """
    return _source(entry).load(entry, _place(entry, folder))


def describe(entry: dict[str, Any], folder: Path | None = None) -> tuple[DataSpec, str]:
    """Shape and fingerprint of a dataset: declared constants for named ones, read from the files for others.

    Raises DataError as `load` does, as far as it can tell without reading a named dataset.
    """
    return _source(entry).describe(entry, _place(entry, folder))


def has_captions(entry: dict[str, Any]) -> bool:
    """Whether the dataset of this entry has a caption for each class."""
    return entry["name"] in CAPTIONS


def is_translation(entry: dict[str, Any]) -> bool:
    """Whether the dataset of this entry is a translation task."""
    return "of" in _source(entry).keys


def has_labels(path: Path) -> bool:
    """Whether a file of images made elsewhere says which class each was asked to show."""
    if path.suffix != ".npz":
        return False
    with np.load(path, allow_pickle=False) as arrays:
        return labels_beside(arrays, image_member(tuple(arrays), path)) is not None


def origin(entry: dict[str, Any]) -> str:
    """The dataset whose pictures these are, which decides whose classifier fits them."""
    return entry.get("of") or entry["name"]


def _source(entry: dict[str, Any]) -> Source:
    name = str(entry.get("name"))
    if name not in SOURCES:
        raise DataError(f"unknown dataset '{name}'{nearest(name, SOURCES) or ';'} allowed: {', '.join(SOURCES)}")
    source = SOURCES[name]
    allowed = ("name", *source.keys)
    for key in _given(entry):
        if key not in allowed:
            raise DataError(
                f"dataset {name}: unknown key '{key}'{nearest(key, allowed) or ';'} allowed: {', '.join(allowed)}"
            )
    for key in source.needs:
        if key not in _given(entry):
            raise DataError(f"dataset {name}: no {key}, allowed: {{name: {name}, {key}: ...}}")
    if "of" in source.keys and entry["of"] not in edges.OF:
        raise DataError(f"dataset {name}: of: found '{entry['of']}', allowed: {', '.join(edges.OF)}")
    return source


def _given(entry: dict[str, Any]) -> list[str]:
    return [key for key, value in entry.items() if value is not None and value is not False]


def _place(entry: dict[str, Any], folder: Path | None) -> Path:
    return (folder or Path()) / Path(entry.get("path") or "").expanduser()
