"""Generative adversarial network, GAN (Goodfellow et al. 2014, arXiv:1406.2661), with the losses that followed it.

Two networks of dense layers, trained in turns on images x in [-1, 1]: a generator G maps noise z to images, a
discriminator D distinguishes them from real images. Each step updates D `critic_steps` times, each time on a fresh
batch (use 5 with the Wasserstein loss), then G. The loss is an option. All losses are functions of D's output l before
any sigmoid, which the papers call D, C or f:

    loss               D minimises, mean over x and G(z)                 G minimises         paper
    minimax            softplus(-l(x)) + softplus(l(G(z)))               -softplus(l(G(z)))  Goodfellow 2014, eq. 1
    non-saturating     the same                                          softplus(-l(G(z)))  Goodfellow 2014, section 3
    least-squares      ((l(x) - 1)^2 + l(G(z))^2) / 2                    (l(G(z)) - 1)^2 / 2 Mao 2017, a 0, b = c = 1
    hinge              relu(1 - l(x)) + relu(1 + l(G(z)))                -l(G(z))            Lim and Ye 2017
    wasserstein-gp     l(G(z)) - l(x) + penalty (|dl/dx^| - 1)^2         -l(G(z))            Gulrajani 2017, eq. 3

with softplus(l) = log(1 + e^l), so that -log sigmoid(l) = softplus(-l) is finite for every l. x^ is drawn uniformly
from the line segment between a real and a generated image.

Deviations
- LeakyReLU(0.2), tanh output, Adam and Gaussian z, as is common for dense GANs now. The paper uses ReLU and sigmoid in
  G, maxout in D, momentum and uniform z. D has the paper's dropout (section 5).
- Samples are drawn with averaged weights (EMA).

Symbols   z noise (B, latent)     x image (B, C, H, W)     l(x) D's output (B,)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge, Lt
from torch import Generator, Tensor, nn

from genbench.contract import Batch, Condition, Count, DataSpec, Decodes, Loss, Model, Recipe, Stage, Weight
from zoo.nets import affordable, dropout_factors

LossName = Literal["minimax", "non-saturating", "least-squares", "hinge", "wasserstein-gp"]


@dataclass(frozen=True)
class GANConfig:
    """Sizes and the loss.

    latent: dimensions of z (paper 100). widths: hidden layers of G; D has them in reverse order. dropout: probability
    with which a hidden unit of D is set to 0. loss: see the module's table. penalty: weight of the gradient penalty
    (Gulrajani et al.: 10). critic_steps: updates of D per step (Gulrajani et al.: 5; Goodfellow et al.: 1).
    """

    latent: Count = 100
    widths: tuple[Count, ...] = (256, 512, 1024)
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.3
    loss: LossName = "non-saturating"
    penalty: Weight = 10.0
    critic_steps: Count = 1


# ---- losses -----------------------------------------------------------------------------------------------------

Terms = tuple[Tensor, Tensor]


def cross_entropy(real: Tensor, fake: Tensor) -> Terms:
    """-log D(x) and -log(1 - D(G(z))); for the optimal D their sum is 2 ln 2 - 2 JSD (Goodfellow 2014, theorem 1)."""
    return F.softplus(-real).mean(), F.softplus(fake).mean()


def least_squares(real: Tensor, fake: Tensor) -> Terms:
    """(l(x) - 1)^2 / 2 and l(G(z))^2 / 2 (Mao et al. 2017, eq. 9)."""
    return 0.5 * (real - 1).square().mean(), 0.5 * fake.square().mean()


def hinge(real: Tensor, fake: Tensor) -> Terms:
    """relu(1 - l(x)) and relu(1 + l(G(z))) (Lim and Ye 2017)."""
    return F.relu(1 - real).mean(), F.relu(1 + fake).mean()


def wasserstein(real: Tensor, fake: Tensor) -> Terms:
    """-l(x) and l(G(z)); for a 1-Lipschitz l, minus their sum is at most the Wasserstein-1 distance (Gulrajani)."""
    return -real.mean(), fake.mean()


DISCRIMINATOR_LOSSES: dict[str, Callable[[Tensor, Tensor], Terms]] = {
    "minimax": cross_entropy,
    "non-saturating": cross_entropy,
    "least-squares": least_squares,
    "hinge": hinge,
    "wasserstein-gp": wasserstein,
}
GENERATOR_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "minimax": lambda fake: -F.softplus(fake).mean(),
    "non-saturating": lambda fake: F.softplus(-fake).mean(),
    "least-squares": lambda fake: 0.5 * (fake - 1).square().mean(),
    "hinge": lambda fake: -fake.mean(),
    "wasserstein-gp": lambda fake: -fake.mean(),
}


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, gen: Generator) -> Tensor:
    """Mean of (|gradient of l at x^| - 1)^2, x^ = u x + (1 - u) G(z), one u ~ U[0, 1) an image (Gulrajani 2017, eq. 3).

    critic: images (B, ...) to l (B,). real, fake: (B, ...).
    """
    u = torch.rand(len(real), *[1] * (real.ndim - 1), generator=gen, device=real.device)
    between = (u * real + (1 - u) * fake).detach().requires_grad_()
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return (slope.flatten(1).norm(dim=1) - 1).square().mean()


# ---- networks ---------------------------------------------------------------------------------------------------


def dense(widths: tuple[int, ...]) -> list[nn.Module]:
    """Linear layers of these widths with LeakyReLU(0.2) between them."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.LeakyReLU(0.2)]
    return layers[:-1]


class Discriminator(nn.Module):
    """Images (B, C, H, W) to outputs l (B,): dense layers with LeakyReLU(0.2) between them."""

    def __init__(self, widths: tuple[int, ...], rate: float) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(*fans) for fans in pairwise(widths))
        self.out = nn.Linear(widths[-1], 1)
        self.rate = rate

    def forward(self, x: Tensor, gen: Generator | None = None) -> Tensor:
        """l(x); gen: random numbers for dropout, in training only."""
        return self._judge(x, self._factors(len(x), gen))

    def both(self, real: Tensor, fake: Tensor, gen: Generator | None = None) -> Terms:
        """l(real) and l(fake), in one pass, which reads the weights once; the random numbers are those of two."""
        factors = zip(self._factors(len(real), gen), self._factors(len(fake), gen), strict=True)
        judged = self._judge(torch.cat([real, fake]), [torch.cat(pair) for pair in factors])
        return judged[: len(real)], judged[len(real) :]

    def _factors(self, n: int, gen: Generator | None) -> list[Tensor]:
        """Dropout's factors (n, width) of each hidden layer; none without dropout."""
        if gen is None or self.rate == 0:
            return []
        return [dropout_factors((n, len(layer.bias)), self.rate, gen) for layer in self.hidden]

    def _judge(self, x: Tensor, factors: list[Tensor]) -> Tensor:
        h = x.flatten(1)
        for i, layer in enumerate(self.hidden):
            h = F.leaky_relu(layer(h), 0.2)
            h = h * factors[i] if factors else h
        return self.out(h).flatten()


# ---- model ------------------------------------------------------------------------------------------------------


class GAN(Model, Decodes):
    """A generator and a discriminator of dense layers, trained in turns; samples are G(z)."""

    family = "gan"
    Config = GANConfig

    def __init__(self, data: DataSpec, config: GANConfig | None = None, sampler: object = None) -> None:
        super().__init__(data, config, sampler)
        c = self.config
        self.generator = nn.Sequential(*dense((c.latent, *c.widths, data.dims)), nn.Tanh(), nn.Unflatten(1, data.shape))
        self.discriminator = Discriminator((data.dims, *c.widths[::-1]), c.dropout)
        self.stages = (Stage("fit", turns=("discriminator",) * c.critic_steps + ("generator",)),)

    @classmethod
    def preset(cls, data: DataSpec) -> GANConfig:
        """The default widths; below 16 pixels the small networks."""
        return GANConfig() if min(data.height, data.width) >= 16 else GAN.small(data)[0]

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """Adam as in DCGAN, and averaged weights; below 32 pixels the small recipe."""
        if min(data.height, data.width) < 32:
            return GAN.small(data)[1]
        return Recipe(lr=2e-4, betas=(0.5, 0.999), batch=64, ema=0.999, images=3_000_000)

    @classmethod
    def small(cls, data: DataSpec) -> tuple[GANConfig, Recipe]:
        """Adam without momentum, which needs fewer images; below 16 pixels narrower networks without dropout."""
        images = affordable(data, 3_000_000, 680_000)
        recipe = Recipe(lr=5e-4, betas=(0.0, 0.9), batch=64, ema=0.999, images=images)
        if min(data.height, data.width) < 16:
            return GANConfig(latent=32, widths=(256, 256), dropout=0.0), replace(recipe, images=400_000)
        return GANConfig(), recipe

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each network."""
        return {
            "discriminator": list(self.discriminator.parameters()),
            "generator": list(self.generator.parameters()),
        }

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The player's loss on equally many real and generated images."""
        z, judge = self.noise(len(batch), gen), partial(self.discriminator, gen=gen)
        if player == "generator":
            total = GENERATOR_LOSSES[self.config.loss](judge(self.decode(z)))
            return Loss(total, {"generator": total})
        with torch.no_grad():
            fake = self.decode(z)
        real_term, fake_term = DISCRIMINATOR_LOSSES[self.config.loss](*self.discriminator.both(batch.x, fake, gen))
        terms = {"real": real_term, "fake": fake_term}
        if self.config.loss != "wasserstein-gp":
            return Loss(real_term + fake_term, terms)
        penalty = self.config.penalty * gradient_penalty(judge, batch.x, fake, gen)
        return Loss(real_term + fake_term + penalty, {**terms, "penalty": penalty})

    def noise(self, n: int, gen: Generator) -> Tensor:
        """Latents z ~ N(0, I): (n, latent)."""
        return torch.randn(n, self.config.latent, generator=gen, device=gen.device)

    def decode(self, z: Tensor) -> Tensor:
        """G(z): (B, C, H, W)."""
        return self.generator(z)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """G(z) for n new draws of z."""
        return self.decode(self.noise(n, gen))
