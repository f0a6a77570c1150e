"""Feature extractors: the space in which fid, kid, precision and recall are measured, and the classifier behind is.

"classifier" is the small network shipped for a dataset (genbench.features.classifier); "pixels" is no network at all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genbench.errors import DataError
from genbench.features.base import Extractor, Features
from genbench.features.classifier import ClassifierExtractor, index
from genbench.registry import nearest

__all__ = ["Extractor", "Features", "has_probabilities", "identity", "load", "names"]

ABOUT = {
    "classifier": "the small classifier shipped for the dataset; its numbers compare with nothing but themselves",
    "pixels": "raw pixels in [0, 1]; no class probabilities",
}
NAMES = tuple(ABOUT)


class Pixels(Extractor):
    """Raw pixels k / (levels - 1) in [0, 1], flattened: (N, C * H * W); no probabilities."""

    name = "pixels"
    weights_hash = "none"

    def __call__(self, pixels: Tensor, levels: int, batch: int = 500) -> Features:
        """As Extractor."""
        return Features((pixels.flatten(1).float() / (levels - 1)).cpu().numpy())


def names() -> tuple[str, ...]:
    """What `features:` may be."""
    return NAMES


def about(name: str) -> str:
    """A line about a feature extractor."""
    return ABOUT[name]


def has_probabilities(name: str) -> bool:
    """Whether `features: name` gives class probabilities as well as vectors."""
    return name == "classifier"


def identity(name: str, dataset: str) -> dict[str, Any]:
    """The protocol fields of an extractor: its full name, the hash of its weights, and how images are resized."""
    full = full_name(name, dataset)
    weights = "none" if full == "pixels" else index()[full]["sha256"]
    return {"extractor": full, "extractor_weights": weights, "resize": "none"}


def load(name: str, dataset: str, device: str | torch.device = "cpu") -> Extractor:
    """The extractor `name` for a dataset, weights verified. Raises DataError for a pair that does not exist."""
    full = full_name(name, dataset)
    return Pixels() if full == "pixels" else ClassifierExtractor(full, device)


def full_name(name: str, dataset: str) -> str:
    """The extractor that `features: name` means for this dataset, e.g. "digits-classifier"."""
    if name not in NAMES:
        raise DataError(f"unknown features '{name}'{nearest(name, NAMES) or ';'} allowed: {', '.join(NAMES)}")
    if name == "pixels":
        return name
    full = f"{dataset}-classifier"
    if full not in index():
        served = ", ".join(listed["dataset"] for listed in index().values())
        raise DataError(f"features 'classifier': found dataset '{dataset}', allowed: {served}; use `features: pixels`")
    return full
