"""The pictures below a folder, decoded when their batch is asked for, as a viewer shows them.

Folders that hold pictures in folders alone are class trees: the folder's name is the label.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genbench.data.annotations import without_annotations
from genbench.data.colour import to_srgb
from genbench.data.depth import deep_values, eight_bits
from genbench.data.headers import Head, is_picture_suffix, note_warnings, opened, read_heads
from genbench.data.image_set import Found, ImageSet, Note
from genbench.data.labels import folder_labels
from genbench.data.resizing import Sizing
from genbench.data.walk import Listing, list_files
from genbench.errors import DataError

READING = 2  # changes when the same files become other pixels
WHITE = 255
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
DEEP_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


class Pictures(ImageSet):
    """Every picture below a folder. fit: the size to bring each to, as it is decoded."""

    def __init__(self, path: Path, fit: Sizing | None = None) -> None:
        """Reads every header. Raises DataError for a broken picture, no pictures, or sizes that differ without fit."""
        if not path.is_dir():
            raise DataError(f"{path}: no such folder of images")
        self.path, self.name, self.fit = path, str(path), fit
        listing = list_files(path)
        pictures, others, self.said = read_heads(listing.files)
        self.files, self.heads = [file for file, _ in pictures], [head for _, head in pictures]
        self._refuse_nothing(others)
        self.left_out = _left_out(listing, without_annotations(others, self.files))
        self.count = len(self.files)
        width, height = self._size()
        self.shape = (1 if all(head.grey for head in self.heads) else 3, height, width)
        self.transparent: dict[Path, bool] = {}
        self._read_labels()

    def _refuse_nothing(self, others: Sequence[Path]) -> None:
        if self.files:
            return
        suffixes = sorted({file.suffix.lower() or file.name for file in others})
        found = f"; found {len(others)} other files: {', '.join(suffixes[:5])}" if others else ""
        raise DataError(f"{self.path}: no images in this folder{found}; allowed: the formats that Pillow reads")

    def _size(self) -> tuple[int, int]:
        if self.fit is not None:
            return self.fit.shape[1], self.fit.shape[0]
        first = self.heads[0].size
        for file, head in zip(self.files, self.heads, strict=True):
            if head.size != first:
                sizes = f"{_shown(head.size)} pixels (height x width), but {self.files[0]} has {_shown(first)}"
                raise DataError(
                    f"{file}: {sizes}; all of a set must agree, or be resized: `size:` in a suite, `--size` of score"
                )
        return first

    def _read_labels(self) -> None:
        parts = [file.relative_to(self.path).parts for file in self.files]
        tops = [part[0] for part in parts]
        if len(set(tops)) > 1 and all(len(part) > 1 for part in parts):
            self.folders, self.given_labels = True, folder_labels(tops)

    def rows(self, size: int, first: int = 0, every: int = 1) -> Iterator[Tensor]:
        """As ImageSet. Raises DataError for a broken picture, and for colour where grey was asked for."""
        for start in range(first * size, self.count, every * size):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                images = [self._read(i, caught) for i in range(start, min(start + size, self.count))]
            yield torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()

    def _read(self, number: int, caught: list[warnings.WarningMessage]) -> np.ndarray:
        file, head = self.files[number], self.heads[number]
        image, transparent = read_picture(file, head, self._top if head.deep else 255, self.fit)
        if head.alpha:
            self.transparent[file] = transparent
        if caught:
            note_warnings([w for w in caught if w.category is not Image.DecompressionBombWarning], file, self.said)
            caught.clear()
        image = with_channels(image, self.shape[0])
        if image.shape[2] != self.shape[0]:
            raise DataError(f"{file}: a picture in colour, allowed: grey, as what it is compared with")
        if image.shape[:2] != self.shape[1:]:
            found = f"{image.shape[0]}x{image.shape[1]} pixels decoded, {self.shape[1]}x{self.shape[2]} in its header"
            raise DataError(f"{file}: not a readable image: {found}")
        return image

    @cached_property
    def _top(self) -> int:
        """The largest value of the pictures of more than 8 bits a channel."""
        highest = 0
        for file, head in zip(self.files, self.heads, strict=True):
            if head.deep:
                with opened(file) as image:
                    values = deep_values(image, file)
                highest = max(highest, int(values[..., :-1].max() if values.shape[2] in (2, 4) else values.max()))
        return highest

    @property
    def found(self) -> Found:
        """As ImageSet; looks at transparency where the pictures have not been decoded yet."""
        notes, codes = dict(self.left_out), self._by_code()
        details = {"deep": self._depth()} if "deep" in codes else {}
        if self.said:
            codes["warned"] = sorted({name for names in self.said.values() for name in names})
            details["warned"] = "; ".join(self.said)
        notes |= {code: Note(len(names), names[0], details.get(code, "")) for code, names in codes.items()}
        kinds = Counter(head.kind for head in self.heads)
        if len(kinds) > 1:
            text = ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common())
            notes["modes"] = Note(self.count, str(self.path), text)
        return Found(notes)

    def _by_code(self) -> dict[str, list[str]]:
        codes: dict[str, list[str]] = {}
        for file, head in zip(self.files, self.heads, strict=True):
            for code in head.codes:
                codes.setdefault(code, []).append(str(file))
            if head.alpha and self._is_transparent(file, head):
                codes.setdefault("alpha", []).append(str(file))
        return codes

    def _depth(self) -> str:
        return "none above 255: read as 0..255" if self._top <= 255 else "divided by 257 and rounded"

    def _is_transparent(self, file: Path, head: Head) -> bool:
        if file not in self.transparent:
            self.transparent[file] = read_picture(file, head, self._top if head.deep else 255, None)[1]
        return self.transparent[file]

    @property
    def source_hash(self) -> str:
        """As ImageSet: over the bytes of the files, in order, whatever their names, and how they are read."""
        state = hashlib.sha256(f"{READING} {self.shape} {self.count} {self.fit}".encode())
        for file in self.files:
            with file.open("rb") as stream:
                state.update(hashlib.file_digest(stream, "sha256").digest())
        return state.hexdigest()

    def in_channels(self, channels: int) -> ImageSet:
        """As ImageSet; whether colour is grey is seen when it is decoded."""
        shown = copy(self)
        shown.shape = (channels, *self.shape[1:])
        return shown


def _left_out(listing: Listing, others: Sequence[Path]) -> dict[str, Note]:
    """Files that are not among the pictures, by what is to be reported of them."""
    hidden = [path for path in listing.hidden if is_picture_suffix(path.suffix.lower()) and path.name[:2] != "._"]
    found = {"others": others, "hidden": hidden, "repeated": listing.repeated, "broken-links": listing.broken}
    return {code: Note(len(names), str(names[0]), _suffixes(names)) for code, names in found.items() if names}


def _suffixes(names: Sequence[Path]) -> str:
    counts = Counter(name.suffix.lower() or "without suffix" for name in names)
    return ", ".join(f"{n:,} {suffix}" for suffix, n in counts.most_common(5))


def _shown(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def read_picture(path: Path, head: Head, top: int, fit: Sizing | None) -> tuple[np.ndarray, bool]:
    """One picture (H, W, C) uint8, C = 1 for grey files and 3 for others, and whether it is transparent anywhere.

    top: the largest value of the set's pictures of more than 8 bits. Transparent pictures are shown on white.
    """
    with opened(path) as file:
        if not (head.codes or head.alpha or fit) and file.mode in ("L", "RGB"):
            return np.asarray(file).reshape(file.height, file.width, -1), False
        icc = file.info.get("icc_profile")
        image = to_srgb(_deep_picture(file, path, top) if head.deep else file, icc, head.power)
        image, transparent = on_white(image)
        if head.orientation in TURNS:
            image = image.transpose(TURNS[head.orientation])
        image = fit.apply(image) if fit else image
        return np.asarray(image).reshape(image.height, image.width, -1), transparent


def _deep_picture(file: Image.Image, path: Path, top: int) -> Image.Image:
    transparent = file.info.get("transparency")
    values = deep_values(file, path)
    levels = eight_bits(values, top)
    if transparent is not None:
        opaque = (values != np.asarray(transparent)).any(axis=2, keepdims=True)
        levels = np.concatenate([levels, opaque.astype(np.uint8) * WHITE], axis=2)
    height, width, channels = levels.shape
    mode = file.mode if file.mode == "CMYK" else DEEP_MODES[channels]
    return Image.frombytes(mode, (width, height), np.ascontiguousarray(levels).tobytes())


def on_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """A picture in mode L or RGB as it looks on white, and whether it was transparent anywhere."""
    if image.mode not in ("LA", "RGBA"):
        return image, False
    alpha, plain = image.getchannel("A"), image.convert(image.mode[:-1])
    if np.asarray(alpha).min() == WHITE:
        return plain, False
    paper = Image.new(plain.mode, plain.size, "white")
    paper.paste(plain, mask=alpha)
    return paper, True


def with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """A picture (H, W, C) in 1 or 3 channels, where that loses nothing; else as it is."""
    if image.shape[2] == 3 and channels == 1 and (image == image[..., :1]).all():
        return image[..., :1]
    return np.repeat(image, channels, axis=2) if image.shape[2] == 1 and channels > 1 else image
