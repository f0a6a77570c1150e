"""Code shared by several models: the U-Net of Ho et al. 2020 and its blocks, batch-norm moments, normal densities.

The U-Net is a convolutional encoder and decoder with a skip connection at every block (Ho et al. 2020, section 4 and
appendix B). A block is a residual block with the time embedding added to its features, followed by self-attention at
chosen resolutions. Group normalisation (Wu and He 2018), swish, attention with one head (Vaswani et al. 2017).

Deviations from the released network: the number of groups of a normalisation is the largest divisor of its width that
is at most `groups` (there: always 32); the layers initialised near zero there (1e-10) start at exactly zero; with
padding "around" the 3x3 convolution of stride 2 pads all sides by one pixel (there: bottom and right only). With 3
channels at 32x32 the U-Net has the published 35.7 M parameters.

Shapes: B images, C channels, H height, W width, E numbers of the time embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Generator, Tensor, nn

from genbench.contract import Count, DataSpec, Recipe
from genbench.errors import ModelError

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


# ---- blocks -----------------------------------------------------------------------------------------------------


def sinusoid(t: Tensor, dims: int, longest: float = 10_000.0) -> Tensor:
    """Sines, then cosines of times t (B,) at dims / 2 frequencies from 1 down to 1 / longest: (B, dims) float32.

    Vaswani et al. 2017, section 3.5, with geometrically spaced frequencies that include 1 / longest. dims: even, at
    least 4.
    """
    half = dims // 2
    log_frequency = torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(longest) / (half - 1))
    angles = t.float()[:, None] * log_frequency.exp()
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def dropout(x: Tensor, rate: float, gen: Generator | None) -> Tensor:
    """Sets elements of x to 0 with probability rate and divides the others by 1 - rate; without a generator, x."""
    return x if gen is None or rate == 0 else x * dropout_factors(x.shape, rate, gen)


def dropout_factors(shape: Sequence[int], rate: float, gen: Generator) -> Tensor:
    """Numbers of this shape that are 0 with probability rate, else 1 / (1 - rate)."""
    return torch.rand(shape, generator=gen, device=gen.device).ge_(rate).div_(1 - rate)


class TimeEmbedding(nn.Module):
    """Sinusoids of `scale` times the time, and two linear layers."""

    def __init__(self, dims: int, scale: float) -> None:
        super().__init__()
        self.dims, self.scale = dims, scale
        self.first = scaled(nn.Linear(dims, 4 * dims))
        self.second = scaled(nn.Linear(4 * dims, 4 * dims))

    def forward(self, t: Tensor) -> Tensor:
        """Times (B,) to (B, 4 dims)."""
        return self.embedded(sinusoid(t * self.scale, self.dims))

    def embedded(self, sinusoids: Tensor) -> Tensor:
        """Sinusoids (B, dims) to (B, 4 dims), in the precision of the weights."""
        return self.second(F.silu(self.first(sinusoids.to(self.first.weight))))


class ResidualBlock(nn.Module):
    """shortcut(x) + conv(dropout(act(conv(act(x)) + time))), with 3x3 convolutions.

    act: normalisation, then swish. The second convolution starts at zero, so an untrained block equals its shortcut,
    which is the identity if the widths agree.
    """

    def __init__(self, inputs: int, outputs: int, embedding: int, rate: float, groups: int) -> None:
        super().__init__()
        self.rate = rate
        self.norm_in = group_norm(inputs, groups)
        self.conv_in = scaled(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.time = scaled(nn.Linear(embedding, outputs))
        self.norm_out = group_norm(outputs, groups)
        self.conv_out = scaled(nn.Conv2d(outputs, outputs, 3, padding=1), 0.0)
        self.shortcut = nn.Identity() if inputs == outputs else scaled(nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor, emb: Tensor, gen: Generator | None = None) -> Tensor:
        """Features (B, C_in, H, W) and embeddings (B, E) to (B, C_out, H, W); gen: for dropout, in training only."""
        h = self.conv_in(F.silu(self.norm_in(x)))
        h = h + self.time(F.silu(emb))[:, :, None, None]
        h = self.conv_out(dropout(F.silu(self.norm_out(h)), self.rate, gen))
        return self.shortcut(x) + h


class Attention(nn.Module):
    """Adds single-head self-attention over the H W positions. Starts as the identity."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.qkv = scaled(nn.Conv2d(channels, 3 * channels, 1))
        self.out = scaled(nn.Conv2d(channels, channels, 1), 0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        tokens = self.qkv(self.norm(x)).flatten(2).transpose(1, 2)  # (B, H W, 3 C)
        q, k, v = tokens[:, None].chunk(3, dim=-1)  # (B, 1 head, H W, C)
        mixed = F.scaled_dot_product_attention(q, k, v)[:, 0]
        return x + self.out(mixed.transpose(1, 2).unflatten(2, x.shape[2:]))


class UNetBlock(nn.Module):
    """A residual block, followed by self-attention where `attends`."""

    def __init__(self, inputs: int, outputs: int, embedding: int, rate: float, groups: int, attends: bool) -> None:
        super().__init__()
        self.residual = ResidualBlock(inputs, outputs, embedding, rate, groups)
        self.attention = Attention(outputs, groups) if attends else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor, gen: Generator | None = None) -> Tensor:
        """Features (B, C_in, H, W) and embeddings (B, E) to (B, C_out, H, W); gen as in ResidualBlock."""
        return self.attention(self.residual(x, emb, gen))


class Upsample(nn.Module):
    """Doubles height and width by repeating pixels, then applies a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = scaled(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2 H, 2 W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Halve(nn.Conv2d):
    """3x3 convolution of stride 2 with one pixel of padding at the bottom and on the right."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, 2 H, 2 W) to (B, C, H, W)."""
        return super().forward(F.pad(x, (0, 1, 0, 1)))


class Column(nn.Module):
    """The blocks at one resolution and the change of resolution after them, None at the end."""

    def __init__(self, blocks: Sequence[nn.Module], resize: nn.Module | None) -> None:
        super().__init__()
        self.blocks, self.resize = nn.ModuleList(blocks), resize


class Down(Column):
    """A column of the encoder, which ends with a halving."""

    def forward(self, x: Tensor, emb: Tensor, context: Any) -> list[Tensor]:
        """The features after each block and after the halving."""
        outputs = [x]
        for block in self.blocks:
            outputs.append(block(outputs[-1], emb, context))
        if self.resize is not None:
            outputs.append(self.resize(outputs[-1]))
        return outputs[1:]


class Up(Column):
    """A column of the decoder, which ends with a doubling."""

    def forward(self, x: Tensor, skips: list[Tensor], emb: Tensor, context: Any) -> Tensor:
        """Features at the next resolution; removes one skip per block from the end of the list."""
        for block in self.blocks:
            x = block(torch.cat([x, skips.pop()], dim=1), emb, context)
        return x if self.resize is None else self.resize(x)


# ---- U-Net ------------------------------------------------------------------------------------------------------


class Skeleton(nn.Module):
    """The encoder and decoder of a U-Net, with a skip connection at every block; its result is zero before training.

    shape, channels, multipliers, blocks, attention, groups, outputs: as in UNet. embed: of the times. block: called
    with the widths before and after a block and whether it attends; a block is called with features, the embedded times
    and the context. halve: called with a width. Raises ModelError when the sides cannot be halved often enough, or
    channels is odd or below 4.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: int,
        multipliers: tuple[int, ...],
        blocks: int,
        attention: tuple[int, ...],
        groups: int,
        outputs: int,
        embed: TimeEmbedding,
        block: Callable[[int, int, bool], nn.Module],
        halve: Callable[[int], nn.Conv2d],
    ) -> None:
        super().__init__()
        require_sizes(shape, channels, len(multipliers))
        colours, height, _ = shape
        widths = [channels * m for m in multipliers]
        skips = skip_widths(channels, widths, blocks)

        def column(inputs: Sequence[int], i: int) -> list[nn.Module]:
            return [block(n, widths[i], height >> i in attention) for n in inputs]

        self.embed = embed
        self.first = scaled(nn.Conv2d(colours, channels, 3, padding=1))
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, (before, width) in enumerate(pairwise([channels, *widths])):
            resize = scaled(halve(width)) if i < len(widths) - 1 else None
            self.down.append(Down(column([before, *[width] * (blocks - 1)], i), resize))
        self.middle = nn.ModuleList([block(widths[-1], widths[-1], attends) for attends in (True, False)])
        for i, before in reversed(list(enumerate([*widths[1:], widths[-1]]))):
            inputs = [h + skips.pop() for h in [before, *[widths[i]] * blocks]]
            self.up.append(Up(column(inputs, i), Upsample(widths[i]) if i else None))
        self.norm = group_norm(widths[0], groups)
        self.last = scaled(nn.Conv2d(widths[0], outputs, 3, padding=1), 0.0)
        self.to(memory_format=torch.channels_last)  # halves the time of small convolutions on a CPU

    def forward(self, x: Tensor, t: Tensor, context: Any = None) -> Tensor:
        """Images (B, C, H, W), times (B,) and what every block receives to (B, outputs, H, W)."""
        emb = self.embed(t)
        skips = [self.first(x)]
        for column in self.down:
            skips += column(skips[-1], emb, context)
        h = skips[-1]
        for block in self.middle:
            h = block(h, emb, context)
        for column in self.up:
            h = column(h, skips, emb, context)
        return self.last(F.silu(self.norm(h)))


class UNet(Skeleton):
    """Maps images and times to images; the context of a call is a generator for dropout, in training only.

    shape: (C, H, W). channels: width at full resolution, even. multipliers: factors on the width at each resolution;
    each resolution is half of the one before. blocks: residual blocks per resolution in the encoder; the decoder has
    one more. attention: heights with self-attention; the middle always has it. rate: dropout probability. time_scale:
    factor on the time. padding: of a halving, "around" (all sides) or "after" (bottom and right, as in the released
    network). outputs: channels of the result, C if None. Raises ModelError as Skeleton does.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: int,
        multipliers: tuple[int, ...],
        blocks: int,
        attention: tuple[int, ...] = (),
        rate: float = 0.0,
        groups: int = 32,
        time_scale: float = 1.0,
        padding: str = "around",
        outputs: int | None = None,
    ) -> None:
        super().__init__(
            shape, channels, multipliers, blocks, attention, groups, outputs or shape[0],
            TimeEmbedding(channels, time_scale),
            lambda before, after, attends: UNetBlock(before, after, 4 * channels, rate, groups, attends),
            lambda width: halving(width, padding),
        )  # fmt: skip


@dataclass(frozen=True)
class UNetSizes:
    """Sizes of a U-Net, for the Config of a model to inherit; the defaults are Ho et al.'s for CIFAR-10.

    channels: width at full resolution. multipliers: of the width at each resolution. blocks: residual blocks per
    resolution. attention: heights with self-attention. dropout: probability. groups: largest number of groups of a
    normalisation. padding: of a halving, as in UNet.
    """

    channels: Count = 128
    multipliers: tuple[Count, ...] = (1, 2, 2, 2)
    blocks: Count = 2
    attention: tuple[Count, ...] = (16,)
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.1
    groups: Count = 32
    padding: Literal["after", "around"] = "after"

    def network(self, data: DataSpec, time_scale: float, outputs: int | None = None) -> UNet:
        """The U-Net for images of this shape."""
        return UNet(
            data.shape, self.channels, self.multipliers, self.blocks, self.attention, self.dropout, self.groups,
            time_scale, self.padding, outputs,
        )  # fmt: skip


def usual_sizes(data: DataSpec) -> dict[str, Any]:
    """Sizes of a U-Net for images of this shape, with fewer resolutions where the sides become odd.

    From 256 pixels those of Ho et al. 2020 for LSUN and CelebA-HQ, from 32 those for CIFAR-10 (appendix B), attention
    at a height of 16 or the next below.
    """
    depth, side = 1 + halvings(data.height, data.width), min(data.height, data.width)
    multipliers = ((1, 1, 2, 2, 4, 4) if side >= 256 else (1, 2, 2, 2))[:depth]
    low = [data.height >> i for i in range(len(multipliers)) if data.height >> i <= 16]
    return {"multipliers": multipliers, "attention": tuple(low[:1]), "dropout": 0.0 if side >= 256 else 0.1}


def small_sizes(data: DataSpec) -> dict[str, Any]:
    """Sizes of a U-Net for a CPU, narrower at full resolution from 48 pixels.

    They have few groups, because on a CPU the time of a group normalisation grows with their number.
    """
    depth, side = 1 + halvings(data.height, data.width), min(data.height, data.width)
    if side < 16:
        channels, multipliers = 24, (1, 2)
    else:
        channels, multipliers = (16, (1, 2, 4)) if side < 48 else (8, (1, 2, 4, 8))
    return {"channels": channels, "multipliers": multipliers[:depth], "blocks": 1, "attention": (), "dropout": 0.0,
            "groups": 3, "padding": "around"}  # fmt: skip


def affordable(data: DataSpec, images: int, at_32: int) -> int:
    """Images of a short training: `images` below 32x32, above as many as take as long as `at_32` images of 32x32."""
    return images if min(data.height, data.width) < 32 else round(at_32 * 32**2 / (data.height * data.width))


def small_recipe(data: DataSpec, at_32: int = 100_000) -> Recipe:
    """A training of these U-Nets that takes minutes on a CPU; at_32: its images of 32x32.

    Above 32x32 it has batches of 8, for more steps: at 32x32, 4,366 of the pictures of tools/preset_trial.py in batches
    of 8 trained flow matching as far as 8,805 in batches of 16 (68% and 65% of samples were garments).
    """
    side = min(data.height, data.width)
    batch = 64 if side < 16 else 16 if side <= 32 else 8
    images = 60_000 if side < 16 else affordable(data, 200_000, at_32)
    return Recipe(lr=2e-3, batch=batch, warmup=100, decay="cosine", clip=1.0, ema=0.995, images=images)


def halving(channels: int, padding: str) -> nn.Conv2d:
    """The convolution that halves the sides, with padding "after" or "around"."""
    return Halve(channels) if padding == "after" else nn.Conv2d(channels, channels, 3, stride=2, padding=1)


def skip_widths(first: int, widths: Sequence[int], blocks: int) -> list[int]:
    """Widths of the encoder's features that the decoder receives, in the order in which they are computed."""
    skips = [first]
    for width in widths:
        skips += [width] * (blocks + 1)
    return skips[:-1]  # the lowest resolution is not halved


# ---- shared functions -------------------------------------------------------------------------------------------


def scaled(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer with uniform weights of variance gain^2 / mean(fan in, fan out) and zero biases."""
    nn.init.xavier_uniform_(layer.weight, gain)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """Group normalisation whose number of groups is the largest divisor of the width up to `groups`."""
    return nn.GroupNorm(max(g for g in range(1, groups + 1) if channels % g == 0), channels, eps=1e-6)


def halvings(height: int, width: int) -> int:
    """How often both sides can be halved exactly."""
    side = math.gcd(height, width)
    return (side & -side).bit_length() - 1


def posterior_draw(mean: Tensor, log_var: Tensor, noise: Tensor) -> Tensor:
    """A draw mean + sigma * noise from N(mean, exp(log_var)), noise from N(0, I); all (B, ...)."""
    return mean + (0.5 * log_var).exp() * noise


def kl_to_prior(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL(N(mean, exp(log_var)) || N(0, I)) in nats, summed over all but the first of (B, ...): (B,)."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).flatten(1).sum(1)


def log_normal(z: Tensor) -> Tensor:
    """Log density of N(0, I) at z (B, D): (B,), nats."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)


def require_sizes(shape: tuple[int, int, int], channels: int, resolutions: int) -> None:
    """Raises ModelError unless both sides can be halved resolutions - 1 times and the embedding is even."""
    _, height, width = shape
    if halvings(height, width) < resolutions - 1:
        raise ModelError(
            f"U-Net: config.multipliers: found {resolutions}, allowed: at most {halvings(height, width) + 1} for "
            f"{height}x{width} images"
        )
    if channels < 4 or channels % 2:
        raise ModelError(f"U-Net: config.channels: found {channels}, allowed: an even number, at least 4")


@torch.no_grad()
def measure_batch_norm(net: nn.Module, run: Callable[[], object], batches: int = 20) -> None:
    """Replaces the moments of every batch normalisation in net by plain averages over `batches` calls of run().

    Averaged weights need this: the moments measured during training belong to the weights before averaging.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average of all batches
    was_training = net.training
    net.train()
    for _ in range(batches):
        run()
    net.train(was_training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


class NoiseToImages(nn.Module):
    """`images` of a model as a network, for `for_onnx`: standard normal noise to images in [-1, 1]."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, noise: Tensor) -> Tensor:
        """(B, J) to (B, C, H, W)."""
        images: Tensor = self.model.images(noise)
        return images
