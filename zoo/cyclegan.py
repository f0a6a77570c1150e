"""Unpaired image-to-image translation, CycleGAN (Zhu, Park, Isola and Efros 2017, arXiv:1703.10593).

Images of two domains a and b, without pairs. Two generators, G: a -> b and F: b -> a, each have a discriminator of
their target domain. Training makes translations look like the target domain (least squares, section 4 with Mao et al.
2017) and makes each generator invert the other:

    L = L_gan(G, D_b) + L_gan(F, D_a) + cycle (|F(G(a)) - a| + |G(F(b)) - b|)              eq. 3, means over pixels
        + cycle * identity (|G(b) - b| + |F(a) - a|)                                      section 5.2, optional
    L_gan(G, D) = mean (D(G(a)) - 1)^2          D minimises  (mean (D(b) - 1)^2 + mean D(G(a))^2) / 2

Discriminators classify overlapping patches (PatchGAN). A pool stores the last 50 generated images, and with probability
1/2 a discriminator receives a stored image instead of a new one (section 4, Shrivastava et al. 2017). Generators are
residual networks with instance normalisation and reflection padding (section 4 and appendix 7.2, after Johnson et al.
2016). Translation is deterministic.

Deviations
- The discriminators' turn translates the batch again instead of storing the translations of the generators' turn: a
  turn is a function of weights and batch.
- Both generators are one player with one optimiser, and so are both discriminators, as in the authors' code.
- Images are not enlarged, cropped and mirrored at random in training (the authors' code: to 286, then 256 pixels, half
  of them mirrored).
- Samples are drawn with averaged weights (EMA). Small images have fewer halvings, blocks and channels, and larger
  batches.

Symbols   x_a, x_b images (B, C, H, W) of the domains     D(x) patches (B, 1, h, w)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Generator, Tensor, nn

from genbench.contract import (
    Batch,
    Condition,
    Count,
    DataSpec,
    Loss,
    Model,
    Recipe,
    Stage,
    Translates,
    Weight,
    across_processes,
    own_rows,
)
from genbench.errors import ModelError
from zoo.nets import affordable, halvings

NotNegative = Annotated[int, Ge(0)]


@dataclass(frozen=True)
class CycleGANConfig:
    """Sizes and weights; the defaults are the paper's for 256x256.

    width: channels of the first layer of generators and discriminators. halvings: how often a generator halves the
    size. blocks: residual blocks at the smallest size. critic_halvings: how often a discriminator halves the size (3:
    70x70 patches). cycle: weight of the cycle terms. identity: weight of the identity terms, as a multiple of cycle.
    pool: stored generated images per domain.
    """

    width: Count = 64
    halvings: NotNegative = 2
    blocks: NotNegative = 9
    critic_halvings: Count = 3
    cycle: Weight = 10.0
    identity: Weight = 0.5
    pool: NotNegative = 50


# ---- losses -----------------------------------------------------------------------------------------------------


def fooling(judged: Tensor) -> Tensor:
    """Mean of (D(G(a)) - 1)^2, which a generator minimises."""
    return (judged - 1).square().mean()


def telling(real: Tensor, fake: Tensor) -> Tensor:
    """(mean (D(b) - 1)^2 + mean D(G(a))^2) / 2, which a discriminator minimises."""
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Mean of |x - y| over images and pixels."""
    return (x - y).abs().mean()


class Pool(nn.Module):
    """Stores images that a generator made; `query` returns each new image or, with probability 1/2, a stored one.

    Until it is full, the pool stores every image and returns it. Then each image is either returned unchanged or, with
    probability 1/2, stored in the place of a random stored image, which is returned instead (Shrivastava et al. 2017).
    The stored images are buffers, so a continued run has the same pool. All decisions are tensor operations: reading
    `filled` on the CPU would wait for the GPU at every image.
    """

    def __init__(self, size: int, data: DataSpec) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.zeros(size, *data.shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def query(self, images: Tensor, gen: Generator) -> Tensor:
        """The images (B, C, H, W) that the discriminator receives instead of these new ones."""
        if self.size == 0:
            return images
        slots = torch.randint(self.size, (len(images), 1), generator=gen, device=images.device)
        swap = torch.rand(len(images), 1, generator=gen, device=images.device) < 0.5
        images, slots, swap = (across_processes(rows) for rows in (images.detach(), slots, swap))
        return own_rows(torch.cat([self._exchange(*new) for new in zip(images.split(1), slots, swap, strict=True)]))

    def _exchange(self, image: Tensor, slot: Tensor, swap: Tensor) -> Tensor:
        filling = self.filled < self.size
        slot = torch.where(filling, self.filled, slot)
        stored = self.images.index_select(0, slot)
        self.images.index_copy_(0, slot, torch.where(filling | swap, image, stored))
        self.filled.add_(filling)
        return torch.where(swap & ~filling, stored, image)


# ---- networks ---------------------------------------------------------------------------------------------------


class InstanceNorm(nn.InstanceNorm2d):
    """Each channel of each image with mean 0 and variance 1 over its pixels (Ulyanov et al. 2016), in channels_last.

    torch's returns another layout than convolutions do: every operation after it would convert it. A layer
    normalisation over H and W computes the same on a CPU in two thirds of the time.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        if x.device.type != "cpu":
            return super().forward(x)
        return F.layer_norm(x.contiguous(), x.shape[2:], eps=self.eps).contiguous(memory_format=torch.channels_last)


class LastConv(nn.Conv2d):
    """7x7 convolution with reflection padding.

    A CPU takes as long for one output channel as for 16. For one, and sides that are multiples of 4, a convolution of
    stride 4 therefore computes the 4x4 pixels of a block as channels, each with the kernel shifted to its pixel.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 7, padding=3, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        if x.device.type != "cpu" or self.out_channels > 1 or x.shape[2] % 4 or x.shape[3] % 4:
            return super().forward(x)
        assert self.bias is not None
        shifted = [F.pad(self.weight, (right, 3 - right, down, 3 - down)) for down in range(4) for right in range(4)]
        blocks = F.conv2d(F.pad(x, (3, 3, 3, 3), "reflect"), torch.cat(shifted), self.bias.expand(16), stride=4)
        return F.pixel_shuffle(blocks, 4)


class Block(nn.Module):
    """Adds two 3x3 convolutions with reflection padding and instance normalisation to x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect"),
            InstanceNorm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect"),
            InstanceNorm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        return x + self.net(x)


def generator_net(data: DataSpec, config: CycleGANConfig) -> nn.Sequential:
    """(B, C, H, W) -> (B, C, H, W) in (-1, 1)."""
    widths = [config.width << k for k in range(config.halvings + 1)]
    layers = [nn.Conv2d(data.channels, widths[0], 7, padding=3, padding_mode="reflect"), *after(widths[0])]
    for narrow, wide in pairwise(widths):
        layers += [nn.Conv2d(narrow, wide, 3, stride=2, padding=1), *after(wide)]
    layers += [Block(widths[-1]) for _ in range(config.blocks)]
    for narrow, wide in reversed(list(pairwise(widths))):
        layers += [nn.ConvTranspose2d(wide, narrow, 3, stride=2, padding=1, output_padding=1), *after(narrow)]
    return nn.Sequential(*layers, LastConv(widths[0], data.channels), nn.Tanh())


def after(width: int) -> list[nn.Module]:
    """The layers after each convolution of a generator but the last."""
    return [InstanceNorm(width), nn.ReLU(inplace=True)]


def discriminator_net(data: DataSpec, config: CycleGANConfig) -> nn.Sequential:
    """(B, C, H, W) -> one output for each patch (B, 1, h, w); no normalisation after the first layer."""
    widths = [min(config.width << k, config.width * 8) for k in range(config.critic_halvings + 1)]
    layers: list[nn.Module] = [nn.Conv2d(data.channels, widths[0], 4, stride=2, padding=1)]
    layers.append(nn.LeakyReLU(0.2, inplace=True))
    for k, (narrow, wide) in enumerate(pairwise(widths), start=1):
        stride = 2 if k < config.critic_halvings else 1
        layers += [nn.Conv2d(narrow, wide, 4, stride, 1), InstanceNorm(wide), nn.LeakyReLU(0.2, inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))


def init_weights(module: nn.Module) -> None:
    """Convolutions from N(0, 0.02^2) with bias 0 (appendix 7.1)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
        assert module.bias is not None
        nn.init.zeros_(module.bias)


# ---- model ------------------------------------------------------------------------------------------------------


class CycleGAN(Model, Translates):
    """Two generators and two discriminators; samples are translations from a to b."""

    family = "gan"
    Config = CycleGANConfig
    stages = (Stage("fit", turns=("generators", "discriminators")),)

    def __init__(self, data: DataSpec, config: CycleGANConfig | None = None, sampler: object = None) -> None:
        """Builds the four networks. Raises ModelError when the sides are not multiples of 2^halvings."""
        super().__init__(data, config, sampler)
        c = self.config
        most, size = halvings(data.height, data.width), f"{data.height}x{data.width}"
        if c.halvings > most:
            raise ModelError(
                f"CycleGAN: config.halvings: found {c.halvings}, allowed: at most {most} for {size} images"
            )
        self.a_to_b, self.b_to_a = generator_net(data, c), generator_net(data, c)
        self.critic_a, self.critic_b = discriminator_net(data, c), discriminator_net(data, c)
        self.pool_a, self.pool_b = Pool(c.pool, data), Pool(c.pool, data)
        self.apply(init_weights)

    @classmethod
    def preset(cls, data: DataSpec) -> CycleGANConfig:
        """The paper's networks: 9 blocks from 256 pixels, 6 from 128; narrower networks below."""
        side = min(data.height, data.width)
        if side >= 128:
            return CycleGANConfig(blocks=9 if side >= 256 else 6)
        return CycleGAN.small(data)[0]

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """Adam(2e-4), constant for half of the training, then linearly to 0 (section 4); beta_1 0.5 (released code)."""
        if min(data.height, data.width) >= 128:
            return Recipe(lr=2e-4, betas=(0.5, 0.999), batch=1, decay="linear", ema=0.999, images=200_000)
        return replace(CycleGAN.small(data)[1], images=100_000)

    @classmethod
    def small(cls, data: DataSpec) -> tuple[CycleGANConfig, Recipe]:
        """Networks of a quarter of the width with fewer blocks, and larger batches; odd sides are not halved."""
        images = affordable(data, 100_000, 38_000)
        recipe = Recipe(lr=4e-4, betas=(0.5, 0.999), batch=16, decay="linear", ema=0.995, images=images)
        most = halvings(data.height, data.width)
        if min(data.height, data.width) >= 16:
            return CycleGANConfig(width=16, halvings=min(2, most), blocks=3, critic_halvings=2), recipe
        return CycleGANConfig(width=16, halvings=min(1, most), blocks=2, critic_halvings=1), recipe

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of both generators, and of both discriminators."""
        return {
            "generators": [*self.a_to_b.parameters(), *self.b_to_a.parameters()],
            "discriminators": [*self.critic_a.parameters(), *self.critic_b.parameters()],
        }

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The player's loss; a is batch.source, b is batch.x."""
        assert batch.source is not None
        a, b = batch.source, batch.x
        return self._generators_loss(a, b) if player == "generators" else self._discriminators_loss(a, b, gen)

    def _generators_loss(self, a: Tensor, b: Tensor) -> Loss:
        c = self.config
        fake_b, fake_a = self.a_to_b(a), self.b_to_a(b)
        fool = fooling(self.critic_b(fake_b)) + fooling(self.critic_a(fake_a))
        cycle = c.cycle * (distance(self.b_to_a(fake_b), a) + distance(self.a_to_b(fake_a), b))
        terms = {"generators": fool, "cycle": cycle}
        if c.identity == 0:
            return Loss(fool + cycle, terms)
        same = c.cycle * c.identity * (distance(self.a_to_b(b), b) + distance(self.b_to_a(a), a))
        return Loss(fool + cycle + same, {**terms, "identity": same})

    def _discriminators_loss(self, a: Tensor, b: Tensor, gen: Generator) -> Loss:
        with torch.no_grad():
            fake_b, fake_a = self.pool_b.query(self.a_to_b(a), gen), self.pool_a.query(self.b_to_a(b), gen)
        on_a = telling(self.critic_a(a), self.critic_a(fake_a))
        on_b = telling(self.critic_b(b), self.critic_b(fake_b))
        return Loss(on_a + on_b, {"critic_a": on_a, "critic_b": on_b})

    def translate(self, x: Tensor, direction: str) -> Tensor:
        """G(x) for "a_to_b", F(x) for "b_to_a"; x and result (B, C, H, W) in [-1, 1]. Raises ValueError for others."""
        if direction not in ("a_to_b", "b_to_a"):
            raise ValueError(f"direction: found {direction!r}, allowed: a_to_b, b_to_a")
        return self.a_to_b(x) if direction == "a_to_b" else self.b_to_a(x)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Translations from a to b of condition.images (n, C, H, W). Raises ValueError without images."""
        if condition is None or condition.images is None:
            raise ValueError("condition: found no images, allowed: Condition(images=...) with the images to translate")
        return self.translate(condition.images, "a_to_b")
