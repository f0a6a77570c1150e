"""Features that several processes extract together: each of them those of its share of the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from genbench.features import BATCH, Features
from genbench.processes.group import Processes


def own_share(pixels: Tensor, group: Processes) -> Tensor:
    """The part of this process of images (N, C, H, W): whole batches of an extractor, as its results depend on them."""
    start, stop = group.rows(-(-len(pixels) // BATCH))
    return pixels[start * BATCH : stop * BATCH]


def features_of_share(pixels: Tensor, group: Processes, extract: Callable[[Tensor], Features]) -> Features | None:
    """Features of this process's part of the images; None where it has none."""
    share = own_share(pixels, group)
    return extract(share) if len(share) else None


def joined(parts: Sequence[Features | None]) -> Features:
    """The features of consecutive parts as those of all images."""
    known = [part for part in parts if part is not None]

    def whole(name: str) -> np.ndarray | None:
        arrays = [getattr(part, name) for part in known]
        return None if arrays[0] is None else np.concatenate(arrays)

    vectors = whole("vectors")
    assert vectors is not None
    return Features(vectors, whole("probabilities"), whole("spatial"))
