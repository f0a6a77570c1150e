"""Style-based generative adversarial network: StyleGAN2, with the generator of the first StyleGAN as a choice.

A mapping network f turns noise z into a style w. A synthesis network g starts from a learned constant and is told w at
every layer, with fresh Gaussian noise on every feature map; its images, one for each resolution, are summed (the skip
generator). A residual discriminator D tells images from real ones. Papers: A, Karras, Laine and Aila 2019
(arXiv:1812.04948); B, Karras et al. 2020 (arXiv:1912.04958); P, Karras et al. 2018 (arXiv:1710.10196), equalised
learning rates and minibatch deviation; M, Mescheder et al. 2018 (arXiv:1801.04406), R1. Losses: zoo.gan.
Plain layers: zoo.stylegan_layers.

Maps start at the image's size halved while both sides are even and at least 8 (4 -> 8, 7 -> 14 -> 28, 4 -> .. -> 32),
at the image's own if a side is odd. There are two styles for each resolution (A, section 2).

Deviations
- "adain", the generator of A, is trained without growing: the to-image layers it has for each resolution are summed as
  in B's, and none is faded in. D is B's for both. The noise of A is scaled for each channel, B's for each layer.
- A regulariser is added to the loss of every k-th step, k-fold (B, section 3.1). There it is a step of its own, for
  which Adam's lr becomes c lr and its betas beta^c, c = k / (k + 1) (B, appendix B); here there are no more steps.
- Images are clamped to [-1, 1] where they leave the model; D sees them as they are. decode(z) has one fixed noise image
  for each layer, kept with the weights, so that it is a function of z; sample() draws the noise anew.
- When two styles are mixed, the layer where the second begins is drawn for each image.
- No half precision with clamped activations, no augmentation; averaged weights (EMA) follow the harness's warm-up.
- Presets below 64 pixels have no path-length term and no mixing, as the authors' own settings for CIFAR-10; those
  below 32 are narrow nets in short trainings: Adam steps of 0.007 or 0.02 (theirs: 0.0025), mapping_rate 0.1, batch 32.

Symbols   z noise (B, Z)     w style (B, Z)     x features (B, C, H, W)     psi truncation     L styles of an image
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from genbench.contract import Batch, Condition, DataSpec, Decodes, Loss, Model, Recipe, Stage
from genbench.errors import ModelError
from zoo.gan import GENERATOR_LOSSES, cross_entropy
from zoo.stylegan_layers import EqualConv, EqualLinear, Way, activate, blur, conv, upsample

EPSILON = 1e-8


@dataclass(frozen=True)
class StyleGANConfig:
    """Sizes and constants; the defaults are B's configuration F for 1024x1024 images.

    generator: "modulated" (B) or "adain" (A). latent: dimensions of z and w (512). mapping_layers: of f (8).
    mapping_rate: learning rate of f over that of the rest (0.01). channels, most: a map of side s has channels / s
    features, at most `most` (B 32768, A 16384; 512). mixing: share of images with two styles (0.9). gamma: weight of R1
    (10), added every r1_interval steps (16). path_weight: of the path length (2; 0 for none, as in A), added every
    path_interval steps (4 as released; B's appendix B has 8) on the batch / path_shrink (2); path_decay: of the mean
    length's average (0.01). group: images whose deviation D is shown (4). style_decay: of the average of w (0.995).
    """

    generator: Literal["modulated", "adain"] = "modulated"
    latent: int = 512
    mapping_layers: int = 8
    mapping_rate: float = 0.01
    channels: int = 32_768
    most: int = 512
    mixing: float = 0.9
    gamma: float = 10.0
    r1_interval: int = 16
    path_weight: float = 2.0
    path_interval: int = 4
    path_shrink: int = 2
    path_decay: float = 0.01
    group: int = 4
    style_decay: float = 0.995


@dataclass(frozen=True)
class StyleGANSampler:
    """psi: styles are drawn in to their average by this factor, w' = mean + psi (w - mean) (A, appendix B); 1: as is.

    cutoff: how many styles are truncated, coarse ones first; None for all. A shows images at psi 0.7 and cutoff 8.
    """

    psi: float = 1.0
    cutoff: int | None = None

    def __post_init__(self) -> None:
        if self.cutoff is not None and self.cutoff < 0:
            raise ModelError(f"stylegan: sampler.cutoff is {self.cutoff}; allowed: 0 or more, or null for all styles")


# ---- mathematics ------------------------------------------------------------------------------------------------


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, way: Way = "same", *, demodulate: bool = True) -> Tensor:
    """Convolves x (B, I, H, W) with kernels w'' of its own for each image: (B, O, H, W), or the size of the way.

    weight: (O, I, k, k). style s: (B, I). w'_oik = s_i w_oik (B, eq. 1), w'' = w' / sqrt(sum_ik w'^2 + 1e-8) (eq. 3),
    or w' itself. Convolution is linear in each input and output channel: s scales x, and the root scales the result.
    """
    y = conv(x * style[:, :, None, None], weight, way)
    if not demodulate:
        return y
    energy = style.square() @ weight.square().sum((2, 3)).T  # sum_ik w'_oik^2: (B, O)
    return y * (energy + EPSILON).rsqrt()[:, :, None, None]


def adain(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """y_s (x - mean(x)) / std(x) + y_b, moments of each map (B, C, H, W); scale y_s, shift y_b: (B, C) (A, eq. 1)."""
    centred = x - x.mean((2, 3), keepdim=True)
    size = (centred.square().mean((2, 3), keepdim=True) + EPSILON).rsqrt()
    return centred * (size * scale[:, :, None, None]) + shift[:, :, None, None]


def minibatch_deviation(x: Tensor, group: int) -> Tensor:
    """Appends to x (B, C, H, W) the standard deviation over the images of a group, averaged over C, H, W, as a channel.

    Groups are of `group` images, or of the largest number below that divides B; P (section 3) has one, the whole batch.
    """
    n = max(k for k in range(1, group + 1) if len(x) % k == 0)
    groups = x.unflatten(0, (n, -1))  # image i is in group i mod B / n
    variance = (groups - groups.mean(0)).square().mean(0)
    deviation = (variance + EPSILON).sqrt().mean((1, 2, 3))  # (B / n,)
    return torch.cat([x, deviation.repeat(n)[:, None, None, None].expand(-1, 1, *x.shape[2:])], dim=1)


def r1_penalty(logits: Tensor, x: Tensor, gamma: float) -> Tensor:
    """Mean of gamma / 2 |gradient of D at x|^2 (M, eq. 9) from logits (B,) of x (B, ...), differentiable again."""
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return 0.5 * gamma * slope.square().flatten(1).sum(1).mean()


def path_lengths(images: Tensor, w: Tensor, gen: Generator) -> Tensor:
    """|J^T y| of each image (B,): J its derivative by w, y ~ N(0, I) / sqrt(H W), for eq. 4 of B.

    images: (B, C, H, W) made of w (B, L, Z). The squares are summed over Z and averaged over the L styles: so weight 2
    is the ln 2 / (r^2 (ln r - ln 2)) that B's appendix B gives for resolution r.
    """
    y = torch.randn(images.shape, generator=gen, device=gen.device) / math.sqrt(images[0, 0].numel())
    (slope,) = torch.autograd.grad((images * y).sum(), w, create_graph=True)
    return (slope.square().sum(2).mean(1) + EPSILON**2).sqrt()


# ---- networks ---------------------------------------------------------------------------------------------------


class ModulatedConv(EqualConv):
    """Convolution whose weights the style modulates, with scales that start at 1; 3x3 ones are demodulated."""

    def __init__(self, inputs: int, outputs: int, kernel: int, latent: int, way: Way = "same") -> None:
        super().__init__(inputs, outputs, kernel, way, bias=kernel == 1)
        self.style, self.demodulate = EqualLinear(latent, inputs, start=1.0), kernel > 1

    def forward(self, x: Tensor, w: Tensor) -> Tensor:  # type: ignore[override]
        """(B, inputs, H, W) and styles (B, Z) to (B, outputs, H, W) or another size."""
        weight = self.gain * self.weight
        return modulated_conv(x, weight, self.style(w), self.way, demodulate=self.demodulate) + self.bias


class Layer(nn.Module):
    """Convolution (or none), bias, one image of noise for all channels at strengths that start at 0, activation."""

    fixed: Tensor

    def __init__(self, convolution: nn.Module | None, channels: int, strengths: int, size: list[int]) -> None:
        super().__init__()
        self.conv, self.bias = convolution, nn.Parameter(torch.zeros(channels, 1, 1))
        self.strength = nn.Parameter(torch.zeros(strengths, 1, 1))
        self.register_buffer("fixed", torch.randn(1, 1, *size))

    def forward(self, x: Tensor, w: Tensor, gen: Generator | None) -> Tensor:
        """Features (B, I, H, W) and styles (B, Z) to (B, O, H, W); noise from gen, fixed without one."""
        x = x if self.conv is None else self.conv(x, w)
        noise = self.fixed if gen is None else torch.randn(len(x), 1, *x.shape[2:], generator=gen, device=gen.device)
        return activate(x + self.strength * noise + self.bias)


class ModulatedLayer(Layer):
    """B, figure 2d: the convolution is modulated; one strength."""

    def __init__(self, inputs: int, outputs: int, latent: int, size: list[int], way: Way) -> None:
        super().__init__(ModulatedConv(inputs, outputs, 3, latent, way), outputs, 1, size)


class AdaINLayer(Layer):
    """A, figure 1b: AdaIN follows, its scales start at 1; a strength for each channel. inputs: None on the constant."""

    def __init__(self, inputs: int | None, outputs: int, latent: int, size: list[int], way: Way) -> None:
        convolution = None if inputs is None else EqualConv(inputs, outputs, 3, way, bias=False)
        super().__init__(convolution, outputs, outputs, size)
        self.style = EqualLinear(latent, 2 * outputs)

    def forward(self, x: Tensor, w: Tensor, gen: Generator | None) -> Tensor:
        """As Layer.forward."""
        scale, shift = self.style(w).chunk(2, dim=1)
        return adain(super().forward(x, w, gen), 1 + scale, shift)


def maps(data: DataSpec, c: StyleGANConfig) -> list[tuple[int, int, int]]:
    """(features, height, width) of the maps from smallest to image: halved while both sides are even and at least 8."""
    sizes = [(data.height, data.width)]
    while all(side % 2 == 0 and side >= 8 for side in sizes[0]):
        sizes.insert(0, (sizes[0][0] // 2, sizes[0][1] // 2))
    return [(max(1, min(c.channels // max(size), c.most)), *size) for size in sizes]


class Mapping(nn.Sequential):
    """f: dense layers from z scaled to mean square 1 (P, section 4.2), so that only its direction counts, to w."""

    def __init__(self, c: StyleGANConfig) -> None:
        super().__init__(*[EqualLinear(c.latent, c.latent, c.mapping_rate) for _ in range(c.mapping_layers)])

    def forward(self, z: Tensor) -> Tensor:
        """(B, Z) to (B, Z)."""
        w = z * (z.square().mean(1, keepdim=True) + EPSILON).rsqrt()
        for layer in self:
            w = activate(layer(w))
        return w.to(z)


class Synthesis(nn.Module):
    """g: layers from the constant on, the features of each resolution shown as an image, the images summed.

    Layer i is told style i, the image of resolution k style 2 k + 1, in the modulated generator also the next layer's.
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
        """Styles (B, L, Z) to images (B, C, H, W), not clamped; noise from gen, fixed without one."""
        x, total = self.constant.expand(len(w), -1, -1, -1), None
        last = len(self.layers) - self.styles + 1  # 0 or 1: which of two layers ends a resolution
        for i, layer in enumerate(self.layers):
            x = layer(x, w[:, i], gen)
            if i % 2 == last:
                image = self.images[i // 2](x, w[:, 2 * (i // 2) + 1])
                total = image if total is None else upsample(total) + image
        assert total is not None
        return total


class ResidualBlock(nn.Module):
    """B, figure 7c: two 3x3 convolutions, the second halving, beside a 1x1 one; their sum over sqrt(2)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = EqualConv(inputs, inputs, 3), EqualConv(inputs, outputs, 3, "down")
        self.shortcut = EqualConv(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, I, H, W) to (B, O, H / 2, W / 2)."""
        y = activate(self.second(activate(self.first(x))))
        return (y + self.shortcut(blur(x, stride=2))) / math.sqrt(2)


class Discriminator(nn.Module):
    """D: residual blocks down to the smallest maps, the deviation within groups, two dense layers."""

    def __init__(self, data: DataSpec, config: StyleGANConfig) -> None:
        super().__init__()
        levels = maps(data, config)
        widths, (c, height, width), self.group = [level[0] for level in levels[::-1]], levels[0], config.group
        self.first = EqualConv(data.channels, widths[0], 1)
        self.blocks = nn.Sequential(*[ResidualBlock(i, o) for i, o in pairwise(widths)])
        self.last = EqualConv(c + 1, c, 3)
        self.dense, self.logit = EqualLinear(c * height * width, c), EqualLinear(c, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B,)."""
        x = minibatch_deviation(self.blocks(activate(self.first(x))), self.group)
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
        """Builds the nets for the shape of the data. Raises ValueError when the generator is none of the two."""
        super().__init__(data, config, sampler)
        if self.config.generator not in ("modulated", "adain"):
            raise ValueError(f"generator is '{self.config.generator}'; allowed: modulated, adain")
        self.mapping = Mapping(self.config)
        self.synthesis = Synthesis(data, self.config)
        self.discriminator = Discriminator(data, self.config)
        self.register_buffer("style_mean", torch.zeros(self.config.latent))
        self.register_buffer("path_mean", torch.zeros(()))

    @classmethod
    def preset(cls, data: DataSpec) -> StyleGANConfig:
        """From 64 pixels up configuration F; at 32 the authors' for CIFAR-10; smaller ones for a CPU."""
        side = min(data.height, data.width)
        if side >= 64:
            return StyleGANConfig()
        cifar = StyleGANConfig(mapping_layers=2, mixing=0.0, gamma=0.01, path_weight=0.0, group=32)
        if side >= 32:
            return cifar
        channels, gamma = (256, 0.1) if side < 16 else (448, 1.0)
        return replace(cifar, latent=64, mapping_rate=0.1, channels=channels, most=64, gamma=gamma, group=8)

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """From 64 pixels up B's for faces, at 32 the authors' for CIFAR-10; smaller: a short training for a CPU."""
        side, betas = min(data.height, data.width), (0.0, 0.99)
        if side >= 64:
            return Recipe(lr=2e-3, betas=betas, batch=32, ema=0.5 ** (32 / 10_000), flip=True, images=25_000_000)
        if side >= 32:
            return Recipe(lr=2.5e-3, betas=betas, batch=64, ema=0.5 ** (64 / 500_000), images=100_000_000)
        lr, images = (2e-2, 64_000) if side < 16 else (7e-3, 300_000)
        return Recipe(lr=lr, betas=betas, batch=32, decay="linear", ema=0.995, images=images)

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The discriminator's parameters; those of mapping and synthesis."""
        generator = [*self.mapping.parameters(), *self.synthesis.parameters()]
        return {"discriminator": list(self.discriminator.parameters()), "generator": generator}

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The non-saturating loss and, every so many steps, that many times the player's regulariser: D's is R1."""
        if player == "generator":
            return self.generator_loss(len(batch), step, gen)
        c = self.config
        regularised = c.gamma > 0 and step % c.r1_interval == 0
        with torch.no_grad():
            fake = self.synthesis(self.mixed_styles(len(batch), gen), gen)
        x = batch.x.detach().requires_grad_(regularised)
        logits = self.discriminator(x)
        real_term, fake_term = cross_entropy(logits, self.discriminator(fake))
        total, terms = real_term + fake_term, {"real": real_term.detach(), "fake": fake_term.detach()}
        if regularised:
            penalty = r1_penalty(logits, x, c.gamma)
            total, terms["r1"] = total + c.r1_interval * penalty, penalty.detach()
        return Loss(total, terms)

    def generator_loss(self, n: int, step: int, gen: Generator) -> Loss:
        """-log D(g(w)) of n images, and the path length's (|J^T y| - a)^2 with a its running mean (B, eq. 4).

        In training mode moves the running means of w and of the path length.
        """
        c = self.config
        fake = self.synthesis(self.mixed_styles(n, gen, track=self.training), gen)
        total = GENERATOR_LOSSES["non-saturating"](self.discriminator(fake))
        terms = {"generator": total.detach()}
        if c.path_weight == 0 or step % c.path_interval:
            return Loss(total, terms)
        w = self.mixed_styles(max(1, n // c.path_shrink), gen)
        lengths = path_lengths(self.synthesis(w, gen), w, gen)
        mean = torch.lerp(self.path_mean, lengths.detach().mean(), c.path_decay)
        if self.training:
            self.path_mean.copy_(mean)
        terms["path"] = (lengths - mean).square().mean()
        return Loss(total + c.path_interval * c.path_weight * terms["path"], {k: v.detach() for k, v in terms.items()})

    def mixed_styles(self, n: int, gen: Generator, *, track: bool = False) -> Tensor:
        """Styles (n, L, Z) of fresh z; `mixing` of the images change to those of a second z at a random layer.

        track: takes the first z's into the running mean.
        """
        layers = self.synthesis.styles
        w = self.mapping(self.noise(n, gen))
        if track:
            self.style_mean.lerp_(w.detach().mean(0), 1 - self.config.style_decay)
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
        """Images (B, C, H, W) in [-1, 1] of styles f(z), truncated as the sampler says; noise from gen or fixed."""
        w = self.mapping(z)
        near, n = torch.lerp(self.style_mean, w, self.sampler.psi), self.synthesis.styles
        inner = n if self.sampler.cutoff is None else min(n, self.sampler.cutoff)
        return self.synthesis(torch.stack([near] * inner + [w] * (n - inner), dim=1), gen).clamp(-1, 1)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """The images of n fresh z with fresh noise on the feature maps."""
        return self.decode(self.noise(n, gen), gen)

    @property
    def caveat(self) -> str:
        """That truncation trades variety for fidelity."""
        psi = self.sampler.psi
        return "" if psi == 1 else f"styles truncated with psi {psi:g}: less varied than the model"
