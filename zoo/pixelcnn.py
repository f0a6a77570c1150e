"""PixelCNN++ (Salimans, Karpathy, Chen and Kingma, ICLR 2017, arXiv:1701.05517).

Implemented: the probability of an image is the product over its pixels, in raster order, of the probability of a pixel
given those before it. A network with causal convolutions computes the parameters of all of them in one pass. One stream
sees the rows above, the other the row above and the pixels to the left (van den Oord et al. 2016, arXiv:1606.05328).
Both consist of gated residual blocks, and the second half of the blocks receives the features of the first (section
2.4). A pixel's grey levels have a mixture of discretised logistic distributions (eq. 2), whose means depend linearly on
the channels before (eq. 3). The probabilities of all images sum to 1, so bits/dim is an exact mass.

A sample needs the pixels one after the other. Each convolution keeps its input, and a new pixel evaluates each layer of
the second stream at one position and, once in each row, of the first stream in one row. Thus a sample costs about as
many operations as one pass over the image, but one call of the network a pixel, so that small batches take longer.

Deviations
- All layers have the full resolution; the paper halves it twice and has 3 times 5 blocks in each half (here also 15).
- Xavier weights without weight normalisation and data-dependent initialisation.
- The step size does not decay (0.999995 a step there). How long the paper trained is not stated; here 50 M images.
- Below 32x32 there are few narrow blocks, fewer components, and no dropout.

Symbols
    paper           here                            shape
    pi_i            softmax of logits               (B, K, H, W)
    mu_i            means                           (B, K, C, H, W), without the channels before
    s_i             exp(log_scales)                 (B, K, C, H, W)
    alpha, beta, gamma  coefficients                (B, K, C, C, H, W): of channel d in the mean of channel c > d
    sigma           sigmoid
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Generator, Tensor, nn

from genbench.contract import Batch, Condition, Count, DataSpec, ExactLikelihood, Loss, Model, Recipe
from genbench.space import to_unit_range
from zoo.nets import affordable, dropout, scaled

LOWEST_LOG_SCALE = -7.0
MARGIN = (1, 1, 2, 0)  # zeros left, right, above and below the input of every convolution


@dataclass(frozen=True)
class PixelCNNConfig:
    """Sizes; the defaults are the released code's for CIFAR-10.

    width: channels of both streams. blocks: residual blocks in each half. components: K. dropout: probability.
    """

    width: Count = 160
    blocks: Count = 15
    components: Count = 10
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.5


# ---- mixture of discretised logistics ---------------------------------------------------------------------------


class Mixture(NamedTuple):
    """Parameters of the pixels' distributions: logits (B, K, H, W), means and log_scales (B, K, C, H, W).

    coefficients: (B, K, C, C, H, W), of channel d in the mean of channel c; only those with d < c are used.
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor
    coefficients: Tensor


def mixture(parameters: Tensor, components: int, channels: int) -> Mixture:
    """The network's output (B, K (1 + 2 C + C C), H, W) as a mixture; coefficients are within -1 and 1."""
    sizes = [components * n for n in (1, channels, channels, channels * channels)]
    logits, means, log_scales, coefficients = parameters.split(sizes, dim=1)
    shape = (components, channels)
    return Mixture(
        logits,
        means.unflatten(1, shape),
        log_scales.unflatten(1, shape).clamp_min(LOWEST_LOG_SCALE),
        coefficients.unflatten(1, (*shape, channels)).tanh(),
    )


def dependent_means(m: Mixture, x: Tensor) -> Tensor:
    """The means (B, K, C, H, W) given the channels of x (B, C, H, W) before each (eq. 3)."""
    earlier = torch.ones(x.shape[1], x.shape[1], device=x.device, dtype=x.dtype).tril(-1)
    return m.means + (m.coefficients * earlier[..., None, None] * x[:, None, None]).sum(3)


def log_logistic(x: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Log P of grey levels x in [-1, 1] under logistic distributions integrated over each level's bin (eq. 2), nats.

    All arguments broadcast. The lowest bin extends to -inf and the highest to inf. With a and b the bin's ends in units
    of the scale, sigma(a) - sigma(b) = sigma(a) sigma(-b) (1 - e^(b - a)), which keeps its digits in both tails.
    """
    level, half = ((x + 1) * ((levels - 1) / 2)).round(), 1 / (levels - 1)
    precision = (-log_scale).exp()
    x = level * (2 * half) - 1  # exactly on the grid, so that neighbouring bins share an edge
    high = ((x - mean + half) * precision).masked_fill(level == levels - 1, math.inf)
    low = ((x - mean - half) * precision).masked_fill(level == 0, -math.inf)
    width = (2 * half * precision).expand_as(high).masked_fill((level == 0) | (level == levels - 1), math.inf)
    return F.logsigmoid(high) + F.logsigmoid(-low) + (-torch.expm1(-width)).log()


def log_pixels(m: Mixture, x: Tensor, levels: int) -> Tensor:
    """Log P of each pixel given those before it (eq. 2 and 3) for images x (B, C, H, W) in [-1, 1]: (B, H, W) nats."""
    each = log_logistic(x[:, None], dependent_means(m, x), m.log_scales, levels).sum(2)
    return (m.logits.log_softmax(1) + each).logsumexp(1)


def draw_pixels(m: Mixture, choice: Tensor, uniform: Tensor, levels: int) -> Tensor:
    """Grey levels in [-1, 1] of pixels (B, C, H, W). choice (B, K, H, W), uniform (B, C, H, W): random in (0, 1).

    The component is the largest of logits + Gumbel noise. A logistic number rounded to the nearest level has the
    probabilities of eq. 2.
    """
    component = (m.logits - (-choice.log()).log()).argmax(1)[:, None, None]
    shape = (-1, 1, *m.means.shape[2:])
    means, scales = (v.gather(1, component.expand(shape))[:, 0] for v in (m.means, m.log_scales.exp()))
    index = component[:, :, None].expand(-1, 1, *m.coefficients.shape[2:])
    coefficients = m.coefficients.gather(1, index)[:, 0]
    x = torch.zeros_like(means)
    for c in range(x.shape[1]):
        mean = means[:, c] + (coefficients[:, c, :c] * x[:, :c]).sum(1)
        value = mean + scales[:, c] * uniform[:, c].logit()
        x[:, c] = ((value.clamp(-1, 1) + 1) * ((levels - 1) / 2)).round() * (2 / (levels - 1)) - 1
    return x


# ---- causal network ---------------------------------------------------------------------------------------------


class Region(NamedTuple):
    """Rows from .. to and columns from .. to, the ends excluded."""

    top: int
    bottom: int
    left: int
    right: int


class Cache:
    """The inputs of all convolutions, with their margins, for images (B, ., H, W) that are drawn pixel by pixel."""

    def __init__(self, height: int, width: int) -> None:
        self.sides, self.inputs = (height, width), dict[nn.Module, Tensor]()

    def write(self, layer: nn.Module, x: Tensor, region: Region) -> Tensor:
        """The layer's whole input after x (B, C, h, w) has been written to the region."""
        if layer not in self.inputs:
            zeros = F.pad(x.new_zeros(*x.shape[:2], *self.sides), MARGIN)
            self.inputs[layer] = zeros.contiguous(memory_format=torch.channels_last)  # a pixel's features are together
        top, bottom, left, right = region
        self.inputs[layer][:, :, 2 + top : 2 + bottom, 1 + left : 1 + right] = x
        return self.inputs[layer]


class ShiftedConv(nn.Module):
    """A convolution whose output at (i, j) sees rows i - up and below, columns j - back and to the right.

    kernel: (rows, columns); the last row seen is i - up + rows - 1.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], up: int, back: int) -> None:
        super().__init__()
        self.conv = scaled(nn.Conv2d(inputs, outputs, kernel))
        self.kernel, self.up, self.back = kernel, up, back

    def forward(self, x: Tensor, region: Region, cache: Cache | None = None) -> Tensor:
        """The output in the region, (B, outputs, h, w); x: the input in the region, without a cache in the image."""
        whole = F.pad(x, MARGIN) if cache is None else cache.write(self, x, region)
        top, bottom, left, right = region
        rows = slice(top + 2 - self.up, bottom + 1 - self.up + self.kernel[0])
        columns = slice(left + 1 - self.back, right - self.back + self.kernel[1])
        return convolved(self.conv, whole[:, :, rows, columns])


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x); where the kernel fits x once, as a product of matrices, several times faster than a convolution."""
    if x.shape[2:] != conv.weight.shape[2:]:
        return conv(x)
    rows, weight = (v.permute(0, 2, 3, 1).flatten(1) for v in (x, conv.weight))
    return F.linear(rows, weight, conv.bias)[..., None, None]


def concat_elu(x: Tensor) -> Tensor:
    """ELU of x and of -x: twice the channels."""
    return F.elu(torch.cat([x, -x], dim=1))


class GatedBlock(nn.Module):
    """x + a sigmoid(b), where a and b come from two causal convolutions of x and, between them, from other features.

    others: channels of the other features, 0 for none.
    """

    def __init__(self, width: int, kernel: tuple[int, int], rate: float, others: int) -> None:
        super().__init__()
        self.rate = rate
        self.first = ShiftedConv(2 * width, width, kernel, 1, 1)
        self.second = ShiftedConv(2 * width, 2 * width, kernel, 1, 1)
        scaled(self.second.conv, 0.1)  # an untrained block is nearly the identity
        self.others = scaled(nn.Conv2d(2 * others, width, 1)) if others else None

    def forward(
        self, x: Tensor, others: Tensor | None, place: tuple[Region, Cache | None], gen: Generator | None
    ) -> Tensor:
        """(B, C, h, w) to the same; gen: for dropout, in training only."""
        h = self.first(concat_elu(x), *place)
        if self.others is not None and others is not None:
            h = h + convolved(self.others, concat_elu(others))
        a, b = self.second(dropout(concat_elu(h), self.rate, gen), *place).chunk(2, dim=1)
        return x + a * b.sigmoid()


class CausalNetwork(nn.Module):
    """Maps images to the parameters of each pixel's distribution given the pixels before it."""

    def __init__(self, channels: int, outputs: int, c: PixelCNNConfig) -> None:
        super().__init__()
        self.above = ShiftedConv(channels + 1, c.width, (2, 3), 2, 1)
        self.row_above = ShiftedConv(channels + 1, c.width, (1, 3), 1, 1)
        self.to_the_left = ShiftedConv(channels + 1, c.width, (2, 1), 1, 1)
        halves = [(i, 0 if i < c.blocks else c.width) for i in range(2 * c.blocks)]
        self.upper = nn.ModuleList([GatedBlock(c.width, (2, 3), c.dropout, skip) for _, skip in halves])
        self.left = nn.ModuleList([GatedBlock(c.width, (2, 2), c.dropout, c.width + skip) for _, skip in halves])
        self.last = scaled(nn.Conv2d(2 * c.width, outputs, 1), 0.1)

    def upper_stream(self, first: Tensor, place: tuple[Region, Cache | None], gen: Generator | None) -> list[Tensor]:
        """The features of the rows above after the first convolution and each block."""
        features = [first]
        half = len(self.upper) // 2
        for i, block in enumerate(self.upper):
            skip = features[2 * half - 1 - i] if i >= half else None
            features.append(block(features[-1], skip, place, gen))
        return features

    def left_stream(
        self, first: Tensor, upper: list[Tensor], place: tuple[Region, Cache | None], gen: Generator | None
    ) -> Tensor:
        """The parameters (B, outputs, h, w), given the other stream's features in the same region."""
        features, half = [first], len(self.left) // 2
        for i, block in enumerate(self.left):
            others = [upper[i + 1], features[2 * half - 1 - i]] if i >= half else [upper[i + 1]]
            features.append(block(features[-1], torch.cat(others, dim=1), place, gen))
        return convolved(self.last, concat_elu(features[-1]))

    def forward(self, x: Tensor, gen: Generator | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] to parameters (B, outputs, H, W); gen: for dropout, in training only."""
        region = Region(0, x.shape[2], 0, x.shape[3])
        place, seen = (region, None), with_ones(x)
        upper = self.upper_stream(self.above(seen, *place), place, gen)
        return self.left_stream(self.row_above(seen, *place) + self.to_the_left(seen, *place), upper, place, gen)


def with_ones(x: Tensor) -> Tensor:
    """Images with a channel of ones, which tells them from the margin: (B, C + 1, H, W)."""
    return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


# ---- model ------------------------------------------------------------------------------------------------------


class PixelCNN(Model, ExactLikelihood):
    """An autoregressive model of pixels in raster order."""

    family = "autoregressive"
    Config = PixelCNNConfig

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        super().__init__(data, config, sampler)
        outputs = self.config.components * (1 + data.channels) ** 2
        self.network = CausalNetwork(data.channels, outputs, self.config)

    @classmethod
    def preset(cls, data: DataSpec) -> PixelCNNConfig:
        """The released code's sizes from 32x32, the small ones below."""
        return PixelCNNConfig() if min(data.height, data.width) >= 32 else PixelCNN.small(data)[0]

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """From 32x32 the released code's step size, batch (8 times 16) and average; below, the small one."""
        if min(data.height, data.width) >= 32:
            return Recipe(lr=1e-3, batch=128, ema=0.9995, flip=False, images=50_000_000)
        return PixelCNN.small(data)[1]

    @classmethod
    def small(cls, data: DataSpec) -> tuple[PixelCNNConfig, Recipe]:
        """Fewer and narrower blocks, larger steps."""
        config = PixelCNNConfig(width=32, blocks=3 if data.height < 16 else 4, components=5, dropout=0.0)
        batch, images = (64, 60_000) if min(data.height, data.width) < 16 else (16, affordable(data, 100_000, 12_000))
        recipe = Recipe(lr=2e-3, batch=batch, warmup=100, decay="cosine", clip=1.0, ema=0.995, images=images)
        return config, recipe

    def mixture(self, x: Tensor, gen: Generator | None = None) -> Mixture:
        """The distributions of all pixels of images x in [-1, 1], each given those before it."""
        return mixture(self.network(x, gen), self.config.components, self.data.channels)

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """Bits/dim of the images."""
        m = self.mixture(batch.x, gen if self.training else None)
        bits = -log_pixels(m, batch.x, self.data.levels).flatten(1).sum(1).mean() / (self.data.dims * math.log(2))
        return Loss(bits, {"bits": bits})

    def log_prob(self, pixels: Tensor, gen: Generator | None = None) -> Tensor:
        """Log P of the discrete pixels: (B,) nats, float64 on the CPU."""
        x = to_unit_range(pixels, self.data.levels).to(self.device)
        m = Mixture(*(v.to("cpu", torch.float64) for v in self.mixture(x)))
        return log_pixels(m, x.to("cpu", torch.float64), self.data.levels).flatten(1).sum(1)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Draws n images (n, C, H, W) in [-1, 1], one pixel after the other with cached activations."""
        data, network = self.data, self.network
        shape = (data.height, data.width)
        choice = open_uniform((n, self.config.components, *shape), gen)
        uniform = open_uniform((n, *data.shape), gen)
        x, cache = torch.zeros(n, *data.shape, device=gen.device), Cache(*shape)
        for i in range(data.height):
            row = (Region(i, i + 1, 0, data.width), None)
            known = with_ones(x)
            upper = network.upper_stream(network.above(known, *row), (row[0], cache), None)
            for j in range(data.width):
                place = Region(i, i + 1, j, j + 1)
                seen = with_ones(x)
                first = network.row_above(seen, place) + network.to_the_left(seen, place)
                parameters = network.left_stream(first, [u[..., j : j + 1] for u in upper], (place, cache), None)
                m = mixture(parameters, self.config.components, data.channels)
                here = (slice(None), slice(None), slice(i, i + 1), slice(j, j + 1))
                x[here] = draw_pixels(m, choice[here], uniform[here], data.levels)
        return x

    @property
    def evaluations(self) -> int:
        """One of each pixel."""
        return self.data.height * self.data.width


def open_uniform(shape: tuple[int, ...], gen: Generator) -> Tensor:
    """Uniform numbers strictly between 0 and 1, on the generator's device."""
    return torch.rand(shape, generator=gen, device=gen.device).clamp(1e-7, 1 - 1e-7)
