"""Convolutions with few input or output channels, which a CPU computes faster as one matrix product.

A CPU's convolution takes as long for one channel as for 16, forwards for the output channels and backwards for the
input channels. A KxK convolution from I to O channels is also

    for I <= O    the product of a matrix (O, I K K) with the KxK neighbourhood of every pixel (Chellapilla et al. 2006)
    for I > O     the product of a matrix (O K K, I) with every pixel, of which each of the K K parts is then added to
                  one of the pixels around (a transposed convolution does this, with the kernel reversed)

so that the K K copies are made of the fewer channels. Shapes: B images, H height, W width, K odd.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

FEW = 8  # channels


def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.conv2d with padding that preserves the sides: x (B, I, H, W), weight (O, I, K, K) to (B, O, H, W)."""
    outputs, inputs, kernel, _ = weight.shape
    if x.device.type != "cpu" or (kernel > 1 and min(inputs, outputs) > FEW):
        return F.conv2d(x, weight, bias, padding=kernel // 2)
    if kernel == 1:
        return as_images(F.linear(as_rows(x), weight.flatten(1), bias), x)
    if inputs <= outputs:
        neighbourhoods = F.unfold(x, kernel, padding=kernel // 2).transpose(1, 2).contiguous()
        return as_images(F.linear(neighbourhoods, weight.flatten(1), bias), x)
    reversed_kernel = weight.flip(2, 3).permute(0, 2, 3, 1).flatten(0, 2)
    parts = F.linear(as_rows(x), reversed_kernel).transpose(1, 2)
    y = F.fold(parts, x.shape[2:], kernel, padding=kernel // 2).contiguous(memory_format=torch.channels_last)
    return y if bias is None else y + bias[:, None, None]


def as_rows(x: Tensor) -> Tensor:
    """Images (B, C, H, W) as a row of channels for each pixel, (B, H W, C); no copy in channels_last."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def as_images(rows: Tensor, like: Tensor) -> Tensor:
    """Rows (B, H W, C) as images (B, C, H, W) of the size of `like`, in channels_last."""
    return rows.unflatten(1, like.shape[2:]).permute(0, 3, 1, 2)
