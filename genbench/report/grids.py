"""Sample grids: many small images in one PNG, enlarged without smoothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from genbench.files import whole

TARGET_WIDTH = 500
GREY = 128


def save_grid(
    pixels: np.ndarray, levels: int, path: Path, columns: int = 10, rows: int | None = None, scale: int | None = None
) -> None:
    """Writes the first images as a PNG grid, row by row, with grey lines between them.

    pixels: (N, C, H, W) uint8 grey levels 0 .. levels-1, C = 1 or 3. rows: by default as many as the images
    fill. scale: factor of enlargement; default: the integer with which the width is nearest to 500 pixels.
    Raises ValueError for an empty array or another shape.
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
    with whole(path) as partial:
        Image.fromarray(canvas[..., 0] if canvas.shape[-1] == 1 else canvas).save(partial, format="PNG", optimize=True)


def rows_by_class(labels: np.ndarray, columns: int = 10) -> np.ndarray:
    """Indices of images for a grid with one row for each class, in the order of the classes.

    labels: (N,). columns: images of each class. A class with fewer images is left out.
    """
    rows = [np.flatnonzero(labels == c)[:columns] for c in np.unique(labels)]
    full = [row for row in rows if len(row) == columns]
    return np.concatenate(full) if full else np.arange(len(labels))


def _tile(images: np.ndarray, rows: int, columns: int, rule: int) -> np.ndarray:
    """Images (N, C, H, W) on one canvas (height, width, C), `rule` pixels apart; empty parts are grey."""
    _, channels, height, width = images.shape
    down, right = height + rule, width + rule
    canvas = np.full((rows * down - rule, columns * right - rule, channels), GREY, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = index // columns * down, index % columns * right
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas
