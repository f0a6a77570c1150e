"""`genbench sample`: samples of a trained cell or of an untrained model, as a picture, an array or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genbench.contract import DataSpec, Draws, Translates
from genbench.draw.blocks import Drawn, draw
from genbench.errors import CellFailure, GenbenchError, ModelError
from genbench.files import whole
from genbench.machine import choose_device
from genbench.options import nearest
from genbench.plan.cells import Cell
from genbench.plan.planner import make_plan
from genbench.progress import silent
from genbench.reasons import explain
from genbench.report.grids import save_grid
from genbench.sources.base import Opened
from genbench.sources.build import load_model
from genbench.store import Store, make_folder
from genbench.suite.schema import Suite, read_suite
from genbench.surroundings import restored

SUFFIXES = (".png", ".npz", ".npy", "")


def write_samples(
    name: str, suite: Path | None, n: int, seed: int, out: Path, device: str, untrained: DataSpec
) -> str:  # fmt: skip
    """Writes n samples in the form that the suffix of `out` states; returns one line about them.

    .png: a grid. .npz: `images` (n, H, W) or (n, H, W, 3) uint8 grey levels 0 .. levels-1, `levels`, and `labels` (n,)
    where classes were requested. .npy: the images alone. No suffix: a folder with one PNG for each image.
    untrained: the images of a model without a suite. Raises GenbenchError for a model or file that cannot be.
    """
    if out.suffix not in SUFFIXES:
        raise GenbenchError(f"--out: found '{out}', allowed: .png, .npz, .npy, or a folder's name without suffix")
    chosen = choose_device(device)
    model = (
        load_model(name, data=untrained, seed=seed) if suite is None else trained_cell(name, read_suite(suite))[1].model
    )
    if isinstance(model, Translates):
        raise GenbenchError(
            f"{name} translates images and draws none without a source; `genbench run` shows its translations"
        )
    drawn = _drawn(model, name, n, seed, chosen)
    _write(drawn, model.data.levels, out)
    state = "trained" if suite else "untrained"
    return f"{out}: {n} samples of {name} ({state}), seed {seed}, {drawn.evaluations:g} network evaluations an image"


def _drawn(model: Draws, name: str, n: int, seed: int, device: str) -> Drawn:
    with restored(f"images of {name} were drawn", again=False):
        try:
            return draw(model.to(device), n, seed)
        except GenbenchError:
            raise
        except Exception as error:
            raise ModelError(f"{name} cannot draw images: {explain(error)}") from error


def _write(drawn: Drawn, levels: int, out: Path) -> None:
    make_folder(out.absolute().parent)
    if out.suffix == ".png":
        save_grid(drawn.pixels.numpy(), levels, out)
    elif out.suffix == "":
        _write_folder(_channels_last(drawn.pixels.numpy()), levels, out)
    else:
        _write_array(drawn, levels, out)


def _write_array(drawn: Drawn, levels: int, out: Path) -> None:
    images = _channels_last(drawn.pixels.numpy())
    more: dict[str, Any] = {} if drawn.labels is None else {"labels": drawn.labels.numpy()}
    with whole(out) as partial, partial.open("wb") as file:
        if out.suffix == ".npy":
            np.save(file, images)
        else:
            np.savez(file, images=images, levels=levels, **more)


def _write_folder(images: np.ndarray, levels: int, folder: Path) -> None:
    if folder.exists() and any(make_folder(folder).iterdir()):
        raise GenbenchError(f"{folder}: found a folder with files, allowed: a new or empty one")
    make_folder(folder)
    digits = len(str(len(images) - 1))
    for number, image in enumerate((images * (255 / (levels - 1))).round().astype(np.uint8)):
        Image.fromarray(image).save(folder / f"{number:0{digits}}.png")


def _channels_last(pixels: np.ndarray) -> np.ndarray:
    """(n, C, H, W) as (n, H, W) for one channel and (n, H, W, C) for more."""
    return pixels[:, 0] if pixels.shape[1] == 1 else np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def trained_cell(name: str, suite: Suite) -> tuple[Cell, Opened]:
    """The cell of this id or label, opened on the CPU with its model. Raises GenbenchError for one without weights."""
    planned = make_plan(suite).cells
    cells = {key: c for c in planned if not c.source.capabilities.no_network for key in (c.id, c.label)}
    if name not in cells:
        raise GenbenchError(f"{suite.suite}: no cell '{name}'{nearest(name, cells) or ';'} allowed: {', '.join(cells)}")
    cell = cells[name]
    opened = Opened(cell.source, cell.data, cell.drawing, Store(), "cpu", silent)
    try:
        opened.model.eval()
    except CellFailure as error:
        raise GenbenchError(f"{name}: {error}; `genbench run` trains it") from None
    return cell, opened
