"""What a feature extractor is: a frozen map from pixels to vectors, named by the hash of its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Features:
    """vectors (N, D) float32; probabilities (N, K) float32, or None where the extractor is no classifier."""

    vectors: np.ndarray
    probabilities: np.ndarray | None = None


class Extractor(ABC):
    """name: as in a record's protocol. weights_hash: SHA-256 (hex) of the weights' file, "none" without weights."""

    name: str
    weights_hash: str

    @abstractmethod
    def __call__(self, pixels: Tensor, levels: int, batch: int = 500) -> Features:
        """Features of grey-level indices (N, C, H, W) uint8 in 0 .. levels-1, computed batch images at a time."""
