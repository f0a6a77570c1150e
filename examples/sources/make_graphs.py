"""Writes the artefacts of graphs.yaml: the generator of a small GAN, untrained, exported in three formats.

    python examples/sources/make_graphs.py

A generator of your own is exported in the same way, after training.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


class Generator(nn.Module):
    """Noise (n, 16) to images (n, 1, 8, 8) in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        """Images of latents z."""
        return self.net(z).view(-1, 1, 8, 8)


class ClassGenerator(nn.Module):
    """Noise (n, 16) and classes (n,) to images (n, 1, 8, 8) in [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.net = nn.Embedding(10, 16), nn.Linear(32, 64)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        """Images of latents z and classes."""
        return self.net(torch.cat([z, self.embed(label)], dim=1)).sigmoid().view(-1, 1, 8, 8)


def write_graphs(folder: Path) -> None:
    """generator.pt (TorchScript), generator.pt2 (torch.export), generator.onnx and class_generator.onnx."""
    torch.manual_seed(0)
    plain, conditional = Generator().eval(), ClassGenerator().eval()
    z, label, n = torch.zeros(2, 16), torch.zeros(2, dtype=torch.long), torch.export.Dim("n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises torch.export in place of TorchScript
        torch.jit.script(plain).save(str(folder / "generator.pt"))
        program = torch.export.export(plain, (z,), dynamic_shapes=({0: n},))
        torch.export.save(program, folder / "generator.pt2")
        for name, net, inputs in (("generator", plain, (z,)), ("class_generator", conditional, (z, label))):
            axes = tuple({0: n} for _ in inputs)
            torch.onnx.export(net, inputs, folder / f"{name}.onnx", dynamic_shapes=axes, verbose=False)


if __name__ == "__main__":
    write_graphs(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
