"""The only place where pixels change scale: grey levels, [-1, 1], [0, 1) and bits per dimension.

A dataset with L grey levels stores k in {0, .., L-1} as uint8.

    to_unit_range   x = 2 k / (L - 1) - 1              in [-1, 1]: level 0 at -1, level L-1 at 1, spacing 2 / (L - 1)
    to_pixels       k = floor((x + 1) (L - 1) / 2 + 1/2)   clamped: the nearest level
    dequantise      y = (k + u) / L, u ~ U[0, 1)       in [0, 1): a density of y integrates over a cell of volume L^-D

so log P(k) >= E_u log p(y) - D ln L, with equality when p is constant on each cell (Theis et al. 2016,
section 3.1), and

    bits/dim = -log P(k) / (D ln 2).
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

MAX_LEVELS = 256


def to_unit_range(pixels: Tensor, levels: int) -> Tensor:
    """Grey levels (..., uint8) as float32 in [-1, 1]."""
    return pixels.float().mul(2.0 / (levels - 1)).sub(1.0)


def to_pixels(x: Tensor, levels: int) -> Tensor:
    """Images in [-1, 1] as the nearest grey level, uint8; values outside are clamped, NaN becomes level 0."""
    x = x.float()
    shifted = torch.add(x.new_full((), levels / 2), x, alpha=(levels - 1) / 2)  # k + 1/2: truncation rounds it
    return shifted.clamp_(0.5, levels - 0.5).nan_to_num_(nan=0.5).to(torch.uint8)


def dequantise(pixels: Tensor, levels: int, gen: Generator | None = None) -> Tensor:
    """(pixels + u) / levels in [0, 1), float32; u is uniform noise from gen (None: a generator seeded with 0)."""
    gen = seeded(0, pixels.device) if gen is None else gen
    u = torch.rand(pixels.shape, generator=gen, device=gen.device).to(pixels.device)
    y = (pixels.float() + u) / levels
    return y.clamp_max(torch.nextafter(y.new_ones(()), y.new_zeros(())))


def density_to_mass(log_density: Tensor, dims: int, levels: int) -> Tensor:
    """Log p(y) of the dequantised image in nats (B,) as log mass of its cell: minus dims * ln(levels)."""
    return log_density - dims * math.log(levels)


def bits_per_dim(log_prob: Tensor, dims: int) -> Tensor:
    """-log P / (dims ln 2) of discrete log-probabilities in nats (B,), float64."""
    return -log_prob.double() / (dims * math.log(2.0))


def seeded(seed: int, device: torch.device | str = "cpu") -> Generator:
    """A fresh generator on the device."""
    return Generator(device=device).manual_seed(seed)


def to_device(x: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on the device, itself if it is there; a copy from the CPU to a GPU does not wait for queued kernels.

    On MPS it waits, because an asynchronous copy could read x after it is freed.
    """
    device = torch.device(device)
    if x.device.type != "cpu" or device.type in ("cpu", "mps"):
        return x.to(device)
    return (x.pin_memory() if device.type == "cuda" else x).to(device, non_blocking=True)
