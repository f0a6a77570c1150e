"""Glow (Kingma and Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", NeurIPS 2018, arXiv:1807.03039).

Implemented: activation normalisation with data-dependent initialisation, invertible 1x1 convolutions (free or in LU
form), affine and additive couplings, the multi-scale architecture of figure 2b, the released code's learned priors of
the latents of each level, sampling with a temperature. The density of the dequantised pixels is exact. The networks in
the couplings are in zoo.glow_networks; in training on a CPU, zoo.glow_step computes a step of the flow.

Deviations
- Latents are N(0, I): each learned prior is the last affine layer of its level; that of the top level, with one mean
  and scale per channel, is an activation normalisation.
- Activation normalisation is (x + b) exp(log s), as in the released code; table 1 has s x + b. The released code
  multiplies log s by 3.
- A coupling's scale is at least `least_scale`, because the inverse of a small scale can diverge (Behrmann et al. 2021).
  Fashion-MNIST, 24,000 images: a third of the samples diverge with 1e-6, none with 0.5; test bits/dim are 3.77 with
  both.
- The released code marks padded pixels in an additional input channel of each 3x3 convolution; `positions` adds a
  learned bias per position to the first convolution instead. The hidden convolutions of the networks have the gain
  exp(logs); in the released code it is exp(3 logs), as in the last convolution of both.
- With `constraint` above 0 the flow applies the logit to pixels scaled to an interval around 1/2, as RealNVP does; the
  paper has y - 1/2. Digits, test bits/dim after 8,000 images: 2.12 with 0.9, 2.08 with 0.97.
- Adam, with a cosine decay for small images; the released code has Adamax and shifts the images. The batch size is 64,
  and one batch initialises; the released code has 512 on eight GPUs and 256 images for initialisation. From 32x32
  gradients are clipped at a norm of 100 and weights are averaged; the paper has neither.

Symbols
    paper        here                   shape
    x            y                      (B, C, H, W), dequantised pixels in [0, 1)
    s, b         log_scale, bias        (C,), of an activation normalisation
    s, t         scale, shift           (B, C/2, H, W), of a coupling
    z_i          latents                (B, D), D = C H W; log_det: (B,), nats
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal, cast

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Lt
from torch import Generator, Tensor, nn

from genbench.contract import Batch, Count, DataSpec, Recipe
from genbench.errors import ModelError
from genbench.space import dequantise
from zoo.flows import PixelFlow
from zoo.glow_networks import CouplingNetwork, GainConv, ZeroConv, whitening
from zoo.glow_step import fused_steps, is_faster_fused
from zoo.nets import affordable, halvings

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class GlowConfig:
    """Sizes and constants; the defaults are the paper's for CIFAR-10 (table 4).

    levels: L; each level starts with a squeeze, and all but the last factor out half of their dimensions. steps: K of
    each level. width: channels in the coupling networks. coupling: "affine" or "additive". lu: the 1x1 convolution is
    in LU form. positions: a bias per position in the networks. constraint: width of the interval around 1/2 to which
    pixels are scaled before a logit; 0: no logit. least_scale: smallest scale of an affine coupling.
    """

    levels: Count = 3
    steps: Count = 32
    width: Count = 512
    coupling: Literal["affine", "additive"] = "affine"
    lu: bool = False
    positions: bool = False
    constraint: Annotated[float, Ge(0), Lt(1)] = 0.0
    least_scale: Annotated[float, Ge(0), Lt(1)] = 1e-6


@dataclass(frozen=True)
class GlowSampler:
    """temperature: factor on the priors' standard deviations; 1 samples the distribution that has the likelihood."""

    temperature: Annotated[float, Gt(0)] = 1.0


# ---- layers -----------------------------------------------------------------------------------------------------


class Layer(nn.Module):
    """A bijection of images. forward(x) -> (z, log_det), log_det (B,); inverse(z) -> x."""

    def inverse(self, z: Tensor) -> Tensor:
        """The x that forward maps to z."""
        raise NotImplementedError

    def initialise(self, x: Tensor) -> Tensor:
        """Sets data-dependent parameters from a first batch x; returns z of x after that."""
        return self(x)[0]


def enter(y: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """Returns z and log_det of pixels y in [0, 1): z = y - 1/2, or for c > 0 z = logit(p), p = (1 - c) / 2 + c y.

    dz/dy = c / (p (1 - p)), so log_det sums log c + softplus(z) + softplus(-z).
    """
    if c == 0:
        return y - 0.5, y.new_zeros(len(y))
    p = (1 - c) / 2 + c * y
    z = p.log() - (-p).log1p()
    return z, (F.softplus(z) + F.softplus(-z) + math.log(c)).flatten(1).sum(1)


def leave(z: Tensor, c: float) -> Tensor:
    """The pixels y that enter maps to z."""
    return z + 0.5 if c == 0 else (z.sigmoid() - (1 - c) / 2) / c


def squeeze(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 4C, H/2, W/2): pixel (2 i + u, 2 j + v) of channel c goes to channel 4 c + 2 u + v."""
    return F.pixel_unshuffle(x, 2).contiguous(memory_format=torch.channels_last)


class ActNorm(Layer):
    """z = (x + b) exp(log s), one b and s per channel: log_det = H W sum(log s) (section 3.1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns z and log_det (B,) of x."""
        scale = self.log_scale.exp()
        z = torch.addcmul((self.bias * scale)[:, None, None], x, scale[:, None, None])
        return z, (x.shape[2] * x.shape[3] * self.log_scale.sum()).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """The x that forward maps to z."""
        return torch.addcmul(-self.bias[:, None, None], z, (-self.log_scale).exp()[:, None, None])

    def initialise(self, x: Tensor) -> Tensor:
        """Sets b and s so that every channel of z has mean 0 and variance 1; returns z."""
        bias, log_scale = whitening(x)
        self.bias.copy_(bias)
        self.log_scale.copy_(log_scale)
        return self(x)[0]


class Conv1x1(Layer):
    """z = W x at every position, W a matrix that starts as a random rotation: log_det = H W log|det W| (eq. 9)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(nn.init.orthogonal_(torch.empty(channels, channels)))

    def weight(self) -> Tensor:
        """W: (C, C)."""
        return self.matrix

    @staticmethod
    def log_abs_dets(convs: Sequence[Any], weights: Tensor) -> Tensor:
        """log|det W| of K convolutions of this class, whose weights are (K, C, C): (K,)."""
        return torch.linalg.slogdet(weights).logabsdet

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns z and log_det (B,) of x."""
        weight = self.weight()
        log_abs_det = self.log_abs_dets([self], weight[None])[0]
        return mix(weight, x), (x.shape[2] * x.shape[3] * log_abs_det).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """The x that forward maps to z."""
        return mix(inverses([self])[0], z)


class LUConv1x1(Conv1x1):
    """Conv1x1 with W = P L (U + diag s): log|det W| = sum(log|s|) (eq. 10, 11). P and the signs of s are fixed."""

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        Layer.__init__(self)
        permutation, lower, upper = torch.linalg.lu(nn.init.orthogonal_(torch.empty(channels, channels)))
        s = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", s.sign())
        self.log_s = nn.Parameter(s.abs().log())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))

    def weight(self) -> Tensor:
        """W: (C, C)."""
        with torch.autocast(self.sign.device.type, enabled=False):
            lower = self.lower.tril(-1) + torch.ones_like(self.sign).diag()
            return self.permutation @ lower @ (self.upper.triu(1) + (self.sign * self.log_s.exp()).diag())

    @staticmethod
    def log_abs_dets(convs: Sequence[Any], weights: Tensor) -> Tensor:
        """log|det W| of K convolutions, without their weights: (K,)."""
        return torch.stack([conv.log_s for conv in convs]).sum(1)


def mix(weight: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """W x, plus a bias (C,) unless None, at every position of x (B, C, H, W), without autocast."""
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def merged(norms: Sequence[ActNorm], convs: Sequence[Conv1x1]) -> tuple[Tensor, Tensor, Tensor]:
    """K pairs of an activation normalisation and a 1x1 convolution as one product each: z = A x + a.

    A: (K, C, C). a: (K, C). Also the sum of their log|det A|: (). Fewer and larger operations than the layers' own.
    """
    log_scales, weights = torch.stack([norm.log_scale for norm in norms]), torch.stack([c.weight() for c in convs])
    matrices = weights * log_scales.exp()[:, None]
    shifts = (matrices * torch.stack([norm.bias for norm in norms])[:, None]).sum(2)  # not autocast, as @ would be
    return matrices, shifts, log_scales.sum() + convs[0].log_abs_dets(convs, weights).sum()


def inverses(convs: Iterable[Conv1x1]) -> Tensor:
    """W^-1 of K convolutions of the same width: (K, C, C). One batched call is several times faster than K calls."""
    return torch.linalg.inv_ex(torch.stack([conv.weight() for conv in convs])).inverse  # inv would wait for a GPU


class ConditionalAffine(Layer):
    """Shifts and scales the second half x_b of the channels by functions of the first, x_a: z_b = (x_b + t) s.

    `read` converts the network's output for x_a, in the precision of the flow, to t and s. log_det = sum(log s).
    """

    def __init__(self, network: GainConv | CouplingNetwork, read: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.network, self.read = network, read

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns z and log_det (B,) of x."""
        a, b = x.chunk(2, dim=1)
        shift, scale = self.read(self.network(a).to(a.dtype))
        return torch.cat([a, (b + shift) * scale], dim=1), scale.log().sum((1, 2, 3))

    def inverse(self, z: Tensor) -> Tensor:
        """The x that forward maps to z."""
        a, b = z.chunk(2, dim=1)
        shift, scale = self.read(self.network(a).to(a.dtype))
        x = z.clone()
        x[:, a.shape[1] :] = (b / scale).sub_(shift)
        return x

    def initialise(self, x: Tensor) -> Tensor:
        """Initialises the network from x; returns z."""
        self.network.initialise(x.chunk(2, dim=1)[0])
        return self(x)[0]


def read_affine(h: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Shift t and s = least + (1 - least) sigmoid(raw + 2) of an affine coupling; t, raw: even and odd channels."""
    shift, raw = h.unflatten(1, (-1, 2)).unbind(2)
    return shift, torch.add(h.new_full((), least), (raw + 2).sigmoid(), alpha=1 - least)


def read_additive(h: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Shift t and s = 1 of an additive coupling (Dinh et al. 2014); `least` is not used."""
    return h, torch.ones_like(h)


def read_prior(h: Tensor) -> tuple[Tensor, Tensor]:
    """Shift -m and s = exp(-logs), so that x_b ~ N(m, exp(2 logs)) becomes N(0, I); m and logs are interleaved."""
    mean, log_scale = h.unflatten(1, (-1, 2)).unbind(2)
    return -mean, (-log_scale).exp()


COUPLINGS = {"affine": (2, read_affine), "additive": (1, read_additive)}  # network outputs per x_b, and the reader


# ---- flow -------------------------------------------------------------------------------------------------------


def step(shape: Shape, config: GlowConfig) -> list[Layer]:
    """One step of the flow (figure 2a): activation normalisation, 1x1 convolution, coupling."""
    half, (numbers, read) = shape[0] // 2, COUPLINGS[config.coupling]
    network = CouplingNetwork(half, numbers * half, config.width, shape[1:] if config.positions else None)
    conv = LUConv1x1(shape[0]) if config.lu else Conv1x1(shape[0])
    return [ActNorm(shape[0]), conv, ConditionalAffine(network, partial(read, least=config.least_scale))]


class Flow(nn.Module):
    """The multi-scale flow (figure 2b): dequantised pixels (B, C, H, W) in [0, 1) to latents (B, D) and back."""

    initialised: Tensor

    def __init__(self, shape: Shape, config: GlowConfig) -> None:
        super().__init__()
        self.constraint = config.constraint
        self.least = config.least_scale if config.coupling == "affine" else None  # scale of a coupling
        self.levels: Any = nn.ModuleList()  # of a ModuleList each
        self.shapes: list[Shape] = []  # of the latents of each level
        for level in range(config.levels):
            c, h, w = 4 * shape[0], shape[1] // 2, shape[2] // 2
            steps = [layer for _ in range(config.steps) for layer in step((c, h, w), config)]
            top = level == config.levels - 1
            prior = ActNorm(c) if top else ConditionalAffine(ZeroConv(c // 2, c), read_prior)
            self.levels.append(nn.ModuleList([*steps, prior]))
            self.shapes.append((c if top else c // 2, h, w))
            shape = (c // 2, h, w)
        self.register_buffer("initialised", torch.tensor(False))

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, D) of pixels y (B, C, H, W) in [0, 1), and log |det dz/dy| (B,)."""
        h, log_det = enter(y, self.constraint)
        latents = []
        for level, shape in zip(self.levels, self.shapes, strict=True):
            h = squeeze(h)
            *steps, prior = level
            matrices, shifts, log_abs_det = merged(steps[0::3], steps[1::3])
            log_det = log_det + h.shape[2] * h.shape[3] * log_abs_det
            h, change = self.transform(h, matrices, shifts, steps[2::3])
            log_det = log_det + change
            h, change = prior(h)
            log_det = log_det + change
            latents.append(h[:, -shape[0] :].flatten(1))
            h = h[:, : -shape[0]]
        return torch.cat(latents, dim=1), log_det

    def transform(
        self, x: Tensor, matrices: Tensor, shifts: Tensor, couplings: Sequence[ConditionalAffine]
    ) -> tuple[Tensor, Tensor]:
        """Z and the couplings' log_det of a level's steps for x; matrices, shifts: of merged."""
        if self.training and self.least is not None and is_faster_fused(x):
            networks = [cast(CouplingNetwork, coupling.network) for coupling in couplings]
            return fused_steps(x, matrices, shifts, networks, self.least)
        log_det = x.new_zeros(len(x))
        for matrix, shift, coupling in zip(matrices, shifts, couplings, strict=True):
            x, change = coupling(mix(matrix, x, shift))
            log_det = log_det + change
        return x, log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Pixels y (B, C, H, W) of latents z (B, D)."""
        parts = z.split([math.prod(shape) for shape in self.shapes], dim=1)
        h = z.new_empty(z.shape[0], 0, *self.shapes[-1][1:])  # len would fix the number in an exported graph
        for level, shape, part in reversed(list(zip(self.levels, self.shapes, parts, strict=True))):
            h = torch.cat([h, part.unflatten(1, shape)], dim=1).contiguous(memory_format=torch.channels_last)
            *steps, prior = level
            norms, convs, couplings = steps[0::3], steps[1::3], steps[2::3]
            scales = torch.stack([norm.log_scale for norm in norms]).neg().exp()
            matrices = scales[:, :, None] * inverses(convs)  # x = exp(-log s) W^-1 z - b in one pass
            h = prior.inverse(h)
            for norm, matrix, coupling in reversed(list(zip(norms, matrices, couplings, strict=True))):
                h = mix(matrix, coupling.inverse(h), -norm.bias)
            h = F.pixel_shuffle(h, 2)
        return leave(h, self.constraint)

    @torch.no_grad()
    def initialise(self, y: Tensor) -> None:
        """Initialises every activation normalisation from a first batch of pixels y, unless already initialised."""
        if self.initialised:
            return
        h = enter(y, self.constraint)[0]
        for level, shape in zip(self.levels, self.shapes, strict=True):
            h = squeeze(h)
            for layer in level:
                h = layer.initialise(h)
            h = h[:, : -shape[0]]
        self.initialised.fill_(True)


# ---- model ------------------------------------------------------------------------------------------------------


class Glow(PixelFlow):
    """A multi-scale flow of activation normalisation, 1x1 convolutions and couplings; trained by maximum likelihood.

    log p(y) = log N(f(y); 0, I) + log |det df/dy| (eq. 6 and 7). Latents are (B, D): decode(encode(x)) is x.
    """

    Config = GlowConfig
    Sampler = GlowSampler

    def __init__(self, data: DataSpec, config: GlowConfig | None = None, sampler: GlowSampler | None = None) -> None:
        super().__init__(data, config, sampler)
        most, size = halvings(data.height, data.width), f"{data.height}x{data.width}"
        if most == 0:
            even = f"{(data.height + 1) // 2 * 2}x{(data.width + 1) // 2 * 2}"
            raise ModelError(f"Glow: found {size} images, allowed: even sides, such as {even}")
        if self.config.levels > most:
            raise ModelError(
                f"Glow: config.levels: found {self.config.levels}, allowed: at most {most} for {size} images"
            )
        self.flow = Flow(data.shape, self.config)

    @classmethod
    def preset(cls, data: DataSpec) -> GlowConfig:
        """The paper's sizes from 32x32: those for CIFAR-10, from 64 pixels for ImageNet, from 256 for CelebA-HQ.

        Below, the small ones.
        """
        levels, side = max(1, halvings(data.height, data.width)), min(data.height, data.width)
        if side >= 64:
            most, steps = (6, 32) if side >= 256 else (4, 48)
            return GlowConfig(levels=min(most, levels), steps=steps)
        if side >= 32:
            return GlowConfig(levels=min(3, levels))
        return Glow.small(data)[0]

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """From 32x32 the paper's step size and 10 epochs of CIFAR-10 as warm-up; below, the small one."""
        if min(data.height, data.width) >= 32:
            return Recipe(lr=1e-3, batch=64, warmup=7_800, clip=100.0, ema=0.999, images=5_000_000)
        return Glow.small(data)[1]

    @classmethod
    def small(cls, data: DataSpec) -> tuple[GlowConfig, Recipe]:
        """Narrow networks, and levels down to about 8x8 pixels (28x28 becomes 7x7)."""
        levels, side = max(1, halvings(data.height, data.width)), max(data.height, data.width)
        most = 2 if side < 48 else 3
        config = GlowConfig(levels=min(most, levels), width=64, positions=True, constraint=0.97, least_scale=0.5)
        recipe = Recipe(lr=8e-3, batch=32, decay="cosine", clip=1.0)
        if side <= 16:
            return replace(config, steps=8), replace(recipe, warmup=50, weight_decay=0.2, ema=0.99, images=24_000)
        images = affordable(data, 200_000, 71_000)
        return replace(config, steps=16), replace(recipe, warmup=100, ema=0.999, images=images)

    def prepare(self, batch: Batch, gen: Generator) -> None:
        """Initialises the activation normalisations from the first batch, unless the weights were loaded."""
        self.flow.initialise(dequantise(batch.pixels, self.data.levels, gen))

    def decode(self, z: Tensor) -> Tensor:
        """Images in [-1, 1] of latents (B, D); the nearest grey level of an image is the cell that contains y."""
        half = self.data.levels / (self.data.levels - 1)  # cell centres span [-1, 1], the cells [-half, half]
        return (self.flow.inverse(z) * (2 * half) - half).clamp(-1, 1)
