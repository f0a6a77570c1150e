"""What a feature extractor is: a frozen map from pixels to vectors, named by the hash of its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor


@dataclass(frozen=True)
class FeatureOptions:
    """How a pretrained extractor is found and run; the shipped classifiers and pixels have nothing to choose.

    weights: a folder in which the file is looked for by its published name and checked by its SHA-256, or one file,
        taken whatever its hash; None: $GENBENCH_WEIGHTS, which may be either, then the caches.
    resize: a policy of genbench.features.resize; "" is the extractor's default.
    precision: "fp32", or "bf16" for the network.
    download: a file that is nowhere may be fetched from its source.
    """

    weights: Path | None = None
    resize: str = ""
    precision: str = "fp32"
    download: bool = False


DEFAULT = FeatureOptions()


@dataclass(frozen=True, eq=False)
class Features:
    """vectors (N, D) float32; probabilities (N, K) float32, or None where the extractor is no classifier.

    spatial: (N, S) float32, features that still know where in the image they were; None where there are none.
    """

    vectors: np.ndarray
    probabilities: np.ndarray | None = None
    spatial: np.ndarray | None = None


class Extractor(ABC):
    """name: as in a record's protocol. weights_hash: SHA-256 (hex) of the weights' file, "none" without weights."""

    name: str
    weights_hash: str

    @abstractmethod
    def __call__(self, pixels: Tensor, levels: int, batch: int = 500) -> Features:
        """Features of grey-level indices (N, C, H, W) uint8 in 0 .. levels-1, computed at most batch images at a time.

        Memory beyond the features themselves does not grow with N; callers with more images than memory send parts.
        """
