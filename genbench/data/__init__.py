"""Datasets: fixed named splits of uint8 grey levels in memory, and a fingerprint of the pixels for every record.

load({"name": "digits"})                                   scikit-learn's digits, always there
load({"name": "fashion-mnist", "download": True})          $GENBENCH_DATA, Debian's package, or a download
load({"name": "cifar10"})                                  the published archive, or a part of it by its path
load({"name": "edges", "of": "fashion-mnist"})             a translation task between images and their edges
load({"name": "folder", "path": "images", "size": 32})     pictures in a folder or in archives
load({"name": "npz", "path": "x.npz", "levels": 17})       an array of images
load({"name": "my_data.py:SHAPES"})                        a dataset of your own: see genbench.data.base
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from genbench.contract import DataSpec
from genbench.data.base import Dataset, DatasetSource, Domain, Split, fingerprint
from genbench.data.files import NOT_LABELLED, content_of, read_images, read_samples, wished_classes
from genbench.data.labels import Classes, classes_named, classes_of_dataset
from genbench.errors import DataError, SuiteError
from genbench.registry import DATASETS, short_name
from genbench.surroundings import restored

__all__ = [
    "NOT_LABELLED", "Dataset", "DatasetSource", "Domain", "Split", "content_of", "describe", "fingerprint", "load",
    "names", "read_images", "read_samples", "wished_classes",
]  # fmt: skip


def names() -> tuple[str, ...]:
    """The short names that `dataset: {name: ...}` accepts."""
    return DATASETS.names()


def named() -> tuple[str, ...]:
    """The datasets that need nothing but their name and are no translation tasks, so that images can be compared."""
    from genbench.suite.options import required

    sources = {name: DATASETS.load(name) for name in names()}
    return tuple(n for n, source in sources.items() if not source.translation and not required(source.options))


def dataset_source(entry: dict[str, Any], folder: Path | None = None) -> DatasetSource:
    """The declaration of the dataset that an entry names. Raises DataError for an unknown name."""
    declared: DatasetSource = DATASETS.load(str(entry.get("name")), folder)
    return declared


def label(entry: dict[str, Any]) -> str:
    """The dataset's name in records and tables."""
    return str(entry.get("label") or short_name(entry["name"]))


def imports(entry: dict[str, Any]) -> tuple[str, ...]:
    """Modules that loading needs and that are slow to import: worker processes share one import of them."""
    return dataset_source(entry).imports


def load(entry: dict[str, Any], folder: Path | None = None) -> Dataset:
    """The dataset of a suite's `dataset:` entry.

    folder: where relative paths start (default: the current folder). Raises DataError for an unknown name or option,
    for data that is missing or not what was declared, and for a plug-in whose `describe` says something else.
    """
    declared = dataset_source(entry, folder)
    options = _options(entry, declared)
    with restored(f"dataset '{label(entry)}' was loaded"):
        dataset = declared.load(options, _path(options, folder))
    if not DATASETS.is_built_in(entry["name"]):
        _check_described(dataset, describe(entry, folder), entry["name"])
    return dataset


def describe(entry: dict[str, Any], folder: Path | None = None) -> tuple[DataSpec, str]:
    """Shape and fingerprint of a dataset: declared constants for named ones, read from the files for others.

    Raises DataError as `load` does, as far as that is possible without reading a named dataset.
    """
    declared = dataset_source(entry, folder)
    options = _options(entry, declared)
    with restored(f"dataset '{label(entry)}' was described"):
        return declared.describe(options, _path(options, folder))


def sizes(entry: dict[str, Any], folder: Path | None = None) -> tuple[int, int] | None:
    """The numbers of train and of test images; None where only loading tells. Raises DataError as `describe`."""
    declared = dataset_source(entry, folder)
    options = _options(entry, declared)
    if declared.sizes is None:
        return None
    with restored(f"images of dataset '{label(entry)}' were counted"):
        return declared.sizes(options, _path(options, folder))


def captions_of(entry: dict[str, Any]) -> tuple[str, ...]:
    """A caption for each class of the dataset of this entry; () when it has none."""
    return dataset_source(entry).captions


def classes_of(entry: dict[str, Any], count: int, folder: Path | None = None) -> Classes:
    """The classes of the dataset of this entry, with every spelling that is accepted, its captions included."""
    declared = dataset_source(entry, folder)
    if declared.classes is not None:
        options = _options(entry, declared)
        with restored(f"classes of dataset '{label(entry)}' were read"):
            return classes_named(declared.classes(options, _path(options, folder)))
    known, captions = classes_of_dataset(short_name(entry["name"]), count), declared.captions
    if len(captions) != len(known.names):
        return known
    return Classes(count, tuple((*names, caption) for names, caption in zip(known.names, captions, strict=True)))


def has_captions(entry: dict[str, Any], folder: Path | None = None) -> bool:
    """Whether the dataset of this entry has a caption for each class or for each image."""
    declared = dataset_source(entry, folder)
    if declared.captioned is None:
        return bool(declared.captions)
    options = _options(entry, declared)
    return declared.captioned(options, _path(options, folder))


def is_translation(entry: dict[str, Any]) -> bool:
    """Whether the dataset of this entry is a translation task."""
    return dataset_source(entry).translation


def origin(entry: dict[str, Any]) -> str:
    """The dataset that these images come from, which decides whose classifier fits them."""
    return str(entry.get("of") or short_name(entry["name"]))


def _options(entry: dict[str, Any], declared: DatasetSource) -> dict[str, Any]:
    """The entry with every option checked and defaults filled in."""
    from genbench.suite.options import checked_options, given_options  # pydantic, which a plan does without
    from genbench.suite.yaml_source import SuiteSource

    given = {key: os.fspath(v) if isinstance(v, os.PathLike) else v for key, v in given_options(entry).items()}
    try:
        return checked_options(declared.options, given, source=SuiteSource(), loc=("dataset",), name=str(entry["name"]))
    except SuiteError as error:
        raise DataError(str(error)) from None


def _path(options: dict[str, Any], folder: Path | None) -> Path:
    return (folder or Path()) / Path(options.get("path") or "").expanduser()


def _check_described(dataset: Dataset, described: tuple[DataSpec, str], name: str) -> None:
    """DataError when a plug-in's load and describe disagree: artefacts are keyed by what describe says."""
    loaded = (dataset.spec, dataset.fingerprint)
    for what, left, right in zip(("shape", "fingerprint"), loaded, described, strict=True):
        if left != right:
            raise DataError(f"dataset {name}: load gives {what} {left}, describe gives {right}; they must be equal")
