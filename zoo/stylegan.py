"""Style-based generative adversarial network: StyleGAN2, with the generator of the first StyleGAN as an option.

A mapping network f maps noise z to a style w. A synthesis network g starts from a learned constant and receives w at
every layer; Gaussian noise is added to every feature map. Its images, one per resolution, are summed (the skip
generator). A discriminator D distinguishes generated from real images. Papers: A, Karras, Laine and Aila 2019
(arXiv:1812.04948); B, Karras et al. 2020 (arXiv:1912.04958); P, Karras et al. 2018 (arXiv:1710.10196), equalised
learning rates and minibatch deviation; M, Mescheder et al. 2018 (arXiv:1801.04406), R1. The losses are in zoo.gan, the
basic layers in zoo.stylegan_layers.

The smallest maps have the image's size, halved while both sides are even and at least 8 (4 -> 8, 7 -> 14 -> 28,
4 -> .. -> 32), or the image's size if a side is odd. There are two styles per resolution (A, section 2).

Deviations
- "adain", the generator of A, is trained without progressive growing: its to-image layers for each resolution are
  summed as in B, and none is faded in. D is B's for both. The noise of A is scaled per channel, that of B per layer.
- Every k-th step adds k times a regulariser to the loss (B, section 3.1). In the paper it is a separate optimiser step
  with Adam's lr multiplied by c and its betas raised to the power c, c = k / (k + 1) (B, appendix B).
- Images are clamped to [-1, 1] only in decode() and sample(); D receives them unclamped. decode(z) uses one fixed noise
  image per layer, stored with the weights, so it is a function of z; sample() draws new noise.
- When two styles are mixed, the layer at which the second begins is drawn per image.
- No half precision with clamped activations, no augmentation; averaged weights (EMA) use the harness's warm-up.
- From 32 to 63 pixels the preset has the authors' settings for CIFAR-10 (no path-length term, no mixing, D without
  shortcuts), except that their training has augmentation. Below 32 pixels presets are narrow networks with shortcuts
  and a short training: Adam steps of 0.007 or 0.02 (paper: 0.0025), mapping_rate 0.1, batches of 32.

Symbols   z noise (B, Z)     w style (B, Z)     x features (B, C, H, W)     psi truncation     L styles of an image
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Literal

import torch
from annotated_types import Ge, Gt, Lt
from torch import Generator, Tensor, nn

from genbench.contract import (
    Batch,
    Condition,
    Count,
    DataSpec,
    Decodes,
    Loss,
    Model,
    Recipe,
    Share,
    Stage,
    Weight,
    across_processes,
    mean_across_processes,
    own_rows,
)
from zoo.gan import GENERATOR_LOSSES, cross_entropy
from zoo.nets import affordable
from zoo.stylegan_layers import EPSILON, EqualConv, EqualLinear, Way, activate, adain, blur, modulated_conv, upsample


@dataclass(frozen=True)
class StyleGANConfig:
    """Sizes and constants; the defaults are B's configuration F for 1024x1024 images.

    generator: "modulated" (B) or "adain" (A). latent: dimensions of z and w. mapping_layers: of f. mapping_rate:
    learning rate of f relative to the other networks. channels, most: a map of side s has channels / s features (B
    32768, A 16384), but not more than `most`. mixing: probability of two styles in an image. gamma: weight of R1, added
    every r1_interval steps. path_weight: of the path length (0 for none, as in A), added every path_interval steps
    (released code 4, B's appendix B 8) for a batch smaller by path_shrink. path_decay: of the moving average of path
    lengths. group: images in the groups of minibatch deviation. style_decay: of the moving average of w. shortcuts: the
    discriminator's blocks are residual (B, figure 7c).
    """

    generator: Literal["modulated", "adain"] = "modulated"
    latent: Count = 512
    mapping_layers: Annotated[int, Ge(0)] = 8
    mapping_rate: Annotated[float, Gt(0)] = 0.01
    channels: Count = 32_768
    most: Count = 512
    mixing: Share = 0.9
    gamma: Weight = 10.0
    r1_interval: Count = 16
    path_weight: Weight = 2.0
    path_interval: Count = 4
    path_shrink: Count = 2
    path_decay: Share = 0.01
    group: Count = 4
    style_decay: Annotated[float, Ge(0), Lt(1)] = 0.995
    shortcuts: bool = True


CIFAR = StyleGANConfig(  # of the released code
    mapping_layers=2, mixing=0.0, gamma=0.01, path_weight=0.0, group=32, shortcuts=False
)


@dataclass(frozen=True)
class StyleGANSampler:
    """psi: truncation of styles, w' = mean + psi (w - mean) (A, appendix B); 1: none.

    cutoff: number of truncated styles, coarse ones first; None: all. The images in A have psi 0.7 and cutoff 8.
    """

    psi: float = 1.0
    cutoff: Annotated[int, Ge(0)] | None = None


# ---- mathematics ------------------------------------------------------------------------------------------------


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """Appends to x (B, C, H, W) a channel: the standard deviation over the images of a group, averaged over C, H, W.

    The group size is the largest divisor of B up to `group`; in P (section 3) the group is the whole batch.
    """
    batch = across_processes(x)
    n = max(k for k in range(1, group + 1) if len(batch) % k == 0)
    groups = batch.unflatten(0, (n, -1))  # image i is in group i mod B / n
    variance = (groups - groups.mean(0)).square().mean(0)
    deviation = (variance + EPSILON).sqrt().mean((1, 2, 3))  # (B / n,)
    own = own_rows(deviation.repeat(n))
    return torch.cat([x, own[:, None, None, None].expand(-1, 1, *x.shape[2:])], dim=1)


def r1_penalty(logits: Tensor, x: Tensor, gamma: float) -> Tensor:
    """Mean of gamma / 2 |gradient of D at x|^2 (M, eq. 9) from logits (B,) of x (B, ...); differentiable."""
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return 0.5 * gamma * slope.square().flatten(1).sum(1).mean()


def path_lengths(images: Tensor, w: Tensor, gen: Generator) -> Tensor:
    """|J^T y| of each image (B,): J is its derivative with respect to w, y ~ N(0, I) / sqrt(H W), for eq. 4 of B.

    images: (B, C, H, W), computed from w (B, L, Z). The squares are summed over Z and averaged over the L styles, so
    weight 2 corresponds to ln 2 / (r^2 (ln r - ln 2)) in B's appendix B for resolution r.
    """
    y = torch.randn(images.shape, generator=gen, device=gen.device) / math.sqrt(images[0, 0].numel())
    (slope,) = torch.autograd.grad((images * y).sum(), w, create_graph=True)
    return (slope.square().sum(2).mean(1) + EPSILON**2).sqrt()


# ---- networks ---------------------------------------------------------------------------------------------------


class ModulatedConv(EqualConv):
    """Convolution with weights modulated by the style; the scales start at 1, and 3x3 kernels are demodulated."""

    def __init__(self, inputs: int, outputs: int, kernel: int, latent: int, way: Way = "same") -> None:
        super().__init__(inputs, outputs, kernel, way, bias=kernel == 1)
        self.style, self.demodulate = EqualLinear(latent, inputs, start=1.0), kernel > 1

    def forward(self, x: Tensor, w: Tensor) -> Tensor:  # type: ignore[override]
        """(B, inputs, H, W) and styles (B, Z) to (B, outputs, H, W), or the size for `way`."""
        weight = self.gain * self.weight
        y = modulated_conv(x, weight, self.style(w), self.way, demodulate=self.demodulate)
        return y if self.bias is None else y + self.bias


class Layer(nn.Module):
    """Convolution (or None), bias, one noise image for all channels with strengths that start at 0, activation."""

    fixed: Tensor

    def __init__(self, convolution: nn.Module | None, channels: int, strengths: int, size: list[int]) -> None:
        super().__init__()
        self.conv, self.bias = convolution, nn.Parameter(torch.zeros(channels, 1, 1))
        self.strength = nn.Parameter(torch.zeros(strengths, 1, 1))
        self.register_buffer("fixed", torch.randn(1, 1, *size))

    def forward(self, x: Tensor, w: Tensor, gen: Generator | None) -> Tensor:
        """Features (B, I, H, W) and styles (B, Z) to (B, O, H, W); noise from gen, or the fixed noise if None."""
        x = x if self.conv is None else self.conv(x, w)
        noise = self.fixed if gen is None else torch.randn(len(x), 1, *x.shape[2:], generator=gen, device=gen.device)
        return activate(x + self.strength * noise + self.bias)


class ModulatedLayer(Layer):
    """B, figure 2d: the convolution is modulated; one strength."""

    def __init__(self, inputs: int, outputs: int, latent: int, size: list[int], way: Way) -> None:
        super().__init__(ModulatedConv(inputs, outputs, 3, latent, way), outputs, 1, size)


class AdaINLayer(Layer):
    """A, figure 1b: AdaIN with scales that start at 1; one strength per channel. inputs: None for the first layer."""

    def __init__(self, inputs: int | None, outputs: int, latent: int, size: list[int], way: Way) -> None:
        convolution = None if inputs is None else EqualConv(inputs, outputs, 3, way, bias=False)
        super().__init__(convolution, outputs, outputs, size)
        self.style = EqualLinear(latent, 2 * outputs)

    def forward(self, x: Tensor, w: Tensor, gen: Generator | None) -> Tensor:
        """Features (B, I, H, W) and styles (B, Z) to (B, O, H, W); noise from gen, or the fixed noise if None."""
        scale, shift = self.style(w).chunk(2, dim=1)
        return adain(super().forward(x, w, gen), 1 + scale, shift)


def maps(data: DataSpec, c: StyleGANConfig) -> list[tuple[int, int, int]]:
    """(features, height, width) of the maps, from the smallest to the image; see the module for the sizes."""
    sizes = [(data.height, data.width)]
    while all(side % 2 == 0 and side >= 8 for side in sizes[0]):
        sizes.insert(0, (sizes[0][0] // 2, sizes[0][1] // 2))
    return [(max(1, min(c.channels // max(size), c.most)), *size) for size in sizes]


class Mapping(nn.Sequential):
    """f: dense layers from z, normalised to mean square 1 (P, section 4.2), to w."""

    def __init__(self, c: StyleGANConfig) -> None:
        super().__init__(*[EqualLinear(c.latent, c.latent, c.mapping_rate) for _ in range(c.mapping_layers)])

    def forward(self, z: Tensor) -> Tensor:
        """(B, Z) to (B, Z)."""
        w = z * (z.square().mean(1, keepdim=True) + EPSILON).rsqrt()
        for layer in self:
            w = activate(layer(w))
        return w.to(z)


class Synthesis(nn.Module):
    """g: layers that start from a constant; the features of each resolution become an image, and the images are summed.

    Layer i uses style i, the to-image layer of resolution k style 2 k + 1. In the modulated generator layer 2 k + 1,
    the first of the next resolution, uses the same style.
    """

    def __init__(self, data: DataSpec, config: StyleGANConfig) -> None:
        super().__init__()
        levels, latent, modulated = maps(data, config), config.latent, config.generator == "modulated"
        layer = ModulatedLayer if modulated else AdaINLayer
        first, *size = levels[0]
        self.constant = nn.Parameter((torch.randn if modulated else torch.ones)(1, first, *size))
        self.layers = nn.ModuleList([] if modulated else [AdaINLayer(None, first, latent, size, "same")])
        self.images = nn.ModuleList()
        for k, (width, *size) in enumerate(levels):
            if k:
                self.layers.append(layer(levels[k - 1][0], width, latent, size, "up"))
            self.layers.append(layer(width, width, latent, size, "same"))
            image = ModulatedConv(width, data.channels, 1, latent) if modulated else EqualConv(width, data.channels, 1)
            self.images.append(image)
        self.styles = 2 * len(levels)

    def forward(self, w: Tensor, gen: Generator | None) -> Tensor:
        """Styles (B, L, Z) to images (B, C, H, W), not clamped; noise from gen, or the fixed noise if None."""
        x, total = self.constant.expand(w.shape[0], -1, -1, -1), None
        last = len(self.layers) - self.styles + 1  # 0 or 1: parity of the last layer of a resolution
        for i, layer in enumerate(self.layers):
            x = layer(x, w[:, i], gen)
            if i % 2 == last:
                image = self.images[i // 2](x, w[:, 2 * (i // 2) + 1])
                total = image if total is None else upsample(total) + image
        assert total is not None
        return total


class HalvingBlock(nn.Module):
    """Two 3x3 convolutions, the second halves the size: (B, I, H, W) to (B, O, H / 2, W / 2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = EqualConv(inputs, inputs, 3), EqualConv(inputs, outputs, 3, "down")

    def forward(self, x: Tensor) -> Tensor:
        """Features of half the size."""
        return activate(self.second(activate(self.first(x))))


class ResidualBlock(HalvingBlock):
    """B, figure 7c: the same plus a 1x1 shortcut, divided by sqrt(2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.shortcut = EqualConv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features of half the size."""
        return (super().forward(x) + self.shortcut(blur(x, stride=2))) / math.sqrt(2)


class Discriminator(nn.Module):
    """D: blocks down to the smallest maps, minibatch deviation, a convolution, two dense layers."""

    def __init__(self, data: DataSpec, config: StyleGANConfig) -> None:
        super().__init__()
        levels = maps(data, config)
        widths, (c, height, width), self.group = [level[0] for level in levels[::-1]], levels[0], config.group
        self.first = EqualConv(data.channels, widths[0], 1)
        block = ResidualBlock if config.shortcuts else HalvingBlock
        self.blocks = nn.Sequential(*[block(i, o) for i, o in pairwise(widths)])
        self.last = EqualConv(c + 1, c, 3)
        self.dense, self.logit = EqualLinear(c * height * width, c), EqualLinear(c, 1)

    def forward(self, x: Tensor, batches: int = 1) -> Tensor:
        """Images (B, C, H, W), which may be several batches of one size, to logits (B,)."""
        maps = self.blocks(activate(self.first(x))).chunk(batches)
        x = torch.cat([minibatch_deviation(part, self.group) for part in maps])
        return self.logit(activate(self.dense(activate(self.last(x)).flatten(1))))[:, 0]


# ---- model ------------------------------------------------------------------------------------------------------


class StyleGAN(Model, Decodes):
    """Mapping, synthesis and discriminator, trained in turns; samples are g(f(z))."""

    family = "gan"
    Config = StyleGANConfig
    Sampler = StyleGANSampler
    stages = (Stage("fit", turns=("discriminator", "generator")),)
    style_mean: Tensor
    path_mean: Tensor

    def __init__(self, data: DataSpec, config: StyleGANConfig | None = None, sampler: object = None) -> None:
        super().__init__(data, config, sampler)
        self.mapping = Mapping(self.config)
        self.synthesis = Synthesis(data, self.config)
        self.discriminator = Discriminator(data, self.config)
        self.register_buffer("style_mean", torch.zeros(self.config.latent))
        self.register_buffer("path_mean", torch.zeros(()))

    @classmethod
    def preset(cls, data: DataSpec) -> StyleGANConfig:
        """From 64 pixels configuration F; from 32 the authors' sizes for CIFAR-10; the small ones below."""
        side = min(data.height, data.width)
        if side >= 64:
            return StyleGANConfig()
        return CIFAR if side >= 32 else StyleGAN.small(data)[0]

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """From 64 pixels B's for faces; from 32 the authors' for CIFAR-10; the small one below."""
        side, betas = min(data.height, data.width), (0.0, 0.99)
        if side >= 64:
            return Recipe(lr=2e-3, betas=betas, batch=32, ema=0.5 ** (32 / 10_000), flip=True, images=25_000_000)
        if side >= 32:
            return Recipe(lr=2.5e-3, betas=betas, batch=64, ema=0.5 ** (64 / 500_000), images=100_000_000)
        return StyleGAN.small(data)[1]

    @classmethod
    def small(cls, data: DataSpec) -> tuple[StyleGANConfig, Recipe]:
        """At most 64 features, 16 at full resolution from 28 pixels on."""
        side = min(data.height, data.width)
        channels, gamma = (256, 0.1) if side < 16 else (max(448, 16 * side), 1.0)
        config = replace(
            CIFAR, latent=64, mapping_rate=0.1, channels=channels, most=64, gamma=gamma, group=8, shortcuts=True
        )
        lr, images = (2e-2, 64_000) if side < 16 else (7e-3, affordable(data, 300_000, 117_000))
        recipe = Recipe(lr=lr, betas=(0.0, 0.99), batch=32, decay="linear", ema=0.995, images=images)
        return config, recipe

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of the discriminator, and of mapping and synthesis."""
        generator = [*self.mapping.parameters(), *self.synthesis.parameters()]
        return {"discriminator": list(self.discriminator.parameters()), "generator": generator}

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The non-saturating loss plus, every k steps, k times the player's regulariser: R1 or the path length."""
        if player == "generator":
            return self.generator_loss(len(batch), step, gen)
        c = self.config
        regularised = c.gamma > 0 and step % c.r1_interval == 0
        with torch.no_grad():
            fake = self.synthesis(self.mixed_styles(len(batch), gen), gen)
        if regularised:
            x = batch.x.detach().requires_grad_()
            logits, of_fake = self.discriminator(x), self.discriminator(fake)
        else:  # in one pass, which takes less time
            logits, of_fake = self.discriminator(torch.cat([batch.x, fake]), batches=2).chunk(2)
        real_term, fake_term = cross_entropy(logits, of_fake)
        total, terms = real_term + fake_term, {"real": real_term, "fake": fake_term}
        if regularised:
            penalty = r1_penalty(logits, x, c.gamma)
            total, terms["r1"] = total + c.r1_interval * penalty, penalty
        return Loss(total, terms)

    def generator_loss(self, n: int, step: int, gen: Generator) -> Loss:
        """-log D(g(w)) of n images, and (|J^T y| - a)^2 of the path length with its running mean a (B, eq. 4).

        In training mode it also updates the running means of w and of the path length.
        """
        c = self.config
        fake = self.synthesis(self.mixed_styles(n, gen, track=self.training), gen)
        total = GENERATOR_LOSSES["non-saturating"](self.discriminator(fake))
        terms = {"generator": total}
        if c.path_weight == 0 or step % c.path_interval:
            return Loss(total, terms)
        w = self.mixed_styles(max(1, n // c.path_shrink), gen)
        lengths = path_lengths(self.synthesis(w, gen), w, gen)
        mean = torch.lerp(self.path_mean, mean_across_processes(lengths.detach().mean()), c.path_decay)
        if self.training:
            self.path_mean.copy_(mean)
        terms["path"] = (lengths - mean).square().mean()
        return Loss(total + c.path_interval * c.path_weight * terms["path"], terms)

    def mixed_styles(self, n: int, gen: Generator, *, track: bool = False) -> Tensor:
        """Styles (n, L, Z) of new z; with probability `mixing`, styles of a second z from a random layer on.

        track: update the running mean of w with the first z's styles.
        """
        layers = self.synthesis.styles
        w = self.mapping(self.noise(n, gen))
        if track:
            self.style_mean.lerp_(mean_across_processes(w.detach().mean(0)), 1 - self.config.style_decay)
        w = w[:, None].expand(-1, layers, -1)
        if self.config.mixing == 0:
            return w
        other = self.mapping(self.noise(n, gen))[:, None]
        change = torch.randint(1, layers, (n, 1, 1), generator=gen, device=gen.device)
        mixed = torch.rand(n, 1, 1, generator=gen, device=gen.device) < self.config.mixing
        later = torch.arange(layers, device=gen.device)[:, None] >= change
        return torch.where(mixed & later, other, w)

    def noise(self, n: int, gen: Generator) -> Tensor:
        """Latents z ~ N(0, I): (n, Z)."""
        return torch.randn(n, self.config.latent, generator=gen, device=gen.device)

    def decode(self, z: Tensor, gen: Generator | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] of f(z), truncated by sampler.psi; noise from gen, or the fixed noise."""
        w = self.mapping(z)
        near, n = torch.lerp(self.style_mean, w, self.sampler.psi), self.synthesis.styles
        inner = n if self.sampler.cutoff is None else min(n, self.sampler.cutoff)
        return self.synthesis(torch.stack([near] * inner + [w] * (n - inner), dim=1), gen).clamp(-1, 1)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Images of n new z with new noise on the feature maps."""
        return self.decode(self.noise(n, gen), gen)

    @property
    def caveat(self) -> str:
        """A sentence on truncation, if psi is not 1."""
        psi = self.sampler.psi
        return "" if psi == 1 else f"styles truncated with psi {psi:g}: less varied than the model"
