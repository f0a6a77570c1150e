"""Several extractors on one set of images, which is read once, part by part; each part goes to every extractor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
from torch import Tensor

from genbench.features import Extractor, Features, extract
from genbench.halving import AtOnce

PART, BYTES = 16_000, 1 << 28  # images and bytes of a part, at most
STEP = 128  # a part is a multiple of the batches of the pretrained extractors, so that batches do not depend on it
Loads = tuple[Callable[[], Extractor], AtOnce]
Extracted = dict[str, Features | Exception]


def part_size(pixels: Tensor) -> int:
    """How many images of pixels (N, C, H, W) are in a part."""
    fitting = BYTES // max(1, prod(pixels.shape[1:]))
    return PART if fitting >= PART else max(STEP, fitting // STEP * STEP)


def extract_together(extractors: Mapping[str, Loads], pixels: Tensor, levels: int) -> Extracted:
    """Features of grey levels (N, C, H, W) uint8 by each extractor, under the same names.

    extractors: what loads each, and how many images it computes at once. What an extractor raises is in the place of
    its features; the others continue.
    """
    parts: dict[str, list[Features]] = {name: [] for name in extractors}
    failed: dict[str, Exception] = {}
    for lazy in pixels.split(part_size(pixels)):
        part = lazy.clone()  # a part of a mapped file is read here, once
        for name in [name for name in extractors if name not in failed]:
            load, at_once = extractors[name]
            try:
                parts[name].append(extract(load(), part, levels, at_once))
            except Exception as error:  # becomes the failure of the metrics of this extractor
                failed[name] = error
    return {name: failed.get(name) or joined(found) for name, found in parts.items()}


def joined(parts: Sequence[Features]) -> Features:
    """The features of consecutive parts as those of all images."""
    columns = {name: [vars(part)[name] for part in parts] for name in ("vectors", "probabilities", "spatial")}
    return Features(**{n: np.concatenate(rows) for n, rows in columns.items() if all(row is not None for row in rows)})
