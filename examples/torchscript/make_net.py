"""Writes net.pt: a small network as TorchScript, which suite.yaml beside it uses as feature extractor.

    python examples/torchscript/make_net.py
    genbench run examples/torchscript/suite.yaml

Put a trained network of yours in the place of this one, whose weights are random. It receives (B, C, H, W) float32,
scaled and resized as the suite says, and returns one vector an image, (B, D).
"""

from pathlib import Path

import torch
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
)  # fmt: skip
torch.jit.script(net.eval()).save(Path(__file__).parent / "net.pt")
