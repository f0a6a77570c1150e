"""Sets of images that are read a batch at a time, so that their number does not matter to memory.

open_images(path)          a folder of pictures, an .npy or an .npz
InMemory(name, pixels)     an array, or a split of a dataset
"""

from __future__ import annotations

from pathlib import Path

from genbench.data.arrays import ArrayFile, is_array_file
from genbench.data.image_set import Found, ImageSet, InMemory
from genbench.data.pictures import Pictures
from genbench.data.resizing import Resized, Sizing
from genbench.errors import DataError
from genbench.files import refuse_absent

__all__ = ["ArrayFile", "Found", "ImageSet", "InMemory", "Pictures", "Sizing", "open_images", "to_size"]


def open_images(path: Path, fit: Sizing | None = None, grey: tuple[int, int] | None = None) -> ImageSet:
    """The images of a folder, an .npy or an .npz; fit: the size to bring each of them to, None for as they are.

    grey: height and width of the grey images that are expected of an array, see ArrayFile.
    Raises DataError naming the file, what was found and what is allowed.
    """
    if path.is_dir():
        return Pictures(path, fit)
    refuse_absent(path, DataError)
    if not is_array_file(path):
        raise DataError(f"{path}: found '{path.suffix}', allowed: a folder of images, .npz or .npy")
    return to_size(ArrayFile(path, grey), fit)


def to_size(images: ImageSet, fit: Sizing | None) -> ImageSet:
    """The same images brought to a size, None for as they are."""
    return images if fit is None or images.shape[1:] == fit.shape else Resized(images, fit)
