"""Glow (Kingma and Dhariwal, "Glow: Generative Flow with Invertible 1x1 Convolutions", NeurIPS 2018, arXiv:1807.03039).

Implemented: activation normalisation with data-dependent initialisation, invertible 1x1 convolutions (free or in LU
form), affine and additive couplings, the multi-scale architecture of figure 2b, the released code's learned priors of
what each level and the top give, sampling at a temperature. The density is exact. The networks in the couplings:
zoo.glow_networks.

Deviations
- Latents are the priors' standardised noise, N(0, I): each prior is the last affine layer of its level, and the top's,
  one mean and scale per channel, is an activation normalisation.
- Activation normalisation is (x + b) exp(log s), as in the released code, where table 1 has s x + b; the released code
  multiplies log s by 3.
- A coupling's scale is at least `least_scale`: small ones explode when undone (Behrmann et al. 2021). Fashion-MNIST,
  24,000 images: of the samples a third explode with 1e-6, none with 0.5; test bits/dim are 3.77 with either.
- The released code marks the padded rim in an extra input channel of each 3x3 convolution; `positions` adds a learned
  bias per position to the first convolution instead. The gains in the networks are the released code's.
- `constraint` above 0 takes the logit of pixels pressed into the middle of (0, 1), as RealNVP does; the paper has
  y - 1/2. Digits, test bits/dim after 8,000 images: 2.12 with 0.9, 2.08 with 0.97.
- Adam, for small images with a cosine decay; the released code has Adamax and shifts the images. Batches of 64, and the
  first of them initialises; there 512 over eight GPUs, and 256 images.

Symbols
    paper        here                   shape
    x            y                      (B, C, H, W), dequantised pixels in [0, 1)
    s, b         log_scale, bias        (C,), of an activation normalisation
    s, t         scale, shift           (B, C/2, H, W), of a coupling
    z_i          latents                (B, D), D = C H W; log_det: (B,), nats
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from genbench.contract import Batch, Condition, DataSpec, DequantisedDensity, Loss, Model, Recipe, Reconstructs
from genbench.errors import ModelError
from genbench.space import density_to_mass, dequantise
from zoo.glow_networks import CouplingNetwork, GainConv, ZeroConv, whitening
from zoo.nets import halvings, log_normal

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class GlowConfig:
    """Sizes and constants; the defaults are the paper's for CIFAR-10 (table 4).

    levels: L, each starts with a squeeze and all but the last give half of their dimensions away, 3. steps: K of each
    level, 32. width: channels in the coupling networks, 512. coupling: "affine" or "additive". lu: whether the 1x1
    convolution is in LU form, False in the released code. positions: a bias per position in the networks, False.
    constraint: share of (0, 1) that pixels are pressed into before a logit, 0 for no logit. least_scale: of
    an affine coupling, 1e-6.
    """

    levels: int = 3
    steps: int = 32
    width: int = 512
    coupling: str = "affine"
    lu: bool = False
    positions: bool = False
    constraint: float = 0.0
    least_scale: float = 1e-6

    def __post_init__(self) -> None:
        for name in ("levels", "steps", "width"):
            if getattr(self, name) < 1:
                raise ModelError(f"glow: config.{name} is {getattr(self, name)}; allowed: at least 1")
        if self.coupling not in COUPLINGS:
            raise ModelError(f"glow: config.coupling is '{self.coupling}'; allowed: {', '.join(COUPLINGS)}")
        for name in ("constraint", "least_scale"):
            if not 0 <= getattr(self, name) < 1:
                raise ModelError(f"glow: config.{name} is {getattr(self, name)}; allowed: from 0 to 1, 1 excluded")


@dataclass(frozen=True)
class GlowSampler:
    """temperature: factor on the priors' standard deviations; 1 draws from the model whose likelihood is measured."""

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ModelError(f"glow: sampler.temperature is {self.temperature}; allowed: above 0")


class Layer(nn.Module):
    """A bijection of images. forward(x) -> (z, log_det), log_det (B,); inverse(z) -> x, which needs no determinant."""

    def inverse(self, z: Tensor) -> Tensor:
        """What forward maps to z."""
        raise NotImplementedError

    def initialise(self, x: Tensor) -> Tensor:
        """Sets what depends on the data from a first batch x; returns what forward then makes of x."""
        return self(x)[0]


def enter(y: Tensor, c: float) -> tuple[Tensor, Tensor]:
    """Pixels y in [0, 1) as z and log_det: z = y - 1/2, or for c > 0 z = logit(p) of p = (1 - c) / 2 + c y.

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
        """As in Layer."""
        scale = self.log_scale.exp()
        z = torch.addcmul((self.bias * scale)[:, None, None], x, scale[:, None, None])
        return z, (x.shape[2] * x.shape[3] * self.log_scale.sum()).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """As in Layer."""
        return torch.addcmul(-self.bias[:, None, None], z, (-self.log_scale).exp()[:, None, None])

    def initialise(self, x: Tensor) -> Tensor:
        """As in Layer: every channel gets mean 0 and variance 1."""
        bias, log_scale = whitening(x)
        self.bias.copy_(bias)
        self.log_scale.copy_(log_scale)
        return self(x)[0]


class Conv1x1(Layer):
    """z = W x at every position, W a free matrix that starts as a rotation: log_det = H W log|det W| (eq. 9)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(nn.init.orthogonal_(torch.empty(channels, channels)))

    def weight(self) -> Tensor:
        """W: (C, C)."""
        return self.matrix

    def log_abs_det(self) -> Tensor:
        """log|det W|: ()."""
        return torch.linalg.slogdet(self.matrix).logabsdet

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As in Layer."""
        return mix(self.weight(), x), (x.shape[2] * x.shape[3] * self.log_abs_det()).expand(len(x))

    def inverse(self, z: Tensor) -> Tensor:
        """As in Layer."""
        return mix(inverses([self])[0], z)


class LUConv1x1(Conv1x1):
    """The same with W = P L (U + diag s): log|det W| = sum(log|s|) (eq. 10, 11). P and the signs of s are fixed."""

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
        """As in Conv1x1."""
        with torch.autocast(self.sign.device.type, enabled=False):
            lower = self.lower.tril(-1) + torch.ones_like(self.sign).diag()
            return self.permutation @ lower @ (self.upper.triu(1) + (self.sign * self.log_s.exp()).diag())

    def log_abs_det(self) -> Tensor:
        """As in Conv1x1."""
        return self.log_s.sum()


def mix(weight: Tensor, x: Tensor, bias: Tensor | None = None) -> Tensor:
    """W x, plus a bias (C,) if given, at every position of x (B, C, H, W), in their own precision."""
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def inverses(convs: Iterable[Conv1x1]) -> Tensor:
    """W^-1 of K convolutions of one width, together, as small ones take several times as long apart: (K, C, C)."""
    return torch.linalg.inv_ex(torch.stack([conv.weight() for conv in convs])).inverse  # inv would wait for the GPU


class ConditionalAffine(Layer):
    """Shifts and scales the second half x_b of the channels by functions of the first, x_a: z_b = (x_b + t) s.

    The network's output for x_a, in the precision of the flow, is read as t and s. log_det = sum(log s).
    """

    def __init__(self, network: GainConv | CouplingNetwork, read: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.network, self.read = network, read

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """As in Layer."""
        a, b = x.chunk(2, dim=1)
        shift, scale = self.read(self.network(a).to(a.dtype))
        return torch.cat([a, (b + shift) * scale], dim=1), scale.log().sum((1, 2, 3))

    def inverse(self, z: Tensor) -> Tensor:
        """As in Layer."""
        a, b = z.chunk(2, dim=1)
        shift, scale = self.read(self.network(a).to(a.dtype))
        x = z.clone()
        x[:, a.shape[1] :] = (b / scale).sub_(shift)
        return x

    def initialise(self, x: Tensor) -> Tensor:
        """As in Layer."""
        self.network.initialise(x.chunk(2, dim=1)[0])
        return self(x)[0]


def read_affine(h: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Shift t and s = least + (1 - least) sigmoid(raw + 2) of an affine coupling; t, raw: even and odd channels."""
    return h[:, 0::2], torch.add(h.new_full((), least), (h[:, 1::2] + 2).sigmoid(), alpha=1 - least)


def read_additive(h: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Shift t and s = 1 of an additive coupling (Dinh et al. 2014), whatever the least."""
    return h, torch.ones_like(h)


def read_prior(h: Tensor) -> tuple[Tensor, Tensor]:
    """Shift -m and s = exp(-logs), so that x_b ~ N(m, exp(2 logs)) becomes N(0, I); m and logs are interleaved."""
    return -h[:, 0::2], (-h[:, 1::2]).exp()


COUPLINGS = {"affine": (2, read_affine), "additive": (1, read_additive)}  # numbers per x_b, and how to read them


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
        self.levels: Any = nn.ModuleList()  # of a ModuleList each
        self.shapes: list[Shape] = []  # of the latents that each level gives
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
        return self._through(y, lambda layer, h: layer(h))

    def _through(self, y: Tensor, apply: Callable[[Layer, Tensor], tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        h, log_det = enter(y, self.constraint)
        latents = []
        for level, shape in zip(self.levels, self.shapes, strict=True):
            h = squeeze(h)
            for layer in level:
                h, change = apply(layer, h)
                log_det = log_det + change
            latents.append(h[:, -shape[0] :].flatten(1))
            h = h[:, : -shape[0]]
        return torch.cat(latents, dim=1), log_det

    def inverse(self, z: Tensor) -> Tensor:
        """Pixels y (B, C, H, W) of latents z (B, D)."""
        parts = z.split([math.prod(shape) for shape in self.shapes], dim=1)
        h = z.new_empty(len(z), 0, *self.shapes[-1][1:])
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
        """Sets every activation normalisation from a first batch of pixels y, once in the life of the weights."""
        if not self.initialised:
            self._through(y, lambda layer, h: (layer.initialise(h), h.new_zeros(())))
            self.initialised.fill_(True)


class Glow(Model, DequantisedDensity, Reconstructs):
    """A multi-scale flow of activation normalisation, 1x1 convolutions and couplings; trained by maximum likelihood.

    log p(y) = log N(f(y); 0, I) + log |det df/dy| (eq. 6 and 7). Latents are (B, D): decode(encode(x)) is x.
    """

    family = "flow"
    Config = GlowConfig
    Sampler = GlowSampler

    def __init__(self, data: DataSpec, config: GlowConfig | None = None, sampler: GlowSampler | None = None) -> None:
        super().__init__(data, config, sampler)
        if halvings(data.height, data.width) < self.config.levels:
            multiple = f"multiples of {2**self.config.levels} for levels={self.config.levels}"
            raise ModelError(f"glow: images are {data.height}x{data.width}; height and width must be {multiple}")
        self.flow = Flow(data.shape, self.config)

    @classmethod
    def preset(cls, data: DataSpec) -> GlowConfig:
        """From 32x32 up the paper's sizes; below, small networks and at most 2 levels: 28x28 to 7x7, not padded."""
        levels = max(1, halvings(data.height, data.width))
        if min(data.height, data.width) >= 32:
            return GlowConfig(levels=min(3, levels))
        steps = 8 if max(data.height, data.width) <= 16 else 16
        small = GlowConfig(width=64, positions=True, constraint=0.97, least_scale=0.5)
        return replace(small, levels=min(2, levels), steps=steps)

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """From 32x32 pixels up the paper's step size, 10 epochs of CIFAR-10 to warm up; smaller: short on a CPU."""
        if min(data.height, data.width) >= 32:
            return Recipe(lr=1e-3, batch=64, warmup=7_800, clip=100.0, ema=0.999, images=5_000_000)
        small = Recipe(lr=8e-3, batch=32, decay="cosine", clip=1.0)
        if max(data.height, data.width) <= 16:
            return replace(small, warmup=50, weight_decay=0.2, ema=0.99, images=24_000)
        return replace(small, warmup=100, ema=0.999, images=200_000)

    def prepare(self, batch: Batch, gen: Generator) -> None:
        """Sets the activation normalisations from the first batch; a model with restored weights keeps its own."""
        self.flow.initialise(dequantise(batch.pixels, self.data.levels, gen))

    def log_prob(self, pixels: Tensor, gen: Generator | None = None) -> Tensor:
        """Log p(y) - D ln(levels) in nats of pixels (B, C, H, W) uint8, dequantised by uniform noise: (B,)."""
        z, log_det = self.flow(dequantise(pixels, self.data.levels, gen))
        return density_to_mass(log_normal(z) + log_det, self.data.dims, self.data.levels)

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """Mean bits per dimension of the batch, dequantised anew."""
        bits = -self.log_prob(batch.pixels, gen).mean() / (self.data.dims * math.log(2))
        return Loss(bits, {"bits_per_dim": bits.detach()})

    def encode(self, x: Tensor) -> Tensor:
        """Latents (B, D) of images x in [-1, 1], taken at the centres of their grey levels' cells."""
        level = (x + 1) * ((self.data.levels - 1) / 2)
        return self.flow((level + 0.5) / self.data.levels)[0]

    def noise(self, n: int, gen: Generator) -> Tensor:
        """Latents from N(0, I): (n, D)."""
        return torch.randn(n, self.data.dims, generator=gen, device=gen.device)

    def decode(self, z: Tensor) -> Tensor:
        """Images in [-1, 1] of latents (B, D); the nearest grey level is the cell that y lies in."""
        inside = self.data.levels / (self.data.levels - 1)  # cells' centres run from -1 to 1, their ends lie outside
        return (self.flow.inverse(z) * (2 * inside) - inside).clamp(-1, 1)

    @torch.no_grad()
    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Images (n, C, H, W) in [-1, 1]."""
        return self.decode(self.sampler.temperature * self.noise(n, gen))
