"""Sets of images that are read a batch at a time, so that their number does not matter to memory.

    open_images(path)          a folder of pictures, an .npy or an .npz
    InMemory(name, pixels)     an array, or a split of a dataset

Folders that hold pictures in folders alone are class trees: the folder's name is the label.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from PIL import Image
from torch import Tensor

from genbench.data import files
from genbench.errors import DataError

MOST, BYTES = 500, 1 << 26  # images and bytes of one batch
HEAD = 4096  # bytes of a WebP file in which its kind of coding is named
UNREADABLE = (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Found:
    """What the files say and the pixels do not: pictures with an alpha channel, and pictures coded with loss."""

    alpha: tuple[str, ...] = ()
    lossy: tuple[str, ...] = ()


class ImageSet(ABC):
    """A set of images in a fixed order.

    name: for messages. count: N. shape: (C, H, W). labels: (N,) int64 or None. classes: the folders' names of a class
    tree, by label; () where labels are numbers. folders: whether the order is that of folders named by class. found:
    what the files say.
    """

    name: str
    count: int
    shape: tuple[int, int, int]
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    folders: bool = False
    found: Found = Found()

    @abstractmethod
    def rows(self, size: int) -> Iterator[Tensor]:
        """Every image once, in order, (size, C, H, W) uint8 at a time, the last part smaller."""

    @property
    @abstractmethod
    def source_hash(self) -> str:
        """SHA-256 (hex) of where the images come from: equal hashes hold equal images; found without decoding."""

    def in_channels(self, channels: int) -> ImageSet:
        """The same images in 1 or 3 channels, where that loses nothing; as they are where they are an array."""
        return self

    def batches(self) -> Iterator[Tensor]:
        """As rows, in parts that fit into memory whatever the size of the images."""
        return self.rows(max(1, min(MOST, BYTES // int(np.prod(self.shape)))))

    def load(self) -> Tensor:
        """All images at once, (N, C, H, W) uint8."""
        return torch.cat(list(self.batches()))


class InMemory(ImageSet):
    """Pixels (N, C, H, W) uint8 that are there already; source_hash: None to compute it from them."""

    def __init__(self, name: str, pixels: Tensor, labels: Tensor | None = None, source_hash: str | None = None) -> None:
        self.name, self.pixels, self.labels, self.given = name, pixels, labels, source_hash
        self.count, self.shape = len(pixels), (pixels.shape[1], pixels.shape[2], pixels.shape[3])

    def rows(self, size: int) -> Iterator[Tensor]:
        """As ImageSet."""
        yield from self.pixels.split(size)

    @property
    def source_hash(self) -> str:
        """As ImageSet."""
        if self.given is not None:
            return self.given
        state = hashlib.sha256(f"{tuple(self.pixels.shape)}".encode())
        for part in self.batches():
            state.update(part.contiguous().numpy().data)
        return state.hexdigest()


class Pictures(ImageSet):
    """The PNG, JPEG, WebP and BMP files under a folder, decoded when their batch is asked for."""

    def __init__(self, path: Path) -> None:
        """Reads every header. Raises DataError for a broken or 16-bit picture, no pictures, or sizes that differ."""
        self.path, self.name = path, str(path)
        self.files = files.picture_paths(path)
        heads = [read_head(file) for file in self.files]
        for file, head in zip(self.files, heads, strict=True):
            if head.size != heads[0].size:
                sizes = f"{_size(head)} pixels (height x width), but {self.files[0]} has {_size(heads[0])}"
                raise DataError(f"{file}: {sizes}; all of a set must agree, resize them first")
        self.count = len(heads)
        self.shape = (1 if all(head.grey for head in heads) else 3, heads[0].size[1], heads[0].size[0])
        pairs = list(zip(self.files, heads, strict=True))
        self.found = Found(tuple(str(f) for f, h in pairs if h.alpha), tuple(str(f) for f, h in pairs if h.lossy))
        self._read_labels()

    def _read_labels(self) -> None:
        parts = [file.relative_to(self.path).parts for file in self.files]
        tops = sorted({part[0] for part in parts}, key=lambda name: (not name.isdecimal(), name))
        if len(tops) < 2 or any(len(part) == 1 for part in parts):
            return
        self.folders = True
        if all(name.isdecimal() for name in tops):
            self.labels = torch.tensor([int(part[0]) for part in parts])
            return
        self.classes, numbers = tuple(tops), {name: i for i, name in enumerate(tops)}
        self.labels = torch.tensor([numbers[part[0]] for part in parts])

    def rows(self, size: int) -> Iterator[Tensor]:
        """As ImageSet. Raises DataError for a broken picture, and for colour where grey was asked for."""
        for start in range(0, self.count, size):
            images = [self._read(file) for file in self.files[start : start + size]]
            yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()

    def _read(self, file: Path) -> np.ndarray:
        image = files.with_channels(files.read_picture(file, None), self.shape[0])
        if image.shape[2] != self.shape[0]:
            raise DataError(f"{file}: a picture in colour, allowed: grey, as what it is compared with")
        return image

    @property
    def source_hash(self) -> str:
        """As ImageSet: over the bytes of the files, in order, whatever their names."""
        state = hashlib.sha256(f"{self.shape} {self.count}".encode())
        for file in self.files:
            with file.open("rb") as opened:
                state.update(hashlib.file_digest(opened, "sha256").digest())
        return state.hexdigest()

    def in_channels(self, channels: int) -> ImageSet:
        """As ImageSet; whether colour is grey is seen when it is decoded."""
        shown = copy(self)
        shown.shape = (channels, *self.shape[1:])
        return shown


@dataclass(frozen=True)
class Head:
    """What a picture's header says; size: (width, height)."""

    size: tuple[int, int]
    grey: bool
    alpha: bool
    lossy: bool


def read_head(path: Path) -> Head:
    """The header of a picture, its pixels not decoded. Raises DataError for a broken or 16-bit one."""
    with files.opened(path) as file:
        lossy = file.format == "JPEG" or (file.format == "WEBP" and webp_is_lossy(path))
        return Head(file.size, file.mode in files.GREY_MODES, has_alpha(file), lossy)


def has_alpha(file: Image.Image) -> bool:
    """Whether a picture has an alpha channel or a transparent colour."""
    return file.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in file.info


def webp_is_lossy(path: Path) -> bool:
    """Whether a WebP file holds no chunk of lossless coding."""
    with path.open("rb") as file:
        return b"VP8L" not in file.read(HEAD)


def _size(head: Head) -> str:
    return f"{head.size[1]}x{head.size[0]}"


class ArrayFile(ImageSet):
    """An .npy, or one array of an .npz, read through in parts and never mapped or unpickled."""

    def __init__(self, path: Path) -> None:
        """Reads the header. Raises DataError for a file that is no array, or images of another type or layout."""
        self.path, self.name, self.member = path, str(path), ""
        self.raw_labels: np.ndarray | None = None
        if path.suffix == ".npz":
            self._look_into()
        with self._opened() as file:
            self.stored, fortran, self.kind = read_header(file, path)
        if self.kind != np.uint8:
            raise DataError(f"{path}: {files.type_found(self.kind, *self._range())}")
        if fortran:
            raise DataError(
                f"{path}: the array is in Fortran order, allowed: C order, as numpy.ascontiguousarray gives"
            )
        shown = files.image_axes(np.broadcast_to(np.uint8(0), self.stored), path).shape
        self.count, self.shape = self.stored[0], (shown[1], shown[2], shown[3])
        self.labels = files.checked_labels(self.raw_labels, self.count, path)

    def _look_into(self) -> None:
        try:
            with self.path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                self.member = files.image_member(tuple(arrays), self.path)
                self.raw_labels = files.labels_beside(arrays, self.member)
        except UNREADABLE as error:
            raise unreadable(self.path, error) from error

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
        one = self.kind.itemsize * int(np.prod(self.stored[1:], dtype=np.int64))
        with self._opened() as file:
            read_header(file, self.path)
            for start in range(0, self.stored[0], size):
                content = file.read(min(size, self.stored[0] - start) * one)
                if len(content) < min(size, self.stored[0] - start) * one:
                    raise DataError(f"{self.path}: ends within image {start + len(content) // one} of {self.stored[0]}")
                yield np.frombuffer(content, self.kind).reshape(-1, *self.stored[1:])

    def rows(self, size: int) -> Iterator[Tensor]:
        """As ImageSet. Raises DataError for a file that ends too early."""
        for part in self._parts(size):
            yield torch.from_numpy(np.array(files.image_axes(part, self.path), order="C"))

    def _range(self) -> tuple[float, float, int]:
        if self.kind.kind not in "fiub" or len(self.stored) < 2:
            return np.nan, np.nan, 0
        ranges = [files.value_range(part) for part in self._parts(MOST)]
        lowest, highest, bad = zip(*ranges, strict=True) if ranges else ((np.nan,), (np.nan,), (0,))
        return float(np.fmin.reduce(lowest)), float(np.fmax.reduce(highest)), sum(bad)

    @property
    def source_hash(self) -> str:
        """As ImageSet: over the file's bytes."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def read_header(file: IO[bytes], path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the order is Fortran's, and type of the array that an .npy begins with."""
    version = npy.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise DataError(f"{path}: an array file of version {version[0]}.{version[1]}, allowed: 1.0 or 2.0")
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, kind = read(file)
    if kind.hasobject:
        raise DataError(f"{path}: holds Python objects, allowed: uint8 grey-level indices")
    return shape, fortran, kind


def unreadable(path: Path, error: Exception) -> DataError:
    """What is wrong with a file that cannot be read as an array."""
    return DataError(f"{path}: not a readable array file: {(str(error) or type(error).__name__).splitlines()[0]}")


def open_images(path: Path) -> ImageSet:
    """The images of a folder, an .npy or an .npz. Raises DataError naming the file, what was found, what is allowed."""
    if path.is_dir():
        return Pictures(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder of images")
    if path.suffix not in (".npz", ".npy"):
        raise DataError(f"{path}: found '{path.suffix}', allowed: a folder of images, .npz or .npy")
    return ArrayFile(path)
