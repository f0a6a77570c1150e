"""RealNVP (Dinh, Sohl-Dickstein and Bengio, "Density estimation using Real NVP", ICLR 2017, arXiv:1605.08803).

Implemented: affine couplings with checkerboard and channel masks, squeezing, the multi-scale architecture that factors
out half of the dimensions at every scale, residual networks for s and t with weight normalisation and a learned scale
on tanh(s), batch normalisation as a layer of the flow, and the logit transform of dequantised pixels. The density of
the dequantised pixels is exact.

Deviations
- Before the first coupling, one shift and scale per pixel standardise the pixels. They are set from the first batch and
  then learned (digits: 2.006 bits/dim with them, 2.012 without).
- The networks of s and t have no batch normalisation inside, so the density never depends on the batch. They add a
  learned bias per position to their first layer, because the border of an image differs from its middle (digits: 2.02
  bits/dim with it, 2.04 without).
- Batch normalisation in the flow has statistics per pixel and channel, of the batch in training and running averages
  otherwise; the paper also uses running averages in training (appendix E).
- The last layer of the networks starts at zero, so an untrained flow is a Gaussian in standardised logit space.
- The constraint before the logit is symmetric, 0.05 + 0.9 y, as in the released code; section 4.1 has 0.05 + 0.95 y.
- Squeezing orders the four pixels of a 2x2 block by its two diagonals, so both a channel mask and the factoring out
  select one diagonal; the released code has a different order for each.
- Every network of a coupling has the same width, config.channels. The released code doubles the width at each scale and
  again in channel couplings (18.97 M parameters for CIFAR-10, here 6.36 M with 64 channels). Its networks receive x, -x
  and the mask, sum skips by 1x1 convolutions, end in a 1x1 convolution and have weight normalisation in all layers,
  here only in the residual blocks. There one number scales tanh, 0 or 1 at first; here one a channel, at first 1.
- Batch normalisation in the flow is of all dimensions, in the released code of those that the coupling changes.
- No weight decay on the weight-norm magnitudes, no horizontal flips. The presets are small networks without batch
  normalisation, trained in batches of 32 with larger steps that decay to 0 (paper: 1e-3 and 64), clipped gradients and
  averaged weights; suites/cifar10.yaml has the paper's settings.

Symbols
    paper        here                   shape
    x            y                      (B, C, H, W), dequantised pixels in [0, 1)
    b            mask                   (1, C, H, W) or what broadcasts to it; 1 = kept
    s, t         log_s, t               (B, C, H, W), 0 where kept
    f            flow.forward           (B, C, H, W) -> (B, D)
    h^(i)        h                      the remaining dimensions after i scales
    z^(i), z     z, latents             (B, D), D = C H W
    log |det|    log_det                (B,), nats
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from torch import Generator, Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from genbench.contract import (
    Batch,
    Count,
    DataSpec,
    Recipe,
    mean_across_processes,
)
from genbench.errors import ModelError
from genbench.space import dequantise
from zoo.flows import PixelFlow
from zoo.nets import affordable, halvings

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class RealNVPConfig:
    """Sizes and constants; the defaults are the paper's for CIFAR-10.

    scales: resolutions; all but the last squeeze and factor out half of their dimensions. couplings: per kind of mask
    at one scale. final: couplings of the last scale, with checkerboard masks only. channels: features of the residual
    networks. blocks: their residual blocks. batch_norm: after every coupling. constraint: width of the interval around
    1/2 to which pixels are scaled before the logit.
    """

    scales: Count = 2
    couplings: Annotated[int, Ge(2)] = 3
    final: Annotated[int, Ge(2)] = 4
    channels: Count = 64
    blocks: Annotated[int, Ge(0)] = 8
    batch_norm: bool = True
    constraint: Annotated[float, Gt(0), Lt(1)] = 0.9


@dataclass(frozen=True)
class RealNVPSampler:
    """temperature: standard deviation of the latents; 1 samples the distribution whose likelihood is measured."""

    temperature: Annotated[float, Gt(0)] = 1.0


# ---- layers -----------------------------------------------------------------------------------------------------


class Layer(nn.Module):
    """A bijection of images. forward(x) -> (z, log_det); inverse(z) -> (x, log_det of the inverse), log_det (B,)."""

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The x that forward maps to z, and the inverse's log-determinant, minus that of forward at x."""
        raise NotImplementedError


class Logit(Layer):
    """z = logit(p), p = (1 - c) / 2 + c y, with y in [0, 1): z is finite for every pixel (section 4.1).

    dz/dy = c / (p (1 - p)), so log dz/dy = log c + softplus(z) + softplus(-z).
    """

    def __init__(self, constraint: float) -> None:
        super().__init__()
        self.constraint = constraint

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Logits z of pixels y, and log_det (B,)."""
        p = (1 - self.constraint) / 2 + self.constraint * y
        z = p.log() - (-p).log1p()
        return z, self.log_derivative(z)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns x and the inverse's log_det (B,) of z."""
        return (z.sigmoid() - (1 - self.constraint) / 2) / self.constraint, -self.log_derivative(z)

    def log_derivative(self, z: Tensor) -> Tensor:
        """Sum over the image of log dz/dy: (B,)."""
        return (F.softplus(z) + F.softplus(-z) + math.log(self.constraint)).flatten(1).sum(1)


class Standardise(Layer):
    """z = (x - shift) exp(-log_scale), one learned shift and scale per pixel and channel."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, *shape))
        self.log_scale = nn.Parameter(torch.zeros(1, *shape))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Sets shift and scale so that every pixel of x has mean 0 and standard deviation 1."""
        self.shift.copy_(x.mean(0, keepdim=True))
        self.log_scale.copy_(x.std(0, keepdim=True, unbiased=False).clamp_min(1e-2).log())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns z and log_det (B,) of x."""
        return (x - self.shift) * (-self.log_scale).exp(), -self.log_scale.sum().expand(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns x and the inverse's log_det (B,) of z."""
        return z * self.log_scale.exp() + self.shift, self.log_scale.sum().expand(z.shape[0])


class BatchNorm(Layer):
    """z = (x - mean) / sqrt(var + eps), so log_det = -1/2 sum log(var + eps) (section 3.7).

    Mean and variance are the batch's while training, running averages in eval mode and in inverse().
    """

    mean: Tensor
    var: Tensor

    def __init__(self, shape: Shape, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.register_buffer("mean", torch.zeros(1, *shape))
        self.register_buffer("var", torch.ones(1, *shape))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns z and log_det (B,) of x."""
        mean, var = self.statistics(x) if self.training else (self.mean, self.var)
        return (x - mean) * (var + self.eps).rsqrt(), -0.5 * (var + self.eps).log().sum().expand(len(x))

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns x and the inverse's log_det (B,) of z."""
        var = self.var + self.eps
        return z * var.sqrt() + self.mean, 0.5 * var.log().sum().expand(z.shape[0])

    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The batch's mean and variance; also updates the running averages."""
        own = x.mean(0, keepdim=True)
        mean = mean_across_processes(own)
        var = mean_across_processes(x.var(0, keepdim=True, unbiased=False) + (own - mean).square())
        self.mean.lerp_(mean.detach(), self.momentum)
        self.var.lerp_(var.detach(), self.momentum)
        return mean, var


class AffineCoupling(Layer):
    """Scales and shifts half of the dimensions by functions of the other half (eq. 9; log-determinant: below eq. 6)."""

    mask: Tensor

    def __init__(self, mask: Tensor, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.register_buffer("mask", mask)
        self.network = network
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns z and log_det (B,) of x."""
        log_s, t = self.scale_and_shift(x)
        return x * log_s.exp() + t, log_s.flatten(1).sum(1)

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns x and the inverse's log_det (B,) of z."""
        log_s, t = self.scale_and_shift(z)
        return (z - t) * (-log_s).exp(), -log_s.flatten(1).sum(1)

    def scale_and_shift(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log_s = scale tanh(.) and t as functions of the kept half of x; both are 0 on the kept half."""
        raw, t = self.network(self.mask * x).to(x.dtype).chunk(2, dim=1)
        return (1 - self.mask) * self.scale * raw.tanh(), (1 - self.mask) * t


class Squeeze(Layer):
    """(B, C, H, W) to (B, 4C, H/2, W/2): every 2x2 block becomes four channels, the main diagonal first."""

    CORNERS = ((0, 0), (1, 1), (0, 1), (1, 0))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns z and log_det (B,) of x."""
        return torch.cat([x[:, :, i::2, j::2] for i, j in self.CORNERS], dim=1), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Returns x and the inverse's log_det (B,) of z."""
        b, c, h, w = z.shape
        x = z.new_empty(b, c // 4, 2 * h, 2 * w)
        for (i, j), corner in zip(self.CORNERS, z.chunk(4, dim=1), strict=True):
            x[:, :, i::2, j::2] = corner
        return x, z.new_zeros(b)


def checkerboard_mask(shape: Shape, turn: int) -> Tensor:
    """1 where row + column + turn is odd (figure 3): (1, 1, H, W)."""
    _, h, w = shape
    return ((torch.arange(h)[:, None] + torch.arange(w) + turn) % 2).float()[None, None]


def channel_mask(shape: Shape, turn: int) -> Tensor:
    """1 for the second half of the channels, for the first half if turn is odd (figure 3): (1, C, 1, 1)."""
    second = torch.arange(shape[0]) >= shape[0] // 2
    return (second if turn % 2 == 0 else ~second).float()[None, :, None, None]


# ---- networks ---------------------------------------------------------------------------------------------------


class ResidualNetwork(nn.Module):
    """The network of s and t: (B, C, H, W) to (B, 2C, H, W), zero before training."""

    def __init__(self, shape: Shape, config: RealNVPConfig) -> None:
        super().__init__()
        c, h, w = shape
        self.first = nn.Conv2d(c, config.channels, 3, padding=1)
        self.position = nn.Parameter(torch.zeros(1, config.channels, h, w))
        self.blocks = nn.Sequential(*[ResidualBlock(config.channels) for _ in range(config.blocks)])
        self.last = nn.Conv2d(config.channels, 2 * c, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """The raw scale and the shift of every dimension: (B, 2C, H, W)."""
        return self.last(F.relu(self.blocks(self.first(x) + self.position)))


class ResidualBlock(nn.Module):
    """h + conv(relu(conv(relu(h)))), both convolutions weight-normalised."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = weight_norm(nn.Conv2d(channels, channels, 3, padding=1))
        self.second = weight_norm(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, h: Tensor) -> Tensor:
        """(B, channels, H, W) to the same shape."""
        return h + self.second(F.relu(self.first(F.relu(h))))


# ---- flow -------------------------------------------------------------------------------------------------------


def couplings(count: int, mask: Callable[[Shape, int], Tensor], shape: Shape, config: RealNVPConfig) -> Iterable[Layer]:
    """Couplings with alternating masks, each followed by batch normalisation if the config has it."""
    for turn in range(count):
        yield AffineCoupling(mask(shape, turn), ResidualNetwork(shape, config), shape[0])
        if config.batch_norm:
            yield BatchNorm(shape)


class Flow(nn.Module):
    """The multi-scale flow (section 3.6): dequantised pixels (B, C, H, W) in [0, 1) to latents (B, D) and back."""

    def __init__(self, shape: Shape, config: RealNVPConfig) -> None:
        super().__init__()
        self.logit, self.standardise = Logit(config.constraint), Standardise(shape)
        self.scales = nn.ModuleList()
        self.shapes: list[Shape] = []  # of the latents of each scale
        for _ in range(config.scales - 1):
            c, h, w = shape
            squeezed = (4 * c, h // 2, w // 2)
            before = couplings(config.couplings, checkerboard_mask, shape, config)
            after = couplings(config.couplings, channel_mask, squeezed, config)
            self.scales.append(nn.ModuleList([*before, Squeeze(), *after]))
            shape = (2 * c, h // 2, w // 2)
            self.shapes.append(shape)
        self.scales.append(nn.ModuleList(couplings(config.final, checkerboard_mask, shape, config)))
        self.shapes.append(shape)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, D) of pixels y (B, C, H, W) in [0, 1), and log |det dz/dy| (B,)."""
        h, log_det = through([self.logit, self.standardise], y)
        latents = []
        for scale, shape in zip(self.scales, self.shapes, strict=True):
            h, change = through(scale, h)
            log_det = log_det + change
            latents.append(h[:, : shape[0]].flatten(1))
            h = h[:, shape[0] :]
        return torch.cat(latents, dim=1), log_det

    def inverse(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Images y (B, C, H, W) of latents z (B, D), and log |det dy/dz| (B,)."""
        parts = z.split([math.prod(shape) for shape in self.shapes], dim=1)
        h, log_det = z.new_empty(z.shape[0], 0, *self.shapes[-1][1:]), z.new_zeros(z.shape[0])
        for scale, shape, part in reversed(list(zip(self.scales, self.shapes, parts, strict=True))):
            h, change = back(scale, torch.cat([part.unflatten(1, shape), h], dim=1))
            log_det = log_det + change
        y, change = back([self.logit, self.standardise], h)
        return y, log_det + change


def through(layers: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    """The result of applying all layers to x in order, and the sum of their log-determinants (B,)."""
    total = x.new_zeros(len(x))
    for layer in layers:
        x, log_det = layer(x)
        total = total + log_det
    return x, total


def back(layers: Any, z: Tensor) -> tuple[Tensor, Tensor]:
    """The x that the layers map to z, and the log-determinant of the inverse (B,)."""
    total = z.new_zeros(z.shape[0])
    for layer in reversed(list(layers)):
        z, log_det = layer.inverse(z)
        total = total + log_det
    return z, total


# ---- model ------------------------------------------------------------------------------------------------------


class RealNVP(PixelFlow):
    """A multi-scale flow of affine couplings; trained by maximum likelihood (eq. 3).

    log p(y) = log N(f(y); 0, I) + log |det df/dy|. Latents are (B, D), D the number of pixels; decode(encode(x)) is x.
    """

    Config = RealNVPConfig
    Sampler = RealNVPSampler

    def __init__(
        self, data: DataSpec, config: RealNVPConfig | None = None, sampler: RealNVPSampler | None = None
    ) -> None:
        super().__init__(data, config, sampler)
        factor = 2 ** (self.config.scales - 1)
        if data.height % factor or data.width % factor:
            raise ModelError(
                f"RealNVP: config.scales: found {self.config.scales}, allowed: at most "
                f"{halvings(data.height, data.width) + 1} for {data.height}x{data.width} images"
            )
        self.flow = Flow(data.shape, self.config)

    @classmethod
    def preset(cls, data: DataSpec) -> RealNVPConfig:
        """The small networks; suites/cifar10.yaml has the paper's."""
        return RealNVP.small(data)[0]

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """Adam with a cosine decay and averaged weights; the paper has a constant 1e-3 and batches of 64."""
        recipe = RealNVP.small(data)[1]
        return recipe if min(data.height, data.width) < 32 else replace(recipe, images=200_000)

    @classmethod
    def small(cls, data: DataSpec) -> tuple[RealNVPConfig, Recipe]:
        """As many scales as the size allows, at most 2 up to 16x16 pixels and 3 above.

        No batch normalisation: it gained nothing on the digits, and its statistics do not fit averaged weights. The
        networks for 8x8 images train stably with a large step size; 1,000 steps fit the 1,437 digits.
        """
        tiny = max(data.height, data.width) <= 16
        scales = next(
            n for n in ((2, 1) if tiny else (3, 2, 1)) if data.height % 2 ** (n - 1) == data.width % 2 ** (n - 1) == 0
        )
        config = RealNVPConfig(scales=scales, channels=32, blocks=1 if tiny else 2, batch_norm=False)
        images = affordable(data, 200_000, 47_000)
        if tiny:
            return config, Recipe(lr=8e-3, batch=32, warmup=50, decay="cosine", clip=1.0, ema=0.99, images=32_000)
        return config, Recipe(lr=6e-3, batch=32, warmup=100, decay="cosine", clip=1.0, ema=0.999, images=images)

    @torch.no_grad()
    def prepare(self, batch: Batch, gen: Generator) -> None:
        """Sets the standardisation from the first batch."""
        y = dequantise(batch.pixels, self.data.levels, gen)
        self.flow.standardise.fit(self.flow.logit(y)[0])

    def decode(self, z: Tensor) -> Tensor:
        """Images in [-1, 1] of latents (B, D); the nearest grey level of an image is the cell that contains y."""
        level = self.flow.inverse(z)[0] * self.data.levels - 0.5
        return (level * (2 / (self.data.levels - 1)) - 1).clamp(-1, 1)
