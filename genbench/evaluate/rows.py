"""Features of a set of images, extracted part by part: in one process or in several, in memory or mapped from files."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.lib.format import open_memmap
from torch import Tensor

from genbench import features
from genbench.data.image_set import ImageSet
from genbench.evaluate.sides import open_side
from genbench.features import Extractor, FeatureOptions, Features
from genbench.halving import AtOnce
from genbench.processes.group import Processes

IN_MEMORY = 0.25  # of the memory that is free: larger features are mapped from files


@dataclass(frozen=True)
class ExtractionRequest:
    """What another process needs to extract the same features: a set's origin (Side.origin), its channels, and how."""

    origin: tuple[Any, ...]
    channels: int
    extractor: str
    dataset: str
    options: FeatureOptions
    levels: int
    device: str
    keep: tuple[str, ...]

    def images(self) -> ImageSet:
        """The set."""
        images = open_side(*self.origin).images
        return images if images.shape[0] == self.channels else images.in_channels(self.channels)

    def loaded(self, device: str) -> Extractor:
        """The extractor."""
        return features.load_extractor(self.extractor, self.dataset, device, options=self.options)


class FeatureRows:
    """Features (count, ...) that fill up part by part, by name; `keep` are the names.

    shared: other processes write some of the parts. Then, and where memory does not suffice, the arrays are files in a
    folder of their own, which is removed with this object.
    """

    def __init__(self, count: int, keep: Collection[str], shared: bool = False) -> None:
        self.count, self.keep, self.shared = count, keep, shared
        self.arrays: dict[str, np.ndarray] = {}

    @property
    def files(self) -> dict[str, Path]:
        """The arrays that are files."""
        mapped = {name: array for name, array in self.arrays.items() if isinstance(array, np.memmap)}
        return {name: Path(str(array.filename)) for name, array in mapped.items()}

    def add(self, start: int, part: Features) -> None:
        """The rows from number `start` on."""
        values = {name: value for name, value in vars(part).items() if value is not None and name in self.keep}
        if not self.arrays:
            self._allocate(values)
        for name, value in values.items():
            self.arrays[name][start : start + len(value)] = value

    def _allocate(self, values: dict[str, np.ndarray]) -> None:
        shapes = {name: (self.count, *value.shape[1:]) for name, value in values.items()}
        size = sum(4 * int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
        if not self.shared and size <= IN_MEMORY * psutil.virtual_memory().available:
            self.arrays = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
            return
        folder = Path(tempfile.mkdtemp(prefix="genbench-features-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        files = {name: folder / f"{name}.npy" for name in shapes}
        self.arrays = {name: open_memmap(files[name], "w+", np.float32, shape) for name, shape in shapes.items()}


def extract_too(group: Processes, request: ExtractionRequest) -> None:
    """What a member of a team does while process 0 extracts features: its parts, into process 0's files."""
    size, files = group.from_first(None)
    arrays = {name: open_memmap(path, "r+") for name, path in files.items()}
    rows = FeatureRows(0, request.keep)
    rows.arrays.update(arrays)
    extractor, at_once = request.loaded(group.device(request.device)), AtOnce()
    for number, part in own_parts(request.images(), group):
        rows.add(number * size, features.extract(extractor, part, request.levels, at_once))
    for array in arrays.values():
        array.flush()
    group.collected(None)


def own_parts(images: ImageSet, group: Processes) -> Iterator[tuple[int, Tensor]]:
    """The parts of a set that this process extracts, with their numbers."""
    for turn, part in enumerate(images.batches(group.rank, group.size)):
        yield group.rank + turn * group.size, part


def extract_rows(
    images: ImageSet, group: Processes, rows: FeatureRows, extract: Callable[[Tensor], Features],
    see: Callable[[Tensor], None],
) -> None:  # fmt: skip
    """In process 0: every part is shown to `see`, its own parts are extracted; ends when all rows are there."""
    start = 0
    for number, part in enumerate(images.batches()):
        see(part)
        if number % group.size == 0:
            rows.add(start, extract(part))
        if number == 0:
            group.from_first((len(part), rows.files))
        start += len(part)
    group.collected(None)
