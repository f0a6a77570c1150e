"""Pixels as the pretrained networks read them: 256 levels and a fixed size.

Both policies are separable and linear, out = A x B', so each is a pair of matrices, computed once for each image size.

    tf1-bilinear   two-tap bilinear, output pixel i at i * in / out, without antialiasing: TensorFlow 1's resizing,
                   with which published FIDs were computed (equal to torch-fidelity's up to rounding)
    clean          antialiased bicubic (a = -1/2) in floating point, clamped to 0..255: Pillow's filter, as clean-fid
                   applies it (Parmar et al. 2022)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from genbench.space import to_device

TF1, CLEAN = "tf1-bilinear", "clean"
ABOUT = {
    TF1: "tf1-bilinear: as TensorFlow 1 does, not antialiased",
    CLEAN: "clean: antialiased bicubic in floating point, as Pillow and clean-fid do",
}
POLICIES = tuple(ABOUT)


def to_bytes(pixels: Tensor, levels: int) -> Tensor:
    """Grey level k of L as round(255 k / (L - 1)), halves upwards; uint8 both, any shape."""
    if levels == 256:
        return pixels
    table = torch.tensor([(510 * k + levels - 1) // (2 * (levels - 1)) for k in range(levels)], dtype=torch.uint8)
    return to_device(table, pixels.device)[pixels.long()]


def resize(x: Tensor, size: int, policy: str) -> Tensor:
    """Images (B, C, H, W), float in 0..255, at size x size."""
    rows, columns = (to_device(resizing_matrix(side, size, policy), x.device) for side in x.shape[2:])
    resized = rows @ (x @ columns.T)
    return resized.clamp_(0, 255) if policy == CLEAN else resized


@lru_cache(maxsize=16)
def resizing_matrix(source: int, target: int, policy: str) -> Tensor:
    """The weights (target, source) float32 of each source pixel in each target pixel; rows add up to 1."""
    return _MATRICES[policy](source, target)


def bilinear(source: int, target: int) -> Tensor:
    """Weights of "tf1-bilinear", positions in float32 as in the original."""
    position = torch.arange(target, dtype=torch.float32) * torch.tensor(source / target, dtype=torch.float32)
    low = position.long()
    share = (position - low)[:, None]
    weights = torch.zeros(target, source).scatter_add_(1, low[:, None], 1 - share)
    return weights.scatter_add_(1, (low[:, None] + 1).clamp_max(source - 1), share)


def bicubic(source: int, target: int) -> Tensor:
    """Weights of "clean": the cubic stretched by the ratio of sizes when shrinking, cut at the border, normalised."""
    scale = source / target
    centres = (torch.arange(target, dtype=torch.float64)[:, None] + 0.5) * scale
    distance = (torch.arange(source, dtype=torch.float64) + 0.5 - centres).abs() / max(scale, 1.0)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    return (weights / weights.sum(1, keepdim=True)).float()


_MATRICES: dict[str, Callable[[int, int], Tensor]] = {TF1: bilinear, CLEAN: bicubic}
