"""The first samples of a row, and the train image that is nearest to each: a picture for the row's card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genbench.keys import features_key, neighbours_key, split_key
from genbench.metrics.base import Inputs
from genbench.metrics.nearest import crossing
from genbench.metrics.readings import MEMORY
from genbench.plan.cells import Cell
from genbench.store import Kind, Store

SHOWN = 10
FILE = "pixels.npy"


def closest_key(cell: Cell) -> str:
    """The key of the picture; "" for a row of which no metric compares samples with train images."""
    if not any(plan.metric.reads is MEMORY and not plan.reason for plan in cell.metrics):
        return ""
    train = split_key(cell.data.fingerprint, "train")
    return neighbours_key(*(features_key(pixels, cell.facts.extractor) for pixels in (cell.samples_key, train)))


def keep_closest(cell: Cell, store: Store, inputs: Inputs, train: Callable[[], Tensor]) -> None:
    """Stores the images (2 * SHOWN, C, H, W) uint8: samples, then of each the train image with the nearest features.

    train: returns the train images. Nothing is stored for a row without `closest_key`.
    """
    key = closest_key(cell)

    def make(folder: Path) -> None:
        samples = inputs.fake.vectors[:SHOWN]
        which = crossing(samples, inputs.train.vectors, {})[1].which
        pictures = inputs.generated.pixels[: len(samples)], train()[torch.from_numpy(which)]
        np.save(folder / FILE, np.concatenate([images.cpu().numpy() for images in pictures]))

    if key:
        store.kept(Kind.NEIGHBOURS, key, make)
