"""PixelCNN++ (Salimans, Karpathy, Chen and Kingma, ICLR 2017, arXiv:1701.05517).

Implemented: the probability of an image is the product over its pixels, in raster order, of the probability of a pixel
given those before it. A network with causal convolutions computes the parameters of all of them in one pass. One stream
sees the rows above, the other the row above and the pixels to the left (van den Oord et al. 2016, arXiv:1606.05328).
Both consist of gated residual blocks at three resolutions: strided convolutions halve it twice, and transposed ones
double it again (section 2.3). The second half of the blocks receives the features of the first (section 2.4). A pixel's
grey levels have a mixture of discretised logistic distributions (eq. 2), whose means depend linearly on the channels
before (eq. 3). The probabilities of all images sum to 1, so bits/dim is an exact mass.

A sample needs the pixels one after the other. Each convolution keeps its input. A new pixel evaluates each layer of the
second stream at one position and, once in each row, of the first stream in one row. Half the resolution is evaluated at
every second pixel of every second row. Thus a sample costs about as many operations as one pass over the image, but one
call of the network a pixel, so that small batches take longer.

Deviations
- Xavier weights without weight normalisation and data-dependent initialisation.
- The step size does not decay (0.999995 a step there). How long the paper trained is not stated; here 50 M images.
- Below 32x32 there are few narrow blocks, fewer components and no dropout, below 16x16 one resolution.

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
from dataclasses import dataclass, replace
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

    width: channels of both streams. scales: resolutions, each half of the one before. blocks: residual blocks at each
    of them before and after the lower ones, with one more after. components: K. dropout: probability.
    """

    width: Count = 160
    scales: Count = 3
    blocks: Count = 5
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

    @property
    def halved(self) -> Region:
        """The positions (i, j) of half the resolution for which (2 i, 2 j) is in the region."""
        return Region(*((v + 1) // 2 for v in self))


class Place(NamedTuple):
    """The region that a layer computes, of images with these sides; cache: of its inputs, without one none is kept."""

    region: Region
    sides: tuple[int, int]
    cache: Cache | None = None

    @property
    def halved(self) -> Place:
        """The same at half the resolution."""
        height, width = self.sides
        return Place(self.region.halved, ((height + 1) // 2, (width + 1) // 2), self.cache)


class Cache:
    """Features of whole images, with margins, that are computed pixel by pixel: of each layer its input."""

    def __init__(self) -> None:
        self.features = dict[nn.Module, Tensor]()

    def write(self, layer: nn.Module, x: Tensor, region: Region, sides: tuple[int, int]) -> Tensor:
        """The layer's features of the whole image after x (B, C, h, w) has been written to the region."""
        if layer not in self.features:
            zeros = F.pad(x.new_zeros(*x.shape[:2], *sides), MARGIN)
            self.features[layer] = zeros.contiguous(memory_format=torch.channels_last)  # a pixel's are together
        self.read(layer, region).copy_(x)
        return self.features[layer]

    def read(self, layer: nn.Module, region: Region) -> Tensor:
        """The layer's features in the region, a part of the whole image's."""
        top, bottom, left, right = region
        return self.features[layer][:, :, 2 + top : 2 + bottom, 1 + left : 1 + right]


class ShiftedConv(nn.Module):
    """A convolution whose output at (i, j) sees rows s i - up and below, columns s j - 1 and to the right.

    kernel: (rows, columns); the last row seen is s i - up + rows - 1. stride: s.
    """

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int], up: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = scaled(nn.Conv2d(inputs, outputs, kernel, stride))
        self.kernel, self.up, self.stride = kernel, up, stride

    def forward(self, x: Tensor, place: Place) -> Tensor:
        """The output in the place's region, (B, outputs, h, w); x: the input there, without a cache in the image."""
        return self.at(place.region, self.with_margins(x, place))

    def with_margins(self, x: Tensor, place: Place) -> Tensor:
        """The input of the whole image, with margins."""
        return F.pad(x, MARGIN) if place.cache is None else place.cache.write(self, x, place.region, place.sides)

    def at(self, region: Region, whole: Tensor) -> Tensor:
        """The output in a region of the output."""
        s, (top, bottom, left, right) = self.stride, region
        rows = slice(s * top + 2 - self.up, s * (bottom - 1) + 2 - self.up + self.kernel[0])
        columns = slice(s * left, s * (right - 1) + self.kernel[1])
        return convolved(self.conv, whole[:, :, rows, columns])


def convolved(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """conv(x); where the kernel fits x once, as a product of matrices, several times faster than a convolution."""
    if x.shape[2:] != conv.weight.shape[2:]:
        return conv(x)
    rows, weight = (v.permute(0, 2, 3, 1).flatten(1) for v in (x, conv.weight))
    return F.linear(rows, weight, conv.bias)[..., None, None]


class Doubling(nn.Module):
    """A transposed convolution with stride 2: the output in rows 2 i and 2 i + 1 comes from row i.

    With a kernel of two columns the same is true of columns; with three, column 2 j + 1 comes from j and j + 1.
    """

    def __init__(self, width: int, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(width, width, kernel, stride=2)
        nn.init.xavier_uniform_(self.conv.weight, 2.0)  # an output has a quarter of the products that the kernel has
        nn.init.zeros_(self.conv.bias)  # type: ignore[arg-type]
        self.cut = kernel[1] - 2

    def forward(self, x: Tensor, place: Place) -> Tensor:
        """Features (B, C, h, w) of the place at half the resolution to those of the place's region."""
        (top, _, left, _), (height, width) = place.region, place.sides
        wide = self.conv(x)[:, :, : height - top, self.cut : self.cut + width - left]
        if place.cache is None:
            return wide
        whole = Region(top, top + wide.shape[2], left, left + wide.shape[3])
        place.cache.write(self, wide, whole, place.sides)
        return place.cache.read(self, place.region)


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
        self.first = ShiftedConv(2 * width, width, kernel)
        self.second = ShiftedConv(2 * width, 2 * width, kernel)
        scaled(self.second.conv, 0.1)  # an untrained block is nearly the identity
        self.others = scaled(nn.Conv2d(2 * others, width, 1)) if others else None

    def forward(self, x: Tensor, others: list[Tensor], place: Place, gen: Generator | None) -> Tensor:
        """(B, C, h, w) to the same; gen: for dropout, in training only."""
        h = self.first(concat_elu(x), place)
        if self.others is not None:
            h = h + convolved(self.others, concat_elu(torch.cat(others, dim=1)))
        a, b = self.second(dropout(concat_elu(h), self.rate, gen), place).chunk(2, dim=1)
        return x + a * b.sigmoid()


@dataclass(frozen=True)
class Features:
    """Of one stream at one resolution. inner: of the resolutions below, None where they were not computed.

    encoded: the input and the output of each block of the first half. decoded: of each block of the second.
    """

    encoded: list[Tensor]
    decoded: list[Tensor]
    inner: Features | None

    def column(self, j: int) -> Features:
        """The features at column j, and at column j / 2 of half the resolution."""
        encoded, decoded = ([f[..., j : j + 1] for f in half] for half in (self.encoded, self.decoded))
        return Features(encoded, decoded, self.inner and self.inner.column(j // 2))


class Stream(nn.Module):
    """Blocks at one resolution with, between the two halves of them, a stream of half the resolution.

    kernel: (rows, columns) of the blocks. others: channels of another stream's features. scales: resolutions.
    """

    def __init__(self, c: PixelCNNConfig, kernel: tuple[int, int], others: int, scales: int) -> None:
        super().__init__()

        def made(blocks: int, others: int) -> nn.ModuleList:
            return nn.ModuleList([GatedBlock(c.width, kernel, c.dropout, others) for _ in range(blocks)])

        self.encoding = made(c.blocks, others)
        if scales > 1:
            self.halving = ShiftedConv(c.width, c.width, kernel, stride=2)
            self.inner = Stream(c, kernel, others, scales - 1)
            self.doubling = Doubling(c.width, kernel)
        self.decoding = made(c.blocks + (scales > 1), others + c.width)
        self.scales = scales

    def forward(self, x: Tensor, other: Features | None, place: Place, gen: Generator | None) -> Features:
        """The features in the place's region; x: after the first convolution; other: of the other stream there."""
        encoded = [x]
        for i, block in enumerate(self.encoding, 1):
            encoded.append(block(encoded[-1], other.encoded[i : i + 1] if other else [], place, gen))
        skips, decoded = list(encoded), list[Tensor]()
        inner_of_other = other and other.inner
        h, inner = self.below(encoded[-1], inner_of_other, place, gen) if self.scales > 1 else (skips.pop(), None)
        for i, block in enumerate(self.decoding):
            h = block(h, [*(other.decoded[i : i + 1] if other else []), skips.pop()], place, gen)
            decoded.append(h)
        return Features(encoded, decoded, inner)

    def below(
        self, x: Tensor, other: Features | None, place: Place, gen: Generator | None
    ) -> tuple[Tensor, Features | None]:
        """What half the resolution contributes to the place, and its features; of x, the last of the first half.

        Position (i, j) of half the resolution is computed with (2 i, 2 j), and contributes to the next three as well.
        """
        whole = self.halving.with_margins(x, place)
        if place.cache is not None and (place.region.top % 2 or place.region.left % 2):
            return place.cache.read(self.doubling, place.region), None
        features = self.inner(self.halving.at(place.region.halved, whole), other, place.halved, gen)
        return self.doubling(features.decoded[-1], place), features


class CausalNetwork(nn.Module):
    """Maps images to the parameters of each pixel's distribution given the pixels before it."""

    def __init__(self, channels: int, outputs: int, c: PixelCNNConfig) -> None:
        super().__init__()
        self.above = ShiftedConv(channels + 1, c.width, (2, 3), up=2)
        self.row_above = ShiftedConv(channels + 1, c.width, (1, 3))
        self.to_the_left = ShiftedConv(channels + 1, c.width, (2, 1))
        self.upper = Stream(c, (2, 3), 0, c.scales)
        self.left = Stream(c, (2, 2), c.width, c.scales)
        self.last = scaled(nn.Conv2d(2 * c.width, outputs, 1), 0.1)

    def upper_stream(self, seen: Tensor, place: Place, gen: Generator | None) -> Features:
        """The features of the rows above, of images with ones (B, C + 1, H, W)."""
        return self.upper(self.above(seen, place._replace(cache=None)), None, place, gen)

    def left_stream(self, seen: Tensor, upper: Features, place: Place, gen: Generator | None) -> Tensor:
        """The parameters (B, outputs, h, w), given the other stream's features in the same region."""
        uncached = place._replace(cache=None)
        first = self.row_above(seen, uncached) + self.to_the_left(seen, uncached)
        return convolved(self.last, concat_elu(self.left(first, upper, place, gen).decoded[-1]))

    def forward(self, x: Tensor, gen: Generator | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] to parameters (B, outputs, H, W); gen: for dropout, in training only."""
        height, width = x.shape[2:]
        place, seen = Place(Region(0, height, 0, width), (height, width)), with_ones(x)
        return self.left_stream(seen, self.upper_stream(seen, place, gen), place, gen)


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
        """Fewer and narrower blocks, larger steps; below 16x16 one resolution."""
        recipe = Recipe(lr=2e-3, batch=64, warmup=100, decay="cosine", clip=1.0, ema=0.995, images=60_000)
        if min(data.height, data.width) < 16:
            return PixelCNNConfig(width=32, scales=1, blocks=3, components=5, dropout=0.0), recipe
        config = PixelCNNConfig(width=24, blocks=1, components=5, dropout=0.0)
        return config, replace(recipe, batch=16, images=affordable(data, 100_000, 30_000))

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
        shape, cache = (data.height, data.width), Cache()
        choice = open_uniform((n, self.config.components, *shape), gen)
        uniform = open_uniform((n, *data.shape), gen)
        x = torch.zeros(n, *data.shape, device=gen.device)
        for i in range(data.height):
            upper = network.upper_stream(with_ones(x), Place(Region(i, i + 1, 0, data.width), shape, cache), None)
            for j in range(data.width):
                place = Place(Region(i, i + 1, j, j + 1), shape, cache)
                parameters = network.left_stream(with_ones(x), upper.column(j), place, None)
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
