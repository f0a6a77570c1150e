"""Images in an .npy or in one array of an .npz: read through in parts, never mapped or unpickled.

Values are grey-level indices 0..255 of any whole-number or floating-point type; uint16 above 255 becomes
round(v / 257). Axes: (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3; a shape that fits two of them is refused.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor

from genbench.data.image_set import Found, ImageSet, Note, batch_size, refuse_huge
from genbench.data.labels import array_labels
from genbench.data.unpack import FREE, RATIO
from genbench.errors import DataError
from genbench.files import UNREADABLE

CHANNELS = (1, 3)
MEMBERS = ("images", "samples", "arr_0")  # where an .npz may keep its images, in order of preference
LABEL_MEMBERS = ("labels", "label", "y", "targets")
TEXT_MEMBERS = ("prompts", "captions", "texts")
LAYOUTS = "(N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3"
WHOLE_IN_MEMORY = 1 << 29  # bytes of an array in Fortran order, which cannot be read image by image
DEEP = 65535
MOST_LABEL_BYTES = 1 << 28  # of an array beside the images


class ArrayFile(ImageSet):
    """An .npy, or one array of an .npz."""

    def __init__(self, path: Path, grey: tuple[int, int] | None = None) -> None:
        """Reads the header, and all values where their type is not uint8. grey: as of shape_of.

        Raises DataError for a file that is no array, values that are no grey levels, or an unclear layout.
        """
        self.path, self.name, self.member = path, str(path), ""
        raw_labels = self._look_into() if is_zip(path) else None
        with self._opened() as file:
            self.stored, self.fortran, self.kind = read_header(file, path)
        self.count, *shape = shape_of(self.stored, path, grey)
        self.shape = (shape[0], shape[1], shape[2])
        refuse_huge(math.prod(shape), path)
        self.top = self._highest()
        self.given_labels = array_labels(raw_labels, self.count, path)
        if self.texts and len(self.texts) != self.count:
            raise DataError(f"{path}: found {len(self.texts)} prompts for {self.count} images; must agree")

    def _look_into(self) -> np.ndarray | None:
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                self.member = image_member(tuple(arrays), self.path)
                self._refuse_bombs(arrays.zip)
                self.texts = texts_beside(arrays)
                return labels_beside(arrays, self.member)
        except UNREADABLE as error:
            raise unreadable(self.path, error) from error

    def _refuse_bombs(self, archive: zipfile.ZipFile) -> None:
        for entry in archive.infolist():
            images = entry.filename == f"{self.member}.npy"
            most = FREE + RATIO * entry.compress_size if images else MOST_LABEL_BYTES
            if entry.file_size > most:
                found = f"{entry.filename} of {entry.file_size:,} bytes when unpacked"
                raise DataError(f"{self.path}: found {found}, allowed: at most {most:,}")

    def _highest(self) -> int:
        """The largest value; DataError when the values are no grey levels."""
        if self.kind == np.uint8:
            return 255
        ranges = [value_range(part) for part in self._parts(batch_size(self.shape))]
        return highest_level(self.kind, merged_ranges(ranges), self.path)

    @property
    def found(self) -> Found:
        """As ImageSet."""
        text = f"values of {self.kind.name} up to {self.top} were divided by 257 and rounded"
        return Found({"deep-array": Note(self.count, self.name, text)} if self.top > 255 else {})

    @contextmanager
    def _opened(self) -> Iterator[IO[bytes]]:
        try:
            if not self.member:
                with self.path.open("rb") as file:
                    yield file
                return
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{self.member}.npy") as file:
                yield file
        except UNREADABLE as error:
            raise unreadable(self.path, error) from error

    def _parts(self, size: int) -> Iterator[np.ndarray]:
        """The stored values (n, ...) in order, n at most size."""
        if self.fortran:
            for start in range(0, self.stored[0], size):
                yield self._whole[start : start + size]
            return
        one = self.kind.itemsize * int(np.prod(self.stored[1:], dtype=np.int64))
        with self._opened() as file:
            read_header(file, self.path)
            for start in range(0, self.stored[0], size):
                content = file.read(min(size, self.stored[0] - start) * one)
                if len(content) < min(size, self.stored[0] - start) * one:
                    raise DataError(f"{self.path}: ends within image {start + len(content) // one} of {self.stored[0]}")
                yield np.frombuffer(content, self.kind).reshape(-1, *self.stored[1:])

    @cached_property
    def _whole(self) -> np.ndarray:
        """All values of an array in Fortran order, where those of one image lie apart from each other."""
        size = self.kind.itemsize * int(np.prod(self.stored, dtype=np.int64))
        if size > WHOLE_IN_MEMORY:
            found = f"an array of {size / 2**30:.1f} GiB in Fortran order, which cannot be read in parts"
            raise DataError(f"{self.path}: {found}; save numpy.ascontiguousarray(x)")
        with self._opened() as file:
            read_header(file, self.path)
            content = file.read(size)
        if len(content) < size:
            raise DataError(f"{self.path}: ends after {len(content):,} of {size:,} bytes of values")
        return np.frombuffer(content, self.kind).reshape(self.stored, order="F")

    def rows(self, size: int, first: int = 0, every: int = 1) -> Iterator[Tensor]:
        """As ImageSet; reads the other parts too. Raises DataError for a file that ends too early."""
        for part in islice(self._parts(size), first, None, every):
            yield torch.from_numpy(np.array(axes(as_levels(part, self.top)), order="C"))

    @property
    def source_hash(self) -> str:
        """As ImageSet: over the file's bytes."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def is_array_file(path: Path) -> bool:
    """Whether a file is to be read as an array: by its suffix in any case, or by how it begins."""
    if path.suffix.lower() in (".npz", ".npy"):
        return True
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"


def is_zip(path: Path) -> bool:
    """Whether a file is to be read as an .npz: by how it begins, and by its suffix where it begins as no .npy."""
    with path.open("rb") as file:
        head = file.read(6)
    return head[:2] == b"PK" or (head != b"\x93NUMPY" and path.suffix.lower() == ".npz")


def image_member(names: tuple[str, ...], path: Path) -> str:
    """What the images are called among the arrays of a file; DataError when there are none."""
    found = [name for name in MEMBERS if name in names]
    if not found:
        allowed = f"{', '.join(MEMBERS[:-1])} or {MEMBERS[-1]}, and labels"
        raise DataError(f"{path}: holds {', '.join(names) or 'nothing'}, allowed: {allowed}")
    return found[0]


def labels_beside(arrays: Mapping[str, np.ndarray], member: str) -> np.ndarray | None:
    """The array of labels; beside images without a name the second array without a name, where it is a row a label."""
    named = next((name for name in LABEL_MEMBERS if name in arrays), "")
    if named or member != "arr_0" or "arr_1" not in arrays:
        return arrays[named] if named else None
    return arrays["arr_1"] if arrays["arr_1"].ndim in (1, 2) else None


def texts_beside(arrays: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """The text of each image, () where the file has none."""
    named = next((arrays[name] for name in TEXT_MEMBERS if name in arrays), None)
    return tuple(named.tolist()) if named is not None and named.dtype.kind == "U" and named.ndim == 1 else ()


def shape_of(
    shape: tuple[int, ...], place: Path | str, grey: tuple[int, int] | None = None
) -> tuple[int, int, int, int]:
    """(N, C, H, W) of a stored shape; DataError for one that is none of the allowed layouts, or two of them.

    grey: height and width of the grey images that are expected, which make (3, H, W) three images.
    """
    if len(shape) == 3 and shape[1:] != grey:
        _refuse_unclear(shape, place)
    elif len(shape) == 4 and shape[1] in CHANNELS and shape[3] in CHANNELS and max(shape[1:]) > 1:
        ways = "(N, C, H, W) and (N, H, W, C)"
        raise DataError(f"{place}: images of shape {shape}, which fits both {ways}; save them with 1 or 3 in one place")
    first = axes(np.broadcast_to(np.uint8(0), shape)).shape
    if len(first) != 4 or first[1] not in CHANNELS or 0 in first:
        raise DataError(f"{place}: images of shape {first}, allowed: {LAYOUTS}")
    return first[0], first[1], first[2], first[3]


def axes(images: np.ndarray) -> np.ndarray:
    """A view as (N, C, H, W) of images whose stored shape `shape_of` accepts, or of a part of them."""
    if images.ndim == 3:
        return images[:, None]
    return images.transpose(0, 3, 1, 2) if images.ndim == 4 and images.shape[3] in CHANNELS else images


def _refuse_unclear(shape: tuple[int, ...], place: Path | str) -> None:
    """Raises DataError for three axes that may be one image with channels, or images along the last axis."""
    a, b, c = shape
    if c in CHANNELS and a > 1:
        one = f"one image of {a}x{b} in {c} channels, or {a} images of {b}x{c}"
        fix = f"(1, {a}, {b}, {c}) or ({a}, 1, {b}, {c})"
    elif a == 3 and b > 1 and c > 1:
        one = f"one image of {b}x{c} in 3 channels, or 3 images of {b}x{c}"
        fix = f"(1, 3, {b}, {c}) or (3, 1, {b}, {c})"
    elif a == b != c and a > 1 and c > 1:
        one = f"{c} images of {a}x{b}, or {a} images of {b}x{c}"
        fix = f"({c}, 1, {a}, {b}) or ({a}, 1, {b}, {c})"
    else:
        return
    raise DataError(f"{place}: shape {shape} is {one}: unclear; save it as {fix}")


def value_range(values: np.ndarray) -> tuple[float, float, int, bool]:
    """Lowest and highest finite value (nan where none is), how many are not finite, and whether all are whole."""
    if values.dtype.kind not in "fiub":
        return np.nan, np.nan, 0, False
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    ends = (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)
    whole = values.dtype.kind != "f" or bool((finite == np.rint(finite)).all())
    return *ends, values.size - finite.size, whole


def merged_ranges(ranges: list[tuple[float, float, int, bool]]) -> tuple[float, float, int, bool]:
    """The range of several parts together."""
    if not ranges:
        return np.nan, np.nan, 0, False
    lowest, highest, bad, whole = zip(*ranges, strict=True)
    return float(np.fmin.reduce(lowest)), float(np.fmax.reduce(highest)), sum(bad), all(whole)


def highest_level(kind: np.dtype[Any], values: tuple[float, float, int, bool], place: Path | str) -> int:
    """The largest of values that are grey levels 0..255, or 0..65535 of type uint16. Raises DataError for others."""
    lowest, highest, not_finite, whole = values
    most = DEEP if kind.kind == "u" and kind.itemsize == 2 else 255
    unit = kind.kind == "f" and highest <= 1  # 0..1, of which 0 and 1 alone are whole
    if kind.kind in "fiu" and whole and not not_finite and not unit and 0 <= lowest <= highest <= most:
        return int(highest)
    raise DataError(f"{place}: {type_found(kind, lowest, highest, not_finite)}")


def type_found(kind: np.dtype[Any], lowest: float, highest: float, not_finite: int) -> str:
    """What is wrong with images that hold no grey levels, and how to mend it."""
    digits = ".0f" if kind.kind in "iub" else ".4g"
    found = f"images of {kind.name}" + (f" from {lowest:{digits}} to {highest:{digits}}" if np.isfinite(lowest) else "")
    found += f", {not_finite:,} values not finite" if not_finite else ""
    allowed = f"{found}; allowed: uint8 grey-level indices"
    if kind.kind == "b":
        return f"{allowed}, e.g. x.astype('uint8') * 255"
    if not_finite or not np.isfinite(lowest) or lowest < -1:
        return allowed
    if kind.kind == "f" and highest <= 1:
        scale = "(x + 1) * 127.5" if lowest < 0 else "x * 255"
        return f"{allowed}, e.g. numpy.rint({scale}).astype('uint8')"
    if kind.kind == "f" and lowest >= 0 and highest <= 255:
        return f"{allowed}, e.g. numpy.rint(x).astype('uint8')"
    return allowed


def as_levels(values: np.ndarray, top: int) -> np.ndarray:
    """Checked values as uint8; top: the largest of the whole set."""
    if values.dtype == np.uint8:
        return values
    return (values if top <= 255 else np.rint(values / 257)).astype(np.uint8)


def channels_first(images: np.ndarray, place: Path | str) -> Tensor:
    """Images in memory as (N, C, H, W) uint8. Raises DataError as `ArrayFile` does."""
    shape_of(images.shape, place)
    top = 255 if images.dtype == np.uint8 else highest_level(images.dtype, value_range(images), place)
    return torch.from_numpy(np.array(axes(as_levels(images, top)), order="C"))


def read_header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the order is Fortran's, and type of the array that an .npy begins with."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{path}: an array file of version {version[0]}.{version[1]}, allowed: 1.0 or 2.0")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, kind = read(file)
    if kind.hasobject:
        raise DataError(f"{path}: holds Python objects, allowed: uint8 grey-level indices")
    return shape, fortran and len(shape) > 1, kind


def unreadable(path: Path, error: Exception) -> DataError:
    """What is wrong with a file that cannot be read as an array."""
    return DataError(f"{path}: not a readable array file: {(str(error) or type(error).__name__).splitlines()[0]}")
