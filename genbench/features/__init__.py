"""Feature extractors: the feature spaces of fid, kid, precision and recall, and the classifier of the inception score.

"classifier" is the small network shipped for a dataset (genbench.features.classifier); "pixels" uses no network; the
others are pretrained networks whose weights the user has (genbench.features.pretrained). An extractor of your own is
named as `my_features.py:MEANS` (see genbench.features.base):

    extractor = features.load_extractor("classifier", "digits")
    extractor(pixels, levels=17).vectors                 # (N, 64)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench.code_hash import plugin_hash
from genbench.errors import DataError, SuiteError
from genbench.features.base import DEFAULT, Extractor, ExtractorSource, FeatureOptions, Features, TextFeatures
from genbench.halving import COARSE, FEW, AtOnce
from genbench.registry import EXTRACTORS, short_name
from genbench.surroundings import restored

BATCH = 500  # images that an extractor is given at most

__all__ = [
    "Extractor",
    "ExtractorSource",
    "FeatureOptions",
    "Features",
    "TextFeatures",
    "extract",
    "extractor_names",
    "extractor_source",
    "has_probabilities",
    "has_spatial",
    "has_texts",
    "load_extractor",
    "protocol_fields",
]  # fmt: skip


def extractor_names() -> tuple[str, ...]:
    """The short names that `features:` accepts."""
    return EXTRACTORS.names()


def extractor_source(name: str) -> ExtractorSource:
    """The declaration of the extractor `name`. Raises DataError for an unknown name."""
    declared: ExtractorSource = EXTRACTORS.load(name)
    return declared


def has_probabilities(name: str) -> bool:
    """Whether `features: name` gives class probabilities as well as vectors."""
    return extractor_source(name).has_probabilities


def has_spatial(name: str) -> bool:
    """Whether `features: name` gives features that keep their position in the image."""
    return extractor_source(name).has_spatial


def has_texts(name: str) -> bool:
    """Whether `features: name` embeds texts in the space of images."""
    return extractor_source(name).has_texts


def protocol_fields(name: str, dataset: str, options: FeatureOptions = DEFAULT) -> dict[str, Any]:
    """The protocol fields of an extractor: its full name, the hash of its weights, and how images are resized.

    A plug-in's fields include its options and the hash of its code, as both decide its features. Raises DataError for a
    pair of extractor and dataset that does not exist, options that do not apply, and weights that are not there.
    """
    declared, options = extractor_source(name), _checked(name, options)
    fields = {"extractor": short_name(name), "extractor_weights": "none", "resize": "none"}
    with restored(f"features '{short_name(name)}' were described"):
        fields |= declared.protocol(dataset, options)
    if EXTRACTORS.is_built_in(name):
        return fields
    own = {"extractor_options": dict(options.own)} if options.own else {}
    return fields | own | {"extractor_code": plugin_hash(EXTRACTORS, name)}


def load_extractor(
    name: str, dataset: str, device: str | torch.device = "cpu", options: FeatureOptions = DEFAULT
) -> Extractor:
    """The extractor `name` for a dataset, weights verified; raises as `protocol_fields`."""
    declared, options = extractor_source(name), _checked(name, options)
    with restored(f"features '{short_name(name)}' were loaded", name):
        return declared.load(dataset, device, options)


def extract(extractor: Extractor, pixels: Tensor, levels: int, at_once: AtOnce) -> Features:
    """Features of grey levels (N, C, H, W) uint8, in smaller batches where memory does not suffice."""

    def divisible() -> bool:
        whole, parts = (extractor(pixels[:FEW], levels, size).vectors for size in (FEW, 1))
        return np.allclose(whole, parts, rtol=COARSE, atol=COARSE * float(np.abs(whole).max()))

    with restored(f"{type(extractor).__name__} extracted features", again=False):
        found = at_once.run(min(BATCH, len(pixels)), lambda size: extractor(pixels, levels, size), divisible)
    return _checked_features(extractor, found, len(pixels))


def _checked_features(extractor: Extractor, found: Any, n: int) -> Features:
    """What an extractor of the user's may return instead of rows for n images is refused. Raises DataError."""
    name, vectors = type(extractor).__name__, getattr(found, "vectors", None)
    if not isinstance(found, Features) or not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or len(vectors) != n:
        shape = f"vectors of shape {vectors.shape}" if isinstance(vectors, np.ndarray) else type(found).__name__
        raise DataError(f"{name}: returned {shape} for {n} images, allowed: Features with an array ({n}, D)")
    if vectors.dtype.kind != "f" or not np.isfinite(vectors).all():
        raise DataError(f"{name}: returned {vectors.dtype} vectors with NaN or infinity, or no floats, allowed: finite")
    return found


def _checked(name: str, options: FeatureOptions) -> FeatureOptions:
    """The options with the extractor's own ones completed; DataError for options that it would ignore.

    A folder of weights is allowed for every extractor, as other extractors may read it.
    """
    from genbench.suite.options import checked_options  # pydantic, which a plan does without
    from genbench.suite.yaml_source import SuiteSource

    declared = extractor_source(name)
    if "weights" not in declared.reads and options.weights is not None and options.weights.is_file():
        raise DataError(f"features '{name}' read no weights from a file; found {options.weights}")
    for key, value, default in (("resize", options.resize, ""), ("precision", options.precision, "fp32")):
        if key not in declared.reads and value != default:
            raise DataError(f"features '{name}': found {key} '{value}', allowed: none")
    try:
        own = checked_options(declared.options, options.own, source=SuiteSource(), loc=("extraction",), name=name)
    except SuiteError as error:
        raise DataError(str(error)) from None
    return replace(options, own={key: value for key, value in own.items() if key != "name"})
