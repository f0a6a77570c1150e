"""Sample grids: many small images in one PNG, enlarged without smoothing."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from genbench.files import whole

TARGET_WIDTH = 500
GREY = 128
PROMPTS, LONGEST = "prompts", 2_000  # the name of the texts in the file, and how many characters of each are kept
MOST_PROMPTS = 12  # rows of a grid


def save_grid(
    pixels: np.ndarray, levels: int, path: Path, columns: int = 10, rows: int | None = None, scale: int | None = None,
    prompts: Sequence[str] = (),
) -> None:  # fmt: skip
    """Writes the first images as a PNG grid, row by row, with grey lines between them.

    pixels: (N, C, H, W) uint8 grey levels 0 .. levels-1, C = 1 or 3. rows: by default as many as the images fill.
    scale: factor of enlargement; default: the integer with which the width is nearest to 500 pixels. prompts: the text
    that each row was drawn for, kept in the file beside the pixels. Raises ValueError for an empty array or another
    shape.
    """
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or 0 in pixels.shape:
        raise ValueError(f"pixels: found shape {pixels.shape}, allowed: (N, C, H, W) with N > 0 and C = 1 or 3")
    columns = min(columns, len(pixels))
    rows = -(-len(pixels) // columns) if rows is None else rows
    scale = max(1, round(TARGET_WIDTH / (columns * pixels.shape[3]))) if scale is None else scale
    shown = pixels[: columns * rows].astype(np.float64) * (255 / (levels - 1))
    enlarged = shown.round().astype(np.uint8).repeat(scale, axis=2).repeat(scale, axis=3)
    canvas = _tile(enlarged, rows, columns, rule=max(1, scale // 2))
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = PngInfo()
    if prompts:
        texts.add_itxt(PROMPTS, json.dumps([text[:LONGEST] for text in prompts], ensure_ascii=False))
    image = Image.fromarray(canvas[..., 0] if canvas.shape[-1] == 1 else canvas)
    with whole(path) as partial:
        image.save(partial, format="PNG", compress_type=zlib.Z_RLE, pnginfo=texts)  # enlarged rows: fast, and as small


def rows_by_class(labels: np.ndarray, columns: int = 10) -> np.ndarray:
    """Indices of images for a grid with one row for each class, in the order of the classes.

    labels: (N,). columns: images of each class. A class with fewer images is left out.
    """
    rows = [np.flatnonzero(labels == c)[:columns] for c in np.unique(labels)]
    full = [row for row in rows if len(row) == columns]
    return np.concatenate(full) if full else np.arange(len(labels))


def rows_by_text(texts: Sequence[str], labels: np.ndarray | None, columns: int = 10) -> tuple[np.ndarray, list[str]]:
    """Indices of images for a grid with one row for each text, and the texts of the rows: the first MOST_PROMPTS.

    texts: of each image. labels (N,): classes that order the texts; else they are in the order of the images. columns:
    images of each text at most; as many as there are of each.
    """
    numbers: dict[str, list[int]] = {}
    for i, text in enumerate(texts):
        numbers.setdefault(text, []).append(i)
    order = sorted(numbers, key=lambda text: labels[numbers[text][0]]) if labels is not None else list(numbers)
    shown = order[:MOST_PROMPTS]
    width = min(columns, *(len(numbers[text]) for text in shown))
    return np.array([i for text in shown for i in numbers[text][:width]]), shown


def _tile(images: np.ndarray, rows: int, columns: int, rule: int) -> np.ndarray:
    """Images (N, C, H, W) on one canvas (height, width, C), `rule` pixels apart; empty parts are grey."""
    _, channels, height, width = images.shape
    down, right = height + rule, width + rule
    canvas = np.full((rows * down - rule, columns * right - rule, channels), GREY, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * down, index % columns * right
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas
