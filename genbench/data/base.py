"""What a dataset is: two named splits of uint8 grey levels, their shape, and a fingerprint of the pixels.

A dataset of your own is a `DatasetSource`, in a file that a suite names or offered by an installed package:

    @dataclass(frozen=True)
    class Options:
        count: Annotated[int, Ge(10)] = 1_000            # dataset: {name: my_data.py:SHAPES, count: 500}

    def load(entry, path):
        train, test = draw_shapes(entry["count"])        # two Splits
        return Dataset("shapes", SPEC, train, test, fingerprint(train, test))

    def describe(entry, path):
        return SPEC, load(entry, path).fingerprint

    SHAPES = DatasetSource("circles and squares, 8x8", load, describe, Options)
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path
from torch import Tensor

from genbench.contract import DataSpec
from genbench.options import NoOptions


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split: pixels (N, C, H, W) uint8 grey-level indices, labels (N,) int64 or None.

    texts: the caption of each image, None where images have none of their own.
    """

    pixels: Tensor
    labels: Tensor | None = None
    texts: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, eq=False)
class Domain:
    """The source domain of a translation task.

    paired: whether image i of its test split shows image i of the dataset's test split.
    """

    train: Split
    test: Split
    paired: bool = True


@dataclass(frozen=True, eq=False)
class Dataset:
    """A loaded dataset: models see only train; test is held out.

    fingerprint: SHA-256 (hex) of both splits, or of the archive that contains them. captions: one text per class, ()
    for none. source: the domain that translators translate into this dataset.
    """

    name: str
    spec: DataSpec
    train: Split
    test: Split
    fingerprint: str
    captions: tuple[str, ...] = ()
    source: Domain | None = None

    def texts(self, split: Split) -> tuple[str, ...] | None:
        """The caption of each image of a split: its own, else that of its class; None where there are none."""
        if split.texts is not None or split.labels is None or not self.captions:
            return split.texts
        return tuple(self.captions[k] for k in split.labels.tolist())


@dataclass(frozen=True)
class DatasetSource:
    """How a dataset is loaded and described.

    about: one line for `genbench ls datasets`.
    load(entry, path): the Dataset. entry: `name` and every option, checked, with defaults filled in. path: the option
        `path` as an absolute or current-folder path, "~" expanded; the suite's folder when there is no such option.
    describe(entry, path): its DataSpec and fingerprint, fast, as the planner calls it; equal to those of load.
    options: a frozen dataclass with bounds in annotations; what has no default is required.
    sizes(entry, path): the numbers of train and of test images, None where only loading tells; the planner then knows
        which metrics they are too few for.
    captions: one text per class. translation: whether it is a translation task, whose Dataset has a source domain.
    captioned(entry, path): whether images have captions of their own; None for never.
    classes(entry, path): the names of the classes by number, () for none, by which images made elsewhere may state
        their classes; None where only numbers are known.
    imports: slow modules that load needs; worker processes then share one import of them.
    The functions raise DataError for data that is missing or not as declared.
    """

    about: str
    load: Callable[[dict[str, Any], Path], Dataset]
    describe: Callable[[dict[str, Any], Path], tuple[DataSpec, str]]
    options: type = NoOptions
    captions: tuple[str, ...] = ()
    translation: bool = False
    imports: tuple[str, ...] = ()
    sizes: Callable[[dict[str, Any], Path], tuple[int, int] | None] | None = None
    captioned: Callable[[dict[str, Any], Path], bool] | None = None
    classes: Callable[[dict[str, Any], Path], tuple[str, ...]] | None = None


def fingerprint(*splits: Split) -> str:
    """SHA-256 (hex) of the shapes, pixels, labels and captions of the splits, in order; the same on every machine."""
    state = hashlib.sha256()
    for split in splits:
        state.update(f"{tuple(split.pixels.shape)} {split.labels is not None};".encode())
        state.update(split.pixels.contiguous().numpy().data)
        if split.labels is not None:
            state.update(split.labels.numpy().astype("<i8").data)
        if split.texts is not None:
            state.update(json.dumps(split.texts).encode())
    return state.hexdigest()


def download_folder() -> Path:
    """The folder that is searched first for named datasets and to which they are downloaded.

    $GENBENCH_DATA, or the user's cache folder.
    """
    named = os.environ.get("GENBENCH_DATA")
    return Path(named).expanduser() if named else user_cache_path("genbench") / "data"


def download_allowed(download: bool) -> bool:
    """Whether the dataset's entry or GENBENCH_DOWNLOAD=1 allows downloading what is not on this machine."""
    return download or os.environ.get("GENBENCH_DOWNLOAD") == "1"
