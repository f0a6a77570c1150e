"""What a feature extractor is: a frozen map from pixels to vectors, named by the hash of its weights.

An extractor of your own is an `ExtractorSource`, in a file that a suite names or offered by an installed package:

    class Means(Extractor):
        name, weights_hash = "means", "none"

        def __call__(self, pixels, levels, batch=500):
            return Features((pixels.float() / (levels - 1)).mean((2, 3)).cpu().numpy())

    MEANS = ExtractorSource("mean of each channel", load=lambda dataset, device, options: Means())
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench.options import NoOptions


@dataclass(frozen=True)
class FeatureOptions:
    """How an extractor is found and run; the shipped classifiers and pixels have no options.

    weights: a folder in which the file is looked for by its published name and checked by its SHA-256, or one file,
        which is used whatever its hash; None: $GENBENCH_WEIGHTS, which may be either, then the caches.
    resize: a policy of genbench.features.resize; "" is the extractor's default.
    precision: "fp32", or "bf16" for the network.
    download: a file that is not on this machine may be downloaded.
    own: further options, which the extractor's source declares.
    """

    weights: Path | None = None
    resize: str = ""
    precision: str = "fp32"
    download: bool = False
    own: Mapping[str, Any] = field(default_factory=dict)


DEFAULT = FeatureOptions()


@dataclass(frozen=True, eq=False)
class Features:
    """Features of N images: vectors (N, D) float32; probabilities (N, K) float32, or None without a classifier.

    spatial: (N, S) float32, features that keep their position in the image; None when there are none.
    """

    vectors: np.ndarray
    probabilities: np.ndarray | None = None
    spatial: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class TextFeatures:
    """Features of P texts: vectors (P, D) float32; cut: how many texts were longer than the network reads."""

    vectors: np.ndarray
    cut: int = 0


class Extractor(ABC):
    """Computes features.

    name: as in a record's protocol. weights_hash: SHA-256 (hex) of the weights' file, "none" without weights.
    """

    name: str
    weights_hash: str

    @abstractmethod
    def __call__(self, pixels: Tensor, levels: int, batch: int = 500) -> Features:
        """Features of grey-level indices (N, C, H, W) uint8 in 0 .. levels-1, computed at most batch images at a time.

        Memory beyond the features themselves does not grow with N; callers with more images than memory send parts.
        """

    def texts(self, texts: Sequence[str]) -> TextFeatures:
        """Features of texts, in the space of those of images; of extractors with ExtractorSource.has_texts."""
        raise NotImplementedError


def no_protocol(dataset: str, options: FeatureOptions) -> dict[str, Any]:
    """The protocol of an extractor that has neither weights nor resizing."""
    return {}


@dataclass(frozen=True)
class ExtractorSource:
    """How an extractor is loaded and described.

    about: one line for `genbench ls features`.
    load(dataset, device, options): the Extractor. dataset: the name of the dataset that the images come from.
    protocol(dataset, options): fields for the protocol of every record, computed without loading. A plug-in's have
        defaults: `extractor` is its name, `extractor_weights` and `resize` are "none".
    has_probabilities, has_spatial: what its Features contain beside vectors. has_texts: whether it embeds texts too.
    options: a frozen dataclass with bounds in annotations, whose values arrive in FeatureOptions.own; a suite sets them
        under `extraction:`.
    reads: which of the common options "weights", "resize" and "precision" it uses; the others are refused.
    Both functions raise DataError for a dataset, options or weights that do not exist.
    """

    about: str
    load: Callable[[str, str | torch.device, FeatureOptions], Extractor]
    protocol: Callable[[str, FeatureOptions], dict[str, Any]] = no_protocol
    has_probabilities: bool = False
    has_spatial: bool = False
    has_texts: bool = False
    options: type = NoOptions
    reads: tuple[str, ...] = ()
