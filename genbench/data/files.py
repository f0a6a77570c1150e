"""Images in the user's own files: the dataset `npz`, and images made elsewhere in arrays or folders.

The tenth of an array with the smallest hashes of pixels is held out (genbench.data.partition).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from genbench.contract import DataSpec
from genbench.data.annotations import read_annotations
from genbench.data.base import Dataset, Split, fingerprint
from genbench.data.image_set import Found, ImageSet
from genbench.data.images import open_images
from genbench.data.labels import Classes, Labels, as_classes, folder_labels
from genbench.data.partition import by_hash, held_out, refuse_single
from genbench.data.pictures import Pictures
from genbench.errors import DataError

NOT_LABELLED = "its samples were not asked for classes"
NO_CAPTIONS = "found no captions, allowed: metadata.jsonl, .csv or .txt with the pictures, or `prompts` in an .npz"


def load_npz(entry: dict[str, Any], place: Path) -> Dataset:
    """{name: npz, path, levels}: an array of images; levels (default 256) bounds its values."""
    split = _in_memory(open_images(place))
    levels = entry.get("levels") or 256
    check_levels(split.pixels, levels, place)
    return _dataset("npz", split, levels, place)


def describe_npz(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint, from the array."""
    dataset = load_npz(entry, place)
    return dataset.spec, dataset.fingerprint


def sizes(entry: dict[str, Any], place: Path) -> tuple[int, int]:
    """How many images are trained on and held out."""
    count = open_images(place).count
    return count - held_out(count), held_out(count)


def read_images(path: Path, spec: DataSpec | None = None) -> Split:
    """Images made elsewhere: a folder of pictures, an .npz or an .npy.

    spec: the dataset they stand beside; their shape must be its shape and every value below its levels. Pictures (not
    arrays) are shown in the spec's channels: grey as three equal channels, three equal channels as grey.
    Raises DataError naming the file, what was found and what is allowed.
    """
    return _in_memory(open_images(path)) if spec is None else _beside(open_images(path, grey=_grey(spec)), spec)


def read_samples(path: Path, spec: DataSpec) -> tuple[Split, Found]:
    """As read_images, without labels, and what the files say."""
    images = open_images(path, grey=_grey(spec)).in_channels(spec.channels)
    return Split(_beside(images, spec).pixels), images.found


def _grey(spec: DataSpec) -> tuple[int, int] | None:
    return (spec.height, spec.width) if spec.channels == 1 else None


def wished_classes(path: Path, spec: DataSpec, classes: Classes) -> tuple[Tensor | None, str]:
    """The class of the dataset that each image of a file or folder was asked to show (N,), or None and the reason.

    From the labels of an array; of pictures, from a table or files beside them with labels or captions
    (genbench.data.annotations), or from the names of their folders.
    """
    try:
        labels = _wishes(open_images(path))
    except DataError as error:
        return None, str(error)
    if labels is None or not spec.classes:
        return None, NOT_LABELLED
    numbers, reason = as_classes(labels, classes)
    return numbers, f"{path.name}: {reason}" if reason else ""


def _wishes(images: ImageSet) -> Labels | None:
    if not isinstance(images, Pictures):
        return images.given_labels
    known = read_annotations(images.path, images.files)
    names = known.labels or known.texts
    return images.given_labels if names is None else folder_labels(names)


def captions_of_images(images: ImageSet) -> tuple[tuple[str, ...], str]:
    """The text that each image of a set was drawn for, or () and the reason why that is not known.

    Of pictures, from a table or files beside them (genbench.data.annotations); of an .npz, from its member `prompts`.
    """
    try:
        texts = read_annotations(images.path, images.files).texts if isinstance(images, Pictures) else images.texts
    except DataError as error:
        return (), str(error)
    return (texts, "") if texts else ((), f"{Path(images.name).name}: {NO_CAPTIONS}")


def content_of(path: Path) -> str:
    """SHA-256 (hex) of the images of a file or folder, however its pictures are called and linked."""
    return open_images(path).source_hash


def _beside(images: ImageSet, spec: DataSpec) -> Split:
    images = images.in_channels(spec.channels)
    if images.shape != spec.shape:
        raise DataError(f"{images.name}: images of (channels, height, width) {images.shape}, allowed: {spec.shape}")
    split = _in_memory(images)
    check_levels(split.pixels, spec.levels, images.name)
    return split


def _array_labels(images: ImageSet) -> Labels | None:
    """Labels of an array; those that the names of folders may be are not asked for."""
    return None if isinstance(images, Pictures) else images.given_labels


def check_levels(pixels: Tensor, levels: int, path: Path | str) -> None:
    """Raises DataError for a value that is no grey-level index."""
    highest = int(pixels.max())
    if highest >= levels:
        raise DataError(f"{path}: pixel value {highest}, allowed: grey-level indices 0 to {levels - 1}")


def _in_memory(images: ImageSet) -> Split:
    """All images with their labels."""
    labels = _array_labels(images)
    return Split(images.load(), None if labels is None else labels.numbers)


def _dataset(name: str, images: Split, levels: int, path: Path) -> Dataset:
    refuse_single(len(images), path)
    train, test = (_part(images, numbers) for numbers in by_hash(images.pixels))
    classes = 0 if images.labels is None else int(images.labels.max()) + 1
    _, channels, height, width = images.pixels.shape
    spec = DataSpec(channels, height, width, levels, classes)
    return Dataset(name, spec, train, test, fingerprint(train, test))


def _part(images: Split, numbers: list[int]) -> Split:
    return Split(images.pixels[numbers], None if images.labels is None else images.labels[numbers])
