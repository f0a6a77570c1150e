"""Images in the user's own files: a folder of pictures, or an array in .npz or .npy.

Split: images are ordered by the SHA-256 of their pixels and the first tenth (rounded down, at least one) is the test
split, the rest the train split; each keeps the order of the files. So the split depends neither on file names nor on a
random number generator. Labels are read from .npz alone.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from genbench.contract import DataSpec
from genbench.data.base import Dataset, Split, fingerprint
from genbench.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
GREY_MODES = ("1", "L", "LA")
DEEP_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
CHANNELS = (1, 3)
MEMBERS = ("images", "samples", "arr_0")  # where an .npz may keep its images, in order of preference
LAYOUTS = "(N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3"


def load_folder(entry: dict[str, Any], place: Path) -> Dataset:
    """{name: folder, path, size}: every picture under path. Raises DataError as `read_folder` does."""
    return _dataset("folder", read_folder(place, size=entry.get("size")), 256, place)


def load_npz(entry: dict[str, Any], place: Path) -> Dataset:
    """{name: npz, path, levels}: an array of images; levels (default 256) bounds its values."""
    split = read_array(place)
    levels = entry.get("levels") or 256
    check_levels(split.pixels, levels, place)
    return _dataset("npz", split, levels, place)


def describe_folder(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint, from the pictures."""
    return _described(load_folder(entry, place))


def describe_npz(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint, from the array."""
    return _described(load_npz(entry, place))


def read_images(path: Path, spec: DataSpec | None = None) -> Split:
    """Images made elsewhere: a folder of pictures, an .npz or an .npy.

    spec: the dataset they stand beside; their shape must be its shape and every value below its levels. Pictures (not
    arrays) are shown in the spec's channels: grey as three equal channels, three equal channels as grey.
    Raises DataError naming the file, what was found and what is allowed.
    """
    split = read_folder(path, channels=spec.channels if spec else None) if path.is_dir() else read_array(path)
    if spec is None:
        return split
    found = tuple(split.pixels.shape[1:])
    if found != spec.shape:
        raise DataError(f"{path}: images of (channels, height, width) {found}, allowed: {spec.shape}")
    check_levels(split.pixels, spec.levels, path)
    return split


def check_levels(pixels: Tensor, levels: int, path: Path | str) -> None:
    """Raises DataError for a value that is no grey-level index."""
    highest = int(pixels.max())
    if highest >= levels:
        raise DataError(f"{path}: pixel value {highest}, allowed: grey-level indices 0 to {levels - 1}")


def read_folder(path: Path, size: int | None = None, channels: int | None = None) -> Split:
    """Every PNG, JPEG, WebP and BMP under path, nested, in the order of their relative names.

    size: the shorter side is resized to it (Lanczos, antialiased) and the middle square kept; None: as they are, and
    all must agree. channels: 1 or 3; None: 1 when every picture is grey, else 3.
    Raises DataError for a missing or empty folder, a broken or 16-bit picture, and sizes that differ.
    """
    names = picture_paths(path)
    images = [read_picture(name, size) for name in names]
    for name, image in zip(names, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            raise DataError(
                f"{name}: {_size(image)} pixels, but {names[0]} has {_size(images[0])}; "
                "all must agree, or set `size:` to resize them"
            )
    channels = channels or max(image.shape[2] for image in images)
    stacked = np.stack([with_channels(image, channels) for image in images])  # (N, H, W, C)
    return Split(torch.from_numpy(stacked).permute(0, 3, 1, 2).contiguous())


def picture_paths(path: Path) -> list[Path]:
    """Every picture under a folder, nested, in the order of their names. Raises DataError for none."""
    if not path.is_dir():
        raise DataError(f"{path}: no such folder of images")
    names = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not names:
        raise DataError(f"{path}: no images in this folder; allowed: {', '.join(SUFFIXES)}")
    return names


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """The picture, its header read and its pixels not yet. Raises DataError for a broken or 16-bit one."""
    try:
        with Image.open(path) as file:
            if file.mode in DEEP_MODES:
                raise DataError(f"{path}: pixels of mode {file.mode}, allowed: 8 bits a channel")
            yield file
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: not a readable image: {error}") from error


def read_picture(path: Path, size: int | None) -> np.ndarray:
    """One picture (H, W, C) uint8, C = 1 for grey files and 3 for others; transparency is dropped."""
    with opened(path) as file:
        image = file.convert("L" if file.mode in GREY_MODES else "RGB")
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(image.height, image.width, -1)


def read_array(path: Path) -> Split:
    """The images of an .npy, or `images` (else `samples`, else `arr_0`) and `labels` of an .npz.

    Labels beside `arr_0` may also be `arr_1`. Allowed: uint8 of (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3.
    Nothing is unpickled. Raises DataError.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder of images")
    if path.suffix not in (".npz", ".npy"):
        raise DataError(f"{path}: found '{path.suffix}', allowed: a folder of images, .npz or .npy")
    arrays = _arrays(path)
    member = image_member(tuple(arrays), path)
    pixels = channels_first(arrays[member], path)
    return Split(pixels, checked_labels(labels_beside(arrays, member), len(pixels), path))


def image_member(names: tuple[str, ...], path: Path) -> str:
    """What the images are called among the arrays of a file; DataError when there are none."""
    found = [name for name in MEMBERS if name in names]
    if not found:
        allowed = f"{', '.join(MEMBERS[:-1])} or {MEMBERS[-1]}, and labels"
        raise DataError(f"{path}: holds {', '.join(names) or 'nothing'}, allowed: {allowed}")
    return found[0]


def labels_beside(arrays: Mapping[str, np.ndarray], member: str) -> np.ndarray | None:
    """`labels`; or, beside images without a name, the second array without a name, where it is a row of numbers."""
    if "labels" in arrays or member != "arr_0" or "arr_1" not in arrays:
        return arrays.get("labels")
    return arrays["arr_1"] if arrays["arr_1"].ndim == 1 else None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return {"images": loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable array file: {str(error).splitlines()[0]}") from error


def channels_first(images: np.ndarray, place: Path | str) -> Tensor:
    """Images in any allowed layout as (N, C, H, W) uint8. Raises DataError for another type or shape."""
    if images.dtype != np.uint8:
        raise DataError(f"{place}: {type_found(images.dtype, *value_range(images))}")
    return torch.from_numpy(np.ascontiguousarray(image_axes(images, place)))


def image_axes(images: np.ndarray, place: Path | str) -> np.ndarray:
    """A view of images as (N, C, H, W); DataError for a shape that is none of the allowed layouts."""
    if images.ndim == 3:
        images = images[:, None]
    elif images.ndim == 4 and images.shape[3] in CHANNELS:
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] not in CHANNELS or 0 in images.shape:
        raise DataError(f"{place}: images of shape {images.shape}, allowed: {LAYOUTS}")
    return images


def value_range(values: np.ndarray) -> tuple[float, float, int]:
    """Lowest and highest finite value, and how many are not finite; nan where none is."""
    if values.dtype.kind not in "fiub":
        return np.nan, np.nan, 0
    finite = values[np.isfinite(values)]
    ends = (float(finite.min()), float(finite.max())) if finite.size else (np.nan, np.nan)
    return *ends, values.size - finite.size


def type_found(kind: np.dtype, lowest: float, highest: float, not_finite: int) -> str:
    """What is wrong with images that are not uint8, and how to mend it."""
    found = f"images of {kind}" + (f" from {lowest:.4g} to {highest:.4g}" if np.isfinite(lowest) else "")
    found += f", {not_finite:,} values not finite" if not_finite else ""
    allowed = f"{found}; allowed: uint8 grey-level indices"
    if not_finite or not np.isfinite(lowest) or lowest < -1:
        return allowed
    if kind.kind == "f" and highest <= 1:
        scale = "(x + 1) * 127.5" if lowest < 0 else "x * 255"
        return f"{allowed}, e.g. numpy.rint({scale}).astype('uint8')"
    return f"{allowed}, e.g. x.astype('uint8')" if kind.kind in "iu" and 0 <= lowest <= highest <= 255 else allowed


def checked_labels(labels: np.ndarray | None, count: int, path: Path | str) -> Tensor | None:
    """Labels (count,) as int64, None where there are none; DataError for another shape or type, or below 0."""
    if labels is None:
        return None
    if labels.shape != (count,) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise DataError(
            f"{path}: labels of {labels.dtype} and shape {labels.shape}, allowed: integers from 0, shape ({count},)"
        )
    return torch.from_numpy(labels.astype(np.int64))


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """A picture (H, W, C) in 1 or 3 channels, where that loses nothing; else as it is."""
    if image.shape[2] == 3 and channels == 1 and (image == image[..., :1]).all():
        return image[..., :1]
    return np.repeat(image, channels, axis=2) if image.shape[2] == 1 else image


def _size(image: np.ndarray) -> str:
    return f"{image.shape[0]}x{image.shape[1]}"


def _dataset(name: str, images: Split, levels: int, path: Path) -> Dataset:
    if len(images) < 2:
        raise DataError(f"{path}: 1 image, allowed: at least 2, one to train on and one to hold out")
    hashes = [hashlib.sha256(image.numpy().data).digest() for image in images.pixels]
    order = sorted(range(len(images)), key=lambda i: (hashes[i], i))
    held_out = max(1, len(images) // 10)
    train, test = (_part(images, sorted(numbers)) for numbers in (order[held_out:], order[:held_out]))
    classes = 0 if images.labels is None else int(images.labels.max()) + 1
    _, channels, height, width = images.pixels.shape
    spec = DataSpec(channels, height, width, levels, classes)
    return Dataset(name, spec, train, test, fingerprint(train, test))


def _described(dataset: Dataset) -> tuple[DataSpec, str]:
    return dataset.spec, dataset.fingerprint


def _part(images: Split, numbers: list[int]) -> Split:
    return Split(images.pixels[numbers], None if images.labels is None else images.labels[numbers])
