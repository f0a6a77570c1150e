"""Images of one bright square at a random position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge, Le

from genbench.contract import DataSpec
from genbench.data import Dataset, DatasetSource, Split, fingerprint


@dataclass(frozen=True)
class Options:
    """count: images in both splits together. side: of the square, in pixels."""

    count: Annotated[int, Ge(20)] = 100
    side: Annotated[int, Ge(1), Le(8)] = 3


SPEC = DataSpec(channels=1, height=8, width=8, levels=4)


def load(entry, path):
    side, pixels = entry["side"], torch.zeros(entry["count"], 1, 8, 8, dtype=torch.uint8)
    corners = torch.randint(9 - side, (len(pixels), 2), generator=torch.Generator().manual_seed(0))
    for image, (top, left) in zip(pixels, corners.tolist(), strict=True):
        image[0, top : top + side, left : left + side] = 3
    held_out = len(pixels) // 5
    train, test = Split(pixels[held_out:]), Split(pixels[:held_out])
    return Dataset("shapes", SPEC, train, test, fingerprint(train, test))


def describe(entry, path):
    return SPEC, load(entry, path).fingerprint


SHAPES = DatasetSource("one bright square at a random position, 8x8, 4 grey levels", load, describe, Options)
