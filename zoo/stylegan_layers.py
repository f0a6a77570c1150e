"""Layers of StyleGAN without mathematics of their own: equalised learning rates, filtered resampling, activation.

Papers: P, Karras, Aila, Laine and Lehtinen 2018 (arXiv:1710.10196), equalised learning rates; B, Karras et al. 2020
(arXiv:1912.04958), whose filters and activation these are.

Shapes: B images, C, I, O channels, H height, W width, k kernel.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BINOMIAL = torch.tensor([[1.0, 3.0, 3.0, 1.0]]) * torch.tensor([[1.0], [3.0], [3.0], [1.0]]) / 64
Way = Literal["same", "up", "down"]


def activate(x: Tensor) -> Tensor:
    """sqrt(2) LeakyReLU(x), slope 0.2: about the size of x comes out."""
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def blur(x: Tensor, *, gain: float = 1.0, stride: int = 1, padding: int = 1) -> Tensor:
    """Each map filtered with [1, 3, 3, 1] / 8 both ways; size n becomes (n + 2 padding - 3) / stride."""
    kernel = gain * BINOMIAL.to(x).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    """Twice as high and wide: zeros in between, then the filter, whose gain of 4 makes up for them."""
    kernel = 4 * BINOMIAL.to(x).expand(x.shape[1], 1, 4, 4)
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


def conv(x: Tensor, weight: Tensor, way: Way = "same") -> Tensor:
    """Convolution with a kernel (O, I, k, k) that keeps the size or, if 3x3, doubles it (then blurs) or halves it."""
    if way == "up":
        return blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), gain=4.0)
    if way == "down":
        return F.conv2d(blur(x, padding=2), weight, stride=2)
    return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


class EqualLinear(nn.Module):
    """Linear layer whose weights are stored as N(0, 1) / rate and used times rate / sqrt(inputs).

    Adam moves all stored weights at the same speed, so layers learn equally fast (P, section 4.1), this one `rate`
    times as fast as the others. start: of the biases.
    """

    def __init__(self, inputs: int, outputs: int, rate: float = 1.0, start: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), start / rate))
        self.gain, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        return F.linear(x, self.gain * self.weight, self.rate * self.bias)


class EqualConv(nn.Module):
    """Convolution with weights stored and used as EqualLinear's; `way` as in conv."""

    def __init__(self, inputs: int, outputs: int, kernel: int, way: Way = "same", *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1)) if bias else 0.0
        self.gain, self.way = 1 / math.sqrt(inputs * kernel**2), way

    def forward(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W) or another size, whatever the style w."""
        return conv(x, self.gain * self.weight, self.way) + self.bias
