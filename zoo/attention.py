"""Networks of latent diffusion: text encoder, U-Net with cross-attention, autoencoder, critic.

The U-Net of Rombach et al. 2022 (appendix E.2.1) is that of zoo.nets with transformers at chosen heights. A transformer
applies self-attention over the positions, cross-attention to the tokens of a text, and a gated feed-forward layer
(GEGLU, Shazeer 2020; its use and the order follow the released code). Each part normalises its input and is added to
it. Attention follows Vaswani et al. 2017.
The autoencoder is that of Esser et al. 2021 without its codebook, the critic is the discriminator of Isola et al. 2017.
With Stable Diffusion's sizes, the U-Net has the published 859,520,964 parameters and the autoencoder 83,653,863.

Deviations: in the U-Net, those of zoo.nets, unless it is `released`: it then computes what Stable Diffusion 1's does.
The text encoder needs no vocabulary: its tokens are the 256 bytes and one padding token, which attention does not mask.
It is a transformer of the same blocks without cross-attention.

Shapes: B images, C channels, H height, W width, E numbers of the time embedding, L tokens of a text, D their width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genbench.errors import ModelError
from zoo.nets import Attention, ResidualBlock, Skeleton, TimeEmbedding, Upsample, group_norm, halving, scaled

PADDING = 256  # the token after the last byte
TOKENS = 257
RELEASED_EPS = 1e-5  # of Stable Diffusion's normalisations in residual blocks and before the last layer


# ---- text -------------------------------------------------------------------------------------------------------


class SharedTokens(NamedTuple):
    """Sequences of tokens (U, L, D), and which of them each image has, as rows with a single one (B, U)."""

    tokens: Tensor
    which: Tensor

    @property
    def each(self) -> Tensor:
        """The sequence of each image (B, L, D)."""
        return self.through(nn.Identity())

    def through(self, layer: nn.Module) -> Tensor:
        """What a layer of single tokens makes of each image's sequence (B, L, E), computed once for each sequence.

        A product picks the sequences: its gradient is a product too, where that of indexing adds row by row.
        """
        values: Tensor = layer(self.tokens)
        return (self.which.to(values.dtype) @ values.flatten(1)).unflatten(1, values.shape[1:])


class MultiHeadAttention(nn.Module):
    """Attention with queries from one sequence, keys and values from another or the same; a bias only in `out`."""

    def __init__(self, width: int, source: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(source, width, bias=False)
        self.value = nn.Linear(source, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, source: Tensor | SharedTokens) -> Tensor:
        """Tokens (B, N, width) attending to tokens (B, M, source): (B, N, width)."""
        shared = source.through if isinstance(source, SharedTokens) else lambda layer: layer(source)
        q, k, v = (
            tokens.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, N or M, width / heads)
            for tokens in (self.query(x), shared(self.key), shared(self.value))
        )
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class GatedFeedForward(nn.Module):
    """Two linear layers to four times the width, the product of one and GELU of the other, a linear layer back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(width, 8 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, width) to the same."""
        value, gate = self.inner(x).chunk(2, dim=-1)
        return self.out(value * F.gelu(gate))


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention if the text has a width, feed-forward; each normalises x and is added to it."""

    def __init__(self, width: int, heads: int, text: int = 0) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(3 if text else 2)])
        self.attend = MultiHeadAttention(width, width, heads)
        self.cross = MultiHeadAttention(width, text, heads) if text else None
        self.feed = GatedFeedForward(width)

    def forward(self, x: Tensor, text: Tensor | SharedTokens | None = None) -> Tensor:
        """Tokens (B, N, width) and a text's (B, L, D) to (B, N, width)."""
        h = self.norms[0](x)
        x = x + self.attend(h, h)
        if self.cross is not None:
            x = x + self.cross(self.norms[1](x), text)
        return x + self.feed(self.norms[-1](x))


class TextEncoder(nn.Module):
    """Tokens (B, L) to contextual features (B, L, D): embeddings of byte and position, then a transformer."""

    def __init__(self, length: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.length = length
        self.token, self.position = nn.Embedding(TOKENS, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList([TransformerBlock(width, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)

    def tokenise(self, texts: Sequence[str]) -> Tensor:
        """UTF-8 bytes of each text, cut or filled up to the length: (B, length) int64 on the CPU."""
        rows = [list(text.encode()[: self.length]) for text in texts]
        return torch.tensor([row + [PADDING] * (self.length - len(row)) for row in rows], dtype=torch.long)

    def forward(self, tokens: Tensor) -> Tensor:
        """Features (B, L, D) of tokens (B, L)."""
        h = self.token(tokens) + self.position.weight
        for block in self.blocks:
            h = block(h)
        return self.norm(h)


# ---- U-Net ------------------------------------------------------------------------------------------------------


class ReleasedTimeEmbedding(TimeEmbedding):
    """Stable Diffusion's: cosines before sines, at frequencies from 1 down to 10,000^(2 / dims - 1)."""

    def forward(self, t: Tensor) -> Tensor:
        """Times (B,) to (B, 4 dims)."""
        half = self.dims // 2
        log_frequency = torch.arange(half, dtype=torch.float32, device=t.device) * (-math.log(10_000) / half)
        angles = t.float()[:, None] * log_frequency.exp()
        return self.embedded(torch.cat([angles.cos(), angles.sin()], dim=1))


class SpatialTransformer(nn.Module):
    """Adds the output of a transformer block on the H W positions and a text. Starts as the identity."""

    def __init__(self, channels: int, heads: int, text: int, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.enter = nn.Conv2d(channels, channels, 1)
        self.block = TransformerBlock(channels, heads, text)
        self.leave = scaled(nn.Conv2d(channels, channels, 1), 0.0)

    def forward(self, x: Tensor, text: Tensor | SharedTokens) -> Tensor:
        """Features (B, C, H, W) and a text (B, L, D) to (B, C, H, W)."""
        tokens = self.enter(self.norm(x)).flatten(2).transpose(1, 2)  # (B, H W, C)
        return x + self.leave(self.block(tokens, text).transpose(1, 2).unflatten(2, x.shape[2:]))


class ConditionalBlock(nn.Module):
    """A residual block, followed by a spatial transformer unless that is None."""

    def __init__(self, residual: ResidualBlock, transformer: SpatialTransformer | None) -> None:
        super().__init__()
        self.residual, self.transformer = residual, transformer

    def forward(self, x: Tensor, emb: Tensor, text: Tensor | SharedTokens) -> Tensor:
        """Features (B, C_in, H, W), embeddings (B, E) and texts (B, L, D) to (B, C_out, H, W)."""
        h = self.residual(x, emb)
        return h if self.transformer is None else self.transformer(h, text)


class ConditionalUNet(Skeleton):
    """Maps images, times and texts to images; the context of a call is the texts, (B, L, D) or shared.

    shape: (C, H, W). channels, multipliers, blocks, groups: as in zoo.nets.UNet. attention: heights whose blocks have a
    transformer; the middle always has one. heads: number of heads of every attention. text: width D of text tokens.
    released: with the time embedding and the eps of normalisations that Stable Diffusion 1 has.
    Raises ModelError as zoo.nets.Skeleton does, and when a width is not a multiple of heads.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: int,
        multipliers: tuple[int, ...],
        blocks: int,
        attention: tuple[int, ...],
        heads: int,
        text: int,
        groups: int = 32,
        released: bool = False,
    ) -> None:
        require_heads((*(channels * m for m in multipliers), text), heads)

        def block(before: int, after: int, attends: bool) -> ConditionalBlock:
            transformer = SpatialTransformer(after, heads, text, groups) if attends else None
            return ConditionalBlock(ResidualBlock(before, after, 4 * channels, 0.0, groups), transformer)

        embed = (ReleasedTimeEmbedding if released else TimeEmbedding)(channels, scale=1.0)
        super().__init__(
            shape, channels, multipliers, blocks, attention, groups, shape[0], embed, block,
            lambda width: halving(width, "around"),
        )  # fmt: skip
        if released:
            residuals = [block for block in self.modules() if isinstance(block, ResidualBlock)]
            for norm in [self.norm, *(n for block in residuals for n in (block.norm_in, block.norm_out))]:
                norm.eps = RELEASED_EPS


def require_heads(widths: Sequence[int], heads: int) -> None:
    """Raises ModelError unless every width is a multiple of heads."""
    for width in widths:
        if width % heads:
            raise ModelError(
                f"U-Net: config.heads: found {heads}, allowed: a divisor of every width, one width is {width}"
            )


# ---- autoencoder and critic -------------------------------------------------------------------------------------


class ConvolutionBlock(nn.Module):
    """Adds two 3x3 convolutions to the input, each after normalisation and swish."""

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        first, second = (nn.Conv2d(n, outputs, 3, padding=1) for n in (inputs, outputs))
        self.net = nn.Sequential(*activated(inputs, groups), first, *activated(outputs, groups), second)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        return self.shortcut(x) + self.net(x)


def activated(channels: int, groups: int) -> list[nn.Module]:
    """Normalisation and swish."""
    return [group_norm(channels, groups), nn.SiLU()]


def middle(channels: int, groups: int) -> list[nn.Module]:
    """The layers at the lowest resolution of encoder and decoder."""
    return [
        ConvolutionBlock(channels, channels, groups),
        Attention(channels, groups),
        ConvolutionBlock(channels, channels, groups),
    ]


class Encoder(nn.Module):
    """Images (B, C, H, W) to the mean and log-variance of latents, each (B, c, h, w).

    widths: channels at each resolution; each resolution is half of the one before. blocks: at each resolution.
    latent: c.
    """

    def __init__(self, colours: int, latent: int, widths: Sequence[int], blocks: int, groups: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(colours, widths[0], 3, padding=1)]
        for i, (before, width) in enumerate(pairwise([widths[0], *widths])):
            layers += [ConvolutionBlock(n, width, groups) for n in [before, *[width] * (blocks - 1)]]
            if i < len(widths) - 1:  # as in the released code: padding at the bottom and on the right only
                layers += [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(width, width, 3, stride=2)]
        layers += [*middle(widths[-1], groups), *activated(widths[-1], groups)]
        layers += [nn.Conv2d(widths[-1], 2 * latent, 3, padding=1), nn.Conv2d(2 * latent, 2 * latent, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of images x; the log-variance is clamped to -30 .. 20."""
        mean, log_var = self.layers(x).to(x.dtype).chunk(2, dim=1)
        return mean, log_var.clamp(-30, 20)


class Decoder(nn.Module):
    """Latents (B, c, h, w) to images (B, C, H, W), not clamped; the encoder's layers reversed, with one more block."""

    def __init__(self, colours: int, latent: int, widths: Sequence[int], blocks: int, groups: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(latent, latent, 1), nn.Conv2d(latent, widths[-1], 3, padding=1)]
        layers += middle(widths[-1], groups)
        for i, (before, width) in enumerate(pairwise([widths[-1], *reversed(widths)])):
            layers += [ConvolutionBlock(n, width, groups) for n in [before, *[width] * blocks]]
            layers += [Upsample(width)] if i < len(widths) - 1 else []
        self.layers = nn.Sequential(*layers, *activated(widths[0], groups))
        self.last = nn.Conv2d(widths[0], colours, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Images of latents z."""
        return self.last(self.layers(z)).to(z.dtype)


class PatchCritic(nn.Module):
    """Images (B, C, H, W) to the outputs of all layers; the last is one number per patch (B, 1, h, w).

    The discriminator of Isola et al. 2017. times: how often it halves the sides.
    """

    def __init__(self, colours: int, width: int, times: int, groups: int) -> None:
        super().__init__()
        widths = [width * min(2**k, 8) for k in range(times + 1)]
        layers = [nn.Sequential(nn.Conv2d(colours, widths[0], 4, 2, 1), nn.LeakyReLU(0.2))]
        for k, (narrow, wide) in enumerate(pairwise(widths), start=1):
            conv = nn.Conv2d(narrow, wide, 4, 2 if k < times else 1, 1, bias=False)
            layers.append(nn.Sequential(conv, group_norm(wide, groups), nn.LeakyReLU(0.2)))
        self.layers = nn.ModuleList([*layers, nn.Conv2d(widths[-1], 1, 4, padding=1)])

    def forward(self, x: Tensor) -> list[Tensor]:
        """The outputs of all layers for images x."""
        outputs = [x]
        for layer in self.layers:
            outputs.append(layer(outputs[-1]))
        return outputs[1:]
