"""Weights files without a network: the published networks with random weights that keep the signal's variance.

PyTorch's own initialisation will not do: it lets an Inception's features collapse to a point.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn


def fill(net: nn.Module, seed: int) -> dict[str, Tensor]:
    """The state dict of net: He weights; batch norms, biases and the rest random too, so that each of them matters."""
    gen = torch.Generator().manual_seed(seed)
    state = net.state_dict()
    for name, tensor in state.items():
        if tensor.ndim > 1:
            tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=gen)
        elif name.endswith(("bn.weight", "running_var", "gamma")):
            tensor.uniform_(0.6, 1.4, generator=gen)
        elif tensor.is_floating_point():
            tensor.normal_(0, 0.1, generator=gen)
    return state


def write_inception(path: Path, seed: int = 0) -> Path:
    """A random inception-v3-compat as torch-fidelity's file has it."""
    from genbench.features.inception import Inception

    torch.save(fill(Inception(), seed), path)
    return path


def write_vgg16(path: Path, seed: int = 0) -> Path:
    """A random VGG16 as torchvision's file has it."""
    from torchvision.models import vgg16

    torch.save(fill(vgg16(init_weights=False), seed), path)
    return path


def write_clip(path: Path, seed: int = 0, width: int = 64, layers: int = 2, patch: int = 32, out: int = 24) -> Path:
    """A random CLIP vision transformer for 224x224, with the one tensor of the text side that is read."""
    from torch_fidelity.feature_extractor_clip import CLIPVisual

    state = fill(CLIPVisual(out, 224, layers, width, patch), seed)
    torch.save(state | {"text_projection": torch.zeros(8, out)}, path)
    return path


def blots(n: int, seed: int, channels: int = 3, cells: int = 4, side: int = 32) -> Tensor:
    """Images (n, channels, side, side) uint8 of a few blurred blots, so that random features tell them apart."""
    gen = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, channels, cells, cells, generator=gen) * torch.rand(n, 1, 1, 1, generator=gen)
    return (255 * nn.functional.interpolate(coarse, size=(side, side), mode="bilinear")).to(torch.uint8)
