"""`genbench sample`: a picture of samples of a trained cell or of an untrained model."""

from __future__ import annotations

from pathlib import Path

from genbench.contract import DataSpec, Draws, Translates
from genbench.draw.blocks import draw
from genbench.errors import CellFailure, GenbenchError
from genbench.machine import choose_device
from genbench.options import nearest
from genbench.plan.planner import make_plan
from genbench.progress import silent
from genbench.report.grids import save_grid
from genbench.sources.base import Opened
from genbench.sources.build import load_model
from genbench.store import Store
from genbench.suite.schema import read_suite

UNTRAINED = DataSpec(1, 28, 28, 256, 10)  # the images that an untrained model draws


def write_picture(name: str, suite: Path | None, n: int, seed: int, out: Path, device: str) -> str:
    """Writes a grid of n samples; returns one line about it."""
    chosen = choose_device(device)
    model = load_model(name, data=UNTRAINED, seed=seed) if suite is None else _trained(name, suite)
    if isinstance(model, Translates):
        raise GenbenchError(
            f"{name} translates images and draws none without a source; `genbench run` shows its translations"
        )
    state = "trained" if suite else "untrained"
    drawn = draw(model.to(chosen), n, seed)
    save_grid(drawn.pixels.numpy(), model.data.levels, out)
    return f"{out}: {n} samples of {name} ({state}), seed {seed}, {drawn.evaluations:g} network evaluations an image"


def _trained(name: str, suite: Path) -> Draws:
    planned = make_plan(read_suite(suite)).cells
    cells = {key: c for c in planned if not c.source.capabilities.no_network for key in (c.id, c.label)}
    if name not in cells:
        raise GenbenchError(f"{suite}: no cell '{name}'{nearest(name, cells) or ';'} allowed: {', '.join(cells)}")
    cell = cells[name]
    try:
        return Opened(cell.source, cell.data, cell.drawing, Store(), "cpu", silent).model
    except CellFailure as error:
        raise GenbenchError(f"{name}: {error}; `genbench run {suite}` trains it") from None
