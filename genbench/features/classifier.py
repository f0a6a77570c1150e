"""The shipped classifiers: small convolutional networks whose penultimate layer is the feature space of one dataset.

A network is blocks of 3x3 convolutions with ReLU, a 2x2 maximum between blocks, the mean over positions (the features,
(B, D), not negative) and a linear layer (the logits). Input is k / (levels - 1) in [0, 1], so that the zero padding
continues the background. Batch normalisation is folded into the convolutions, so that there is no training mode.

`tools/train_classifier.py` made the weights, from the train split alone. Their numbers are comparable with each other
and never with Inception's.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from genbench.errors import DataError
from genbench.features.base import Extractor, Features
from genbench.progress import alive
from genbench.space import to_device

WEIGHTS = Path(__file__).parent / "weights"
SPATIAL_CHANNELS = 8  # of the last convolution: 8 * 4 * 4 numbers for digits, 8 * 7 * 7 for fashion-mnist


class ConvNet(nn.Module):
    """Images (B, channels, H, W) in [0, 1] to features and logits; blocks: output channels of each convolution."""

    def __init__(self, channels: int, blocks: tuple[tuple[int, ...], ...], classes: int) -> None:
        super().__init__()
        widths = [channels, *(width for block in blocks for width in block)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths))
        self.head = nn.Linear(widths[-1], classes)
        ends = [sum(len(block) for block in blocks[: i + 1]) for i in range(len(blocks) - 1)]
        self.pooled = frozenset(ends)  # numbers of the convolutions that a 2x2 maximum precedes

    def maps(self, x: Tensor) -> Tensor:
        """The last convolution after ReLU: (B, D, h, w)."""
        for number, conv in enumerate(self.convs):
            x = F.max_pool2d(x, 2) if number in self.pooled else x
            x = F.relu(conv(x))
        return x

    def features(self, x: Tensor) -> Tensor:
        """Mean over positions of the last convolution: (B, D)."""
        return self.maps(x).mean((2, 3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, D) and logits (B, classes)."""
        features = self.features(x)
        return features, self.head(features)


class ClassifierExtractor(Extractor):
    """Features and class probabilities of a shipped classifier, in float32 whatever the trainer's precision.

    spatial: the first SPATIAL_CHANNELS channels of the last convolution, before the mean over positions.
    """

    def __init__(self, name: str, device: str | torch.device = "cpu") -> None:
        """Loads the weights by name. Raises DataError when the file is missing or its hash is not the listed one."""
        listed = index()[name]
        self.name = name
        self.weights_hash = listed["sha256"]
        self.dims = listed["dims"]
        self.shape = tuple(listed["shape"])
        self.device = torch.device(device)
        blocks = tuple(tuple(block) for block in listed["blocks"])
        self.net = ConvNet(self.shape[0], blocks, listed["classes"])
        self.net.load_state_dict(load_safetensors(checked_bytes(WEIGHTS / listed["file"], listed["sha256"])))
        self.net.to(self.device).eval().requires_grad_(False)

    @torch.inference_mode()
    def __call__(self, pixels: Tensor, levels: int, batch: int = 500) -> Features:
        """Features, probabilities and spatial features; DataError for images of another shape than the network's."""
        if tuple(pixels.shape[1:]) != self.shape:
            raise DataError(f"{self.name}: images of shape {tuple(pixels.shape[1:])}, allowed: {self.shape}")
        parts = [self._part(part, levels) for part in pixels.split(batch)]
        return Features(*(torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True)))

    def _part(self, pixels: Tensor, levels: int) -> tuple[Tensor, Tensor, Tensor]:
        alive()
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)  # as on the CPU
        with exact, torch.autocast(self.device.type, enabled=False):
            maps = self.net.maps(to_device(pixels, self.device).float() / (levels - 1))
            features = maps.mean((2, 3))
            return features, self.net.head(features).softmax(1), maps[:, :SPATIAL_CHANNELS].flatten(1)


@cache
def index() -> dict[str, dict[str, Any]]:
    """What weights/index.json lists, by extractor name."""
    return json.loads((WEIGHTS / "index.json").read_text(encoding="utf-8"))


def checked_bytes(path: Path, expected: str) -> bytes:
    """The file's content, once its SHA-256 (hex) is the expected one; DataError otherwise."""
    if not path.is_file():
        raise DataError(f"{path}: weights not found; the package is incomplete, install it again")
    content = path.read_bytes()
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise DataError(f"{path}: found weights of SHA-256 {actual}, allowed: {expected}")
    return content
