"""Unpaired image-to-image translation, CycleGAN (Zhu, Park, Isola and Efros 2017, arXiv:1703.10593).

Two domains a and b without pairs. Generators G: a -> b and F: b -> a, each with a discriminator of its target domain,
trained so that translations look like the target (least squares, section 4 with Mao et al. 2017) and come back as
they were:

    L = L_gan(G, D_b) + L_gan(F, D_a) + cycle (|F(G(a)) - a| + |G(F(b)) - b|)              eq. 3, means over pixels
        + cycle * identity (|G(b) - b| + |F(a) - a|)                                      section 5.2, optional
    L_gan(G, D) = mean (D(G(a)) - 1)^2          D minimises  (mean (D(b) - 1)^2 + mean D(G(a))^2) / 2

Discriminators judge overlapping patches (PatchGAN) and see generated images from a pool of the last 50, as often an old
one as the new (section 4, Shrivastava et al. 2017). Generators are residual nets with instance normalisation and
reflected borders (section 4 and appendix 7.2, after Johnson et al. 2016). Translation is deterministic.

Deviations
- The discriminators' turn translates the batch again instead of keeping what the generators' turn made: a turn is a
  function of weights and batch.
- Both generators take turns together with one optimiser, and both discriminators, as in the authors' code.
- Samples come from averaged weights (EMA); small images take fewer halvings, blocks and channels, and larger batches.

Symbols   x_a, x_b images (B, C, H, W) of the domains     D(x) patches (B, 1, h, w)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from genbench.contract import Batch, Condition, DataSpec, Loss, Model, Recipe, Stage, Translates


@dataclass(frozen=True)
class CycleGANConfig:
    """Sizes and weights; the defaults are the paper's for 256x256.

    width: channels of the first layer of both nets. halvings: times a generator halves the size. blocks: residual
    blocks between. critic_halvings: times a discriminator halves the size (3: 70x70 patches). cycle: weight of the
    cycle terms. identity: weight of the identity terms as a share of it. pool: generated images kept a domain.
    """

    width: int = 64
    halvings: int = 2
    blocks: int = 9
    critic_halvings: int = 3
    cycle: float = 10.0
    identity: float = 0.5
    pool: int = 50


# ---- losses -----------------------------------------------------------------------------------------------------


def fooling(judged: Tensor) -> Tensor:
    """Mean of (D(G(a)) - 1)^2, what a generator minimises."""
    return (judged - 1).square().mean()


def telling(real: Tensor, fake: Tensor) -> Tensor:
    """(mean (D(b) - 1)^2 + mean D(G(a))^2) / 2, what a discriminator minimises."""
    return 0.5 * ((real - 1).square().mean() + fake.square().mean())


def distance(x: Tensor, y: Tensor) -> Tensor:
    """Mean of |x - y| over images and pixels."""
    return (x - y).abs().mean()


class Pool(nn.Module):
    """The last images that a generator made: `query` returns each new image, or as often an old one in its place.

    Until it is full it stores and returns what it is given. Then each image is returned as it is or, with probability
    1/2, stored in the place of a random one that is returned instead (Shrivastava et al. 2017). Its images are
    buffers, so that a run that is continued goes on with the same pool.
    """

    def __init__(self, size: int, data: DataSpec) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("images", torch.zeros(size, *data.shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    def query(self, images: Tensor, gen: Generator) -> Tensor:
        """Images (B, C, H, W) to judge in the place of these."""
        if self.size == 0:
            return images
        places = torch.randint(self.size, (len(images),), generator=gen, device=images.device)
        old = torch.rand(len(images), generator=gen, device=images.device) < 0.5
        return torch.stack([self._exchange(*given) for given in zip(images.detach(), places, old, strict=True)])

    def _exchange(self, image: Tensor, place: Tensor, old: Tensor) -> Tensor:
        if self.filled < self.size:
            self.images[self.filled] = image
            self.filled += 1
            return image
        kept = self.images[place].clone()
        self.images[place] = torch.where(old, image, kept)
        return torch.where(old, kept, image)


# ---- networks ---------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """x + two 3x3 convolutions with reflected borders and instance normalisation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, padding_mode="reflect"),
            nn.InstanceNorm2d(width),
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
    last = nn.Conv2d(widths[0], data.channels, 7, padding=3, padding_mode="reflect")
    return nn.Sequential(*layers, last, nn.Tanh())


def after(width: int) -> list[nn.Module]:
    """What follows a convolution in a generator."""
    return [nn.InstanceNorm2d(width), nn.ReLU()]


def discriminator_net(data: DataSpec, config: CycleGANConfig) -> nn.Sequential:
    """(B, C, H, W) -> one output for each patch (B, 1, h, w); no normalisation after the first layer."""
    widths = [min(config.width << k, config.width * 8) for k in range(config.critic_halvings + 1)]
    layers: list[nn.Module] = [nn.Conv2d(data.channels, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    for k, (narrow, wide) in enumerate(pairwise(widths), start=1):
        stride = 2 if k < config.critic_halvings else 1
        layers += [nn.Conv2d(narrow, wide, 4, stride, 1), nn.InstanceNorm2d(wide), nn.LeakyReLU(0.2)]
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
        """Builds the four nets. Raises ValueError when the sides cannot be halved `halvings` times without a rest."""
        super().__init__(data, config, sampler)
        c = self.config
        if data.height % (1 << c.halvings) or data.width % (1 << c.halvings):
            raise ValueError(f"halvings is {c.halvings}; allowed: {data.height}x{data.width} halved without a rest")
        self.a_to_b, self.b_to_a = generator_net(data, c), generator_net(data, c)
        self.critic_a, self.critic_b = discriminator_net(data, c), discriminator_net(data, c)
        self.pool_a, self.pool_b = Pool(c.pool, data), Pool(c.pool, data)
        self.apply(init_weights)

    @classmethod
    def preset(cls, data: DataSpec) -> CycleGANConfig:
        """The paper's nets from 256 pixels, 6 blocks from 128; smaller ones for the small images of this package."""
        side = min(data.height, data.width)
        if side >= 128:
            return CycleGANConfig(blocks=9 if side >= 256 else 6)
        if side >= 16:
            return CycleGANConfig(width=16, blocks=3, critic_halvings=2)
        return CycleGANConfig(width=16, halvings=1, blocks=2, critic_halvings=1)

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """Adam(2e-4), constant for half of the training, then linearly to 0 (section 4); beta_1 0.5 as released."""
        if min(data.height, data.width) >= 128:
            return Recipe(lr=2e-4, betas=(0.5, 0.999), batch=1, decay="linear", ema=0.999, images=200_000)
        return Recipe(lr=4e-4, betas=(0.5, 0.999), batch=16, decay="linear", ema=0.995, images=100_000)

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The two generators, and the two discriminators."""
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
        terms = {"generators": fool.detach(), "cycle": cycle.detach()}
        if c.identity == 0:
            return Loss(fool + cycle, terms)
        same = c.cycle * c.identity * (distance(self.a_to_b(b), b) + distance(self.b_to_a(a), a))
        return Loss(fool + cycle + same, {**terms, "identity": same.detach()})

    def _discriminators_loss(self, a: Tensor, b: Tensor, gen: Generator) -> Loss:
        with torch.no_grad():
            fake_b, fake_a = self.pool_b.query(self.a_to_b(a), gen), self.pool_a.query(self.b_to_a(b), gen)
        on_a = telling(self.critic_a(a), self.critic_a(fake_a))
        on_b = telling(self.critic_b(b), self.critic_b(fake_b))
        return Loss(on_a + on_b, {"critic_a": on_a.detach(), "critic_b": on_b.detach()})

    def translate(self, x: Tensor, direction: str) -> Tensor:
        """G(x) for "a_to_b", F(x) for "b_to_a"; x and result (B, C, H, W) in [-1, 1]. Raises ValueError for others."""
        if direction not in ("a_to_b", "b_to_a"):
            raise ValueError(f"direction is '{direction}'; allowed: a_to_b, b_to_a")
        return self.a_to_b(x) if direction == "a_to_b" else self.b_to_a(x)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """The translations a to b of condition.images (n, C, H, W). Raises ValueError without them."""
        if condition is None or condition.images is None:
            raise ValueError("a translator samples by translating: give it Condition(images=...)")
        return self.translate(condition.images, "a_to_b")
