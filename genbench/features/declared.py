"""The extractors that genbench ships, as the registry loads them; genbench.builtin has their names."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from genbench.builtin import EXTRACTOR_TABLE, TorchScriptOptions
from genbench.errors import DataError
from genbench.features import clip, pretrained, torchscript
from genbench.features.base import Extractor, ExtractorSource, FeatureOptions, Features
from genbench.features.classifier import ClassifierExtractor, index

PRETRAINED_READS = ("weights", "resize", "precision")


class Pixels(Extractor):
    """Raw pixels k / (levels - 1) in [0, 1], flattened: (N, C * H * W); no probabilities."""

    name = "pixels"
    weights_hash = "none"

    def __call__(self, pixels: Tensor, levels: int, batch: int = 500) -> Features:
        """Features of grey-level indices (N, C, H, W)."""
        return Features((pixels.flatten(1).float() / (levels - 1)).cpu().numpy())


def _load_pixels(dataset: str, device: str | torch.device, options: FeatureOptions) -> Extractor:
    return Pixels()


def _load_classifier(dataset: str, device: str | torch.device, options: FeatureOptions) -> Extractor:
    return ClassifierExtractor(shipped_classifier(dataset), device)


def _classifier_protocol(dataset: str, options: FeatureOptions) -> dict[str, Any]:
    name = shipped_classifier(dataset)
    return {"extractor": name, "extractor_weights": index()[name]["sha256"], "resize": "none"}


def shipped_classifier(dataset: str) -> str:
    """The name of the classifier that is shipped for a dataset, e.g. "digits-classifier"; DataError without one."""
    name = f"{dataset}-classifier"
    if name not in index():
        served = ", ".join(listed["dataset"] for listed in index().values())
        other = "`features: pixels` works with every dataset"
        raise DataError(f"features 'classifier': found dataset '{dataset}', allowed: {served}; {other}")
    return name


def _pretrained(name: str) -> ExtractorSource:
    def load(dataset: str, device: str | torch.device, options: FeatureOptions) -> Extractor:
        return pretrained.Pretrained(name, device, options)

    about, classifies = EXTRACTOR_TABLE[name].about, name == "inception-v3-compat"
    return ExtractorSource(
        about, load, partial(_pretrained_protocol, name), has_probabilities=classifies, has_spatial=classifies,
        reads=PRETRAINED_READS,
    )  # fmt: skip


def _pretrained_protocol(name: str, dataset: str, options: FeatureOptions) -> dict[str, Any]:
    return pretrained.protocol_fields(name, options)


CLASSIFIER_SOURCE = ExtractorSource(
    EXTRACTOR_TABLE["classifier"].about, _load_classifier, _classifier_protocol,
    has_probabilities=True, has_spatial=True,
)  # fmt: skip
PIXELS_SOURCE = ExtractorSource(EXTRACTOR_TABLE["pixels"].about, _load_pixels)
TORCHSCRIPT_SOURCE = ExtractorSource(
    EXTRACTOR_TABLE["torchscript"].about, torchscript.TorchScriptExtractor, torchscript.protocol_fields,
    options=TorchScriptOptions, reads=("weights", "resize"),
)  # fmt: skip
CLIP_SOURCE = ExtractorSource(
    EXTRACTOR_TABLE["clip"].about, clip.ClipExtractor, clip.protocol_fields, has_texts=True, reads=("weights",)
)  # fmt: skip
PRETRAINED_SOURCES = {name: _pretrained(name) for name in pretrained.PRETRAINED_NETWORKS}
