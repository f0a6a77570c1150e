"""Sample grids for the page: at one pixel for each of the images' pixels, which the page enlarges; and thumbnails."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from genbench.errors import StoreError
from genbench.report.grids import GREY, PROMPTS

PNG = "image/png"
Name = TypeVar("Name")  # of a row
THUMBNAILS = 4
BUDGET = 4_000_000  # bytes of all grids of a page together, as base64
WIDE = 380  # CSS pixels that a grid is enlarged to, by a whole factor


@dataclass(frozen=True)
class Tiles:
    """The images of a grid, (rows, columns, H, W) or (rows, columns, H, W, 3) uint8.

    prompts: the text that each row was drawn for, () where there are none.
    """

    images: np.ndarray
    prompts: tuple[str, ...] = ()

    def picture(self, rows: int | None = None) -> str:
        """The first rows as a PNG in a data: address, one grey pixel between images."""
        shown = self.images[:rows]
        count, columns, height, width = shown.shape[:4]
        size = (count * (height + 1) - 1, columns * (width + 1) - 1, *shown.shape[4:])
        canvas = np.full(size, GREY, dtype=np.uint8)
        for row in range(count):
            for column in range(columns):
                top, left = row * (height + 1), column * (width + 1)
                canvas[top : top + height, left : left + width] = shown[row, column]
        return png_uri(canvas)

    def thumbnail(self) -> str:
        """A strip with the first image of the first rows."""
        few = self.images[:THUMBNAILS, 0] if len(self.images) >= THUMBNAILS else self.images[0, :THUMBNAILS]
        return png_uri(np.concatenate(list(few), axis=1))

    def strips(self, rows: int) -> list[tuple[str, str]]:
        """For each of the first rows its picture and its prompt."""
        parts = self.images[:rows, None]
        return [(Tiles(part).picture(), text) for part, text in zip(parts, self.prompts[:rows], strict=True)]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of one image in pixels."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    def width(self, wanted: int = WIDE) -> int:
        """The width of the picture in CSS pixels: the whole multiple of its own that is nearest to the wanted one."""
        columns, own = self.images.shape[1], self.images.shape[3]
        wide = columns * (own + 1) - 1
        return wide * max(1, round(wanted / wide))


def png_uri(pixels: np.ndarray) -> str:
    """Pixels (H, W) or (H, W, 3) uint8 as a PNG in a data: address."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG", compress_level=6)
    return f"data:{PNG};base64,{base64.b64encode(file.getvalue()).decode()}"


def read_tiles(path: Path) -> Tiles:
    """The images of a grid that genbench.report.grids.save_grid wrote. Raises StoreError for a file that is no picture.

    The grey lines between the images show where each one starts, and their width the factor of enlargement.
    """
    try:
        with Image.open(path) as opened:
            pixels = np.asarray(opened.convert("L" if opened.mode in ("1", "L", "LA", "I;16") else "RGB"))
            stated = opened.info.get(PROMPTS)
            prompts = tuple(map(str, json.loads(stated))) if isinstance(stated, str) else ()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise StoreError(f"{path}: cannot be read as a picture: {error}") from error
    height, across = _tile(pixels, 0)
    width, rule = _tile(pixels, 1)
    rows = _blocks(pixels, height, across, axis=0)
    tiles = np.stack([np.stack(_blocks(row, width, rule, axis=1)) for row in rows])
    scale = _scale(tiles, rule or across)
    return Tiles(tiles[:, :, ::scale, ::scale], prompts if len(prompts) == len(tiles) else ())


def _tile(pixels: np.ndarray, axis: int) -> tuple[int, int]:
    """Length of an image and of the line after it along an axis; (whole length, 0) where lines do not divide it."""
    length = pixels.shape[axis]
    others = tuple(a for a in range(pixels.ndim) if a != axis)
    line = np.flatnonzero((pixels == GREY).all(axis=others))
    if len(line) == 0 or line[0] == 0:
        return length, 0
    size = int(line[0])
    rule = int(np.argmax(np.append(np.diff(line), 2) > 1)) + 1
    return (size, rule) if (length + rule) % (size + rule) == 0 else (length, 0)


def _blocks(pixels: np.ndarray, size: int, rule: int, axis: int) -> list[np.ndarray]:
    starts = range(0, pixels.shape[axis], size + rule)
    return [pixels.take(range(start, start + size), axis=axis) for start in starts]


def _scale(tiles: np.ndarray, rule: int) -> int:
    """The largest factor for a line of this width under which every image consists of blocks of one colour."""
    height, width = tiles.shape[2:4]
    for scale in (2 * rule + 1, 2 * rule):
        if scale > 1 and height % scale == 0 and width % scale == 0 and _constant(tiles, scale):
            return scale
    return 1


def _constant(tiles: np.ndarray, scale: int) -> bool:
    return np.array_equal(tiles, tiles[:, :, ::scale, ::scale].repeat(scale, axis=2).repeat(scale, axis=3))


def sample_grids(directory: Path, kind: str = "samples") -> dict[str, tuple[int, Path]]:
    """The first seed's grid of each figures/<kind>-<slug>-s<seed>.png: slug to (seed, path)."""
    grids: dict[str, tuple[int, Path]] = {}
    for path in sorted((directory / "figures").glob(f"{kind}-*.png")):
        match = re.fullmatch(rf"{kind}-(.+)-s(\d+)", path.stem)
        if match and (match[1] not in grids or int(match[2]) < grids[match[1]][0]):
            grids[match[1]] = (int(match[2]), path)
    return grids


def fitted(tiles: Mapping[Name, Tiles], budget: int = BUDGET) -> dict[Name, str]:
    """The pictures of the grids; with fewer rows where all of them together would not fit into the budget."""
    rows = fitting_rows(tiles, budget)
    return {name: grid.picture(rows[name]) for name, grid in tiles.items()}


def fitting_rows(tiles: Mapping[Name, Tiles], budget: int = BUDGET) -> dict[Name, int]:
    """How many rows of each grid are shown."""
    expected = sum(len(grid.picture(1)) * len(grid.images) for grid in tiles.values())
    share = min(1.0, budget / expected) if expected else 1.0
    return {name: max(1, int(share * len(grid.images))) for name, grid in tiles.items()}
