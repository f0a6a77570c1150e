"""`edges`: a translation task between images and their edges, unpaired in training, made from a labelled dataset.

The dataset's own images are the edge images; `source` contains the original images. The train split is halved at
random: models see images of one half and edges of the other half, so they never see a pair. In the test split image i
of one domain is the true translation of image i of the other domain; it is used only for scoring.

An edge image is the magnitude of Sobel's gradient, scaled so that the steepest step between neighbouring columns
(black to white, 4 in units of the white level) is white, and rounded to the dataset's grey levels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genbench.contract import DataSpec
from genbench.data import digits, fashion_mnist
from genbench.data.base import Dataset, Domain, Split
from genbench.space import seeded

OF = {"digits": digits, "fashion-mnist": fashion_mnist}
SIZES = {"digits": digits.IMAGES, "fashion-mnist": fashion_mnist.IMAGES}
SPLIT_SEED = 0
STEEPEST = 4.0
SOBEL = ((1.0, 0.0, -1.0), (2.0, 0.0, -2.0), (1.0, 0.0, -1.0))


def load(entry: dict[str, Any], place: Path) -> Dataset:
    """{name: edges, of: digits or fashion-mnist}. Raises DataError as the dataset it is made of does."""
    name = entry["of"]
    whole = OF[name].load({**entry, "name": name}, place)
    order = torch.randperm(len(whole.train), generator=seeded(SPLIT_SEED))
    half = len(order) // 2
    pictures, drawn = (_part(whole.train, part) for part in (order[:half], order[half:]))
    levels = whole.spec.levels
    source = Domain(pictures, whole.test)
    train, test = _edges_of(drawn, levels), _edges_of(whole.test, levels)
    return Dataset("edges", whole.spec, train, test, _fingerprint(whole.fingerprint), source=source)


def describe(entry: dict[str, Any], place: Path) -> tuple[DataSpec, str]:
    """Shape and fingerprint, without loading."""
    name = entry["of"]
    describe_whole: Callable[..., tuple[DataSpec, str]] = OF[name].describe
    spec, whole = describe_whole({**entry, "name": name}, place)
    return spec, _fingerprint(whole)


def sizes(entry: dict[str, Any], path: Path) -> tuple[int, int]:
    """How many edge images are trained on and held out: the second half of the train split, and the test split."""
    train, test = SIZES[entry["of"]]
    return train - train // 2, test


def edges(pixels: Tensor, levels: int) -> Tensor:
    """Edge pictures (N, C, H, W) uint8 of pictures (N, C, H, W) uint8; borders repeat their pixel."""
    across = torch.tensor(SOBEL).expand(pixels.shape[1], 1, 3, 3)
    padded = F.pad(pixels.float() / (levels - 1), (1, 1, 1, 1), mode="replicate")
    gradients = [F.conv2d(padded, kernel, groups=len(kernel)) for kernel in (across, across.transpose(2, 3))]
    magnitude = torch.hypot(*gradients) / STEEPEST
    return (magnitude.clamp_max(1.0) * (levels - 1)).round().to(torch.uint8)


def _part(split: Split, index: Tensor) -> Split:
    return Split(split.pixels[index], None if split.labels is None else split.labels[index])


def _edges_of(split: Split, levels: int) -> Split:
    blocks = [edges(block, levels) for block in split.pixels.split(10_000)]
    return Split(torch.cat(blocks), split.labels)


def _fingerprint(whole: str) -> str:
    """The whole dataset's fingerprint marked as this task's: the edges follow from it."""
    return f"edges-1-{whole}"
