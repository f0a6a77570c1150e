"""Feature extractors: the space in which fid, kid, precision and recall are measured, and the classifier behind is.

"classifier" is the small network shipped for a dataset (genbench.features.classifier); "pixels" is no network at all;
the others are pretrained networks whose weights the user has (genbench.features.pretrained).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from genbench.errors import DataError
from genbench.features import pretrained
from genbench.features.base import DEFAULT, Extractor, FeatureOptions, Features
from genbench.features.classifier import ClassifierExtractor, index
from genbench.registry import nearest

__all__ = [
    "Extractor", "FeatureOptions", "Features", "about", "has_probabilities", "has_spatial", "identity", "load", "names",
]  # fmt: skip

OWN = {
    "classifier": "the small classifier shipped for the dataset; its numbers compare with nothing but themselves",
    "pixels": "raw pixels in [0, 1]; no class probabilities",
}
ABOUT = OWN | {name: f"{kind.about}: {kind.layer}" for name, kind in pretrained.KINDS.items()}
NAMES = tuple(ABOUT)
CLASSIFIERS = ("classifier", "inception-v3-compat")


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
    return name in CLASSIFIERS


def has_spatial(name: str) -> bool:
    """Whether `features: name` gives features that still know where in the image they were."""
    return name in CLASSIFIERS


def identity(name: str, dataset: str, options: FeatureOptions = DEFAULT) -> dict[str, Any]:
    """The protocol fields of an extractor: its full name, the hash of its weights, and how images are resized.

    Raises DataError for a pair that does not exist, options that do not apply, and weights that are not there.
    """
    full = full_name(name, dataset, options)
    if full in pretrained.KINDS:
        return pretrained.identity(full, options)
    weights = "none" if full == "pixels" else index()[full]["sha256"]
    return {"extractor": full, "extractor_weights": weights, "resize": "none"}


def load(name: str, dataset: str, device: str | torch.device = "cpu", options: FeatureOptions = DEFAULT) -> Extractor:
    """The extractor `name` for a dataset, weights verified; raises as `identity`."""
    full = full_name(name, dataset, options)
    if full in pretrained.KINDS:
        return pretrained.Pretrained(full, device, options)
    return Pixels() if full == "pixels" else ClassifierExtractor(full, device)


def full_name(name: str, dataset: str, options: FeatureOptions = DEFAULT) -> str:
    """The extractor that `features: name` means for this dataset, e.g. "digits-classifier"."""
    if name not in NAMES:
        raise DataError(f"unknown features '{name}'{nearest(name, NAMES) or ';'} allowed: {', '.join(NAMES)}")
    if name in pretrained.KINDS:
        return name
    refuse(name, options)
    if name == "pixels":
        return name
    full = f"{dataset}-classifier"
    if full not in index():
        served = ", ".join(listed["dataset"] for listed in index().values())
        raise DataError(f"features 'classifier': found dataset '{dataset}', allowed: {served}; use `features: pixels`")
    return full


def refuse(name: str, options: FeatureOptions) -> None:
    """DataError for options that the extractor would ignore; a folder of weights may be there for other extractors."""
    if options.weights is not None and options.weights.is_file():
        raise DataError(f"features '{name}' read no weights from a file; found {options.weights}")
    for key, found, default in (("resize", options.resize, ""), ("precision", options.precision, "fp32")):
        if found != default:
            raise DataError(f"features '{name}': found {key} '{found}', allowed: none")
