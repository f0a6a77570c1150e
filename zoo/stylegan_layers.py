"""Basic layers of StyleGAN: equalised learning rates, filtered resampling, convolutions with a style, activation.

Papers: A, Karras, Laine and Aila 2019 (arXiv:1812.04948), normalisation with a style; P, Karras, Aila, Laine and
Lehtinen 2018 (arXiv:1710.10196), equalised learning rates; B, Karras et al. 2020 (arXiv:1912.04958), modulated
convolutions, filters and activation.

Shapes: B images, C, I, O channels, H height, W width, k kernel.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-8
Way = Literal["same", "up", "down"]


def activate(x: Tensor) -> Tensor:
    """sqrt(2) LeakyReLU(x), slope 0.2, which approximately preserves the mean square of x."""
    return F.leaky_relu(x, 0.2).mul_(math.sqrt(2))


def binomial(x: Tensor) -> Tensor:
    """The filter [1, 3, 3, 1] / 8 in both directions: (4, 4) on the device of x.

    Computed there, because copying a constant to a GPU would wait for it.
    """
    row = 4 - 2 * (torch.arange(4, dtype=x.dtype, device=x.device) - 1.5).abs()
    return row[:, None] * row / 64


def blur(x: Tensor, *, gain: float = 1.0, stride: int = 1, padding: int = 1) -> Tensor:
    """Filters each map with [1, 3, 3, 1] / 8 in both directions; size n becomes (n + 2 padding - 3) / stride."""
    kernel = gain * binomial(x).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, stride=stride, padding=padding, groups=x.shape[1])


def upsample(x: Tensor) -> Tensor:
    """Doubles height and width by inserting zeros and filtering with gain 4, which preserves the mean."""
    kernel = 4 * binomial(x).expand(x.shape[1], 1, 4, 4)
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])


def conv(x: Tensor, weight: Tensor, way: Way = "same") -> Tensor:
    """Convolution with a kernel (O, I, k, k) that preserves, doubles ("up") or halves ("down") the size; the last two
    need k = 3 and blur.
    """
    if way == "up":
        return blur(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), gain=4.0)
    if way == "down":
        return F.conv2d(blur(x, padding=2), weight, stride=2)
    return F.conv2d(x, weight, padding=weight.shape[-1] // 2)


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, way: Way = "same", *, demodulate: bool = True) -> Tensor:
    """Convolves x (B, I, H, W) with kernels w'' that differ between images: (B, O, H, W), or the size for `way`.

    weight: (O, I, k, k). style s: (B, I). w'_oik = s_i w_oik (B, eq. 1), w'' = w' / sqrt(sum_ik w'^2 + 1e-8) (eq. 3),
    or w'' = w' without demodulation. As convolution is linear, s multiplies x and 1 / sqrt multiplies the result.
    """
    y = conv(x * style[:, :, None, None], weight, way)
    if not demodulate:
        return y
    energy = style.square() @ weight.square().sum((2, 3)).T  # sum_ik w'_oik^2: (B, O)
    return y * (energy + EPSILON).rsqrt()[:, :, None, None]


def adain(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """y_s (x - mean(x)) / std(x) + y_b, moments per map of x (B, C, H, W); scale y_s, shift y_b (B, C) (A, eq. 1)."""
    centred = x - x.mean((2, 3), keepdim=True)
    size = (centred.square().mean((2, 3), keepdim=True) + EPSILON).rsqrt()
    return centred * (size * scale[:, :, None, None]) + shift[:, :, None, None]


class EqualLinear(nn.Module):
    """Linear layer whose weights are initialised from N(0, 1) / rate and multiplied by rate / sqrt(inputs) when used.

    Adam's updates of all stored weights have about the same size, so all layers learn equally fast (P, section 4.1);
    this layer learns `rate` times as fast. start: initial value of the biases.
    """

    def __init__(self, inputs: int, outputs: int, rate: float = 1.0, start: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / rate)
        self.bias = nn.Parameter(torch.full((outputs,), start / rate))
        self.gain, self.rate = rate / math.sqrt(inputs), rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) to (B, outputs)."""
        return F.linear(x, self.gain * self.weight, self.bias if self.rate == 1 else self.rate * self.bias)


class EqualConv(nn.Module):
    """Convolution with weights initialised and scaled as in EqualLinear; `way` as in conv()."""

    def __init__(self, inputs: int, outputs: int, kernel: int, way: Way = "same", *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs, 1, 1)) if bias else None
        self.gain, self.way = 1 / math.sqrt(inputs * kernel**2), way

    def forward(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W), or the size for `way`; the style w is ignored."""
        y = conv(x, self.gain * self.weight, self.way)
        return y if self.bias is None else y + self.bias
