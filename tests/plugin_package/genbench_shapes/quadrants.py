"""The mean of each quadrant of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from annotated_types import Ge

from genbench.features import Extractor, ExtractorSource, Features


@dataclass(frozen=True)
class Options:
    """gain: by which the means are multiplied."""

    gain: Annotated[float, Ge(1)] = 1.0


class Quadrants(Extractor):
    """Four numbers an image."""

    name, weights_hash = "quadrants", "none"

    def __init__(self, gain):
        self.gain = gain

    def __call__(self, pixels, levels, batch=500):
        images = self.gain * pixels.float() / (levels - 1)
        halves = [half for rows in images.tensor_split(2, 2) for half in rows.tensor_split(2, 3)]
        return Features(torch.stack([half.mean((1, 2, 3)) for half in halves], 1).cpu().numpy())


def load(dataset, device, options):
    return Quadrants(options.own["gain"])


QUADRANTS = ExtractorSource("mean of each quadrant of the image", load, options=Options)
