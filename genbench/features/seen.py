"""The outputs of a feature network for a batch of images."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Seen(NamedTuple):
    """vectors (B, D); logits (B, K) and spatial (B, S) where the network has them."""

    vectors: Tensor
    logits: Tensor | None = None
    spatial: Tensor | None = None
