"""Deep convolutional generative adversarial network, DCGAN (Radford, Metz and Chintala 2016).

Two players on images x in [-1, 1]: a generator G of transposed convolutions maps noise z to images, a mirrored
convolutional discriminator D tells them from real ones. Each step the discriminator moves, then the generator, with
the non-saturating losses of Goodfellow et al. (2014, section 3) on logits. From the paper's sections 3 and 4: strided
convolutions instead of pooling, no hidden dense layers, batch normalisation in both nets but not at G's output nor at
D's input, ReLU in G with tanh at the end, LeakyReLU(0.2) in D, weights from N(0, 0.02^2), Adam(2e-4, beta_1 = 0.5).

Deviations
- Kernels are 4x4 and the widths 512-256-128-64, the form in common use since the first PyTorch ports; the paper's
  figure 1 shows 5x5 and 1024-512-256-128. 4x4 with stride 2 covers every pixel equally often, 5x5 does not.
- z is Gaussian, the paper's uniform in [-1, 1]: no corners, and interpolation stays where the prior is.
- Any size: the discriminator halves it `doublings` times and rounds down, the generator retraces the same sizes.
- Samples come from averaged weights (EMA 0.999) and batches are of 64, the paper's 128. Smaller images take larger
  Adam steps, below 16 pixels 2e-3 and narrower nets, below 32 pixels 5e-4 and batches of 32.
- Moments for batch normalisation in eval mode are measured on 5,000 generated images once training is over
  (`settle`), as averaged weights (EMA) have no use for the moments of the weights they were averaged from.

Symbols   z noise (B, latent)     x image (B, C, H, W)     l(x) logit of D (B,), D(x) = sigmoid(l(x))
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from genbench.contract import Batch, Condition, DataSpec, Decodes, Loss, Model, Recipe, Stage
from zoo.nets import measure_batch_norm


@dataclass(frozen=True)
class DCGANConfig:
    """Sizes; the defaults are the usual ones for 64x64 images.

    latent: dimensions of z (paper 100). width: generator channels before the last layer, twice as many at each halving
    of the size (paper 128, ports since 64). critic_width: discriminator channels after the first layer, likewise.
    doublings: times the generator doubles the size (paper 4).
    """

    latent: int = 100
    width: int = 64
    critic_width: int = 64
    doublings: int = 4


# ---- losses -----------------------------------------------------------------------------------------------------


def discriminator_loss(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """The terms -log D(x) and -log(1 - D(G(z))), each a mean over logits (B,), nats.

    Written with softplus(l) = log(1 + e^l) since -log sigmoid(l) = softplus(-l) is finite for every logit. Their sum at
    the best D is 2 ln 2 - 2 JSD(data, model) (Goodfellow et al. 2014, theorem 1); at logit 0 it is 2 ln 2.
    """
    return F.softplus(-real).mean(), F.softplus(fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """The non-saturating -log D(G(z)), mean over logits (B,), nats: slope -1/2 at logit 0 and -1 where D is sure."""
    return F.softplus(-fake).mean()


# ---- networks ---------------------------------------------------------------------------------------------------


def sizes(height: int, width: int, doublings: int) -> list[tuple[int, int]]:
    """(height, width) of the feature maps from smallest to image, each the next one halved and rounded down."""
    return [(height >> k, width >> k) for k in range(doublings, -1, -1)]


def init_weights(module: nn.Module) -> None:
    """Convolutions from N(0, 0.02^2) (section 4), batch normalisation's scale from N(1, 0.02^2) with shift 0."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def generator_net(data: DataSpec, config: DCGANConfig) -> nn.Sequential:
    """(B, latent, 1, 1) -> (B, C, H, W) in (-1, 1)."""
    maps = sizes(data.height, data.width, config.doublings)
    widths = [config.width << k for k in range(config.doublings - 1, -1, -1)] + [data.channels]
    layers: list[nn.Module] = [nn.ConvTranspose2d(config.latent, widths[0], maps[0], bias=False)]
    for (c_in, c_out), (small, large) in zip(pairwise(widths), pairwise(maps), strict=True):
        odd = (large[0] - 2 * small[0], large[1] - 2 * small[1])
        up = nn.ConvTranspose2d(c_in, c_out, 4, stride=2, padding=1, output_padding=odd, bias=False)
        layers += [nn.BatchNorm2d(c_in), nn.ReLU(), up]
    return nn.Sequential(*layers, nn.Tanh())


def discriminator_net(data: DataSpec, config: DCGANConfig) -> nn.Sequential:
    """(B, C, H, W) -> logits (B,)."""
    widths = [data.channels] + [config.critic_width << k for k in range(config.doublings)]
    layers: list[nn.Module] = []
    for k, (c_in, c_out) in enumerate(pairwise(widths)):
        layers.append(nn.Conv2d(c_in, c_out, 4, stride=2, padding=1, bias=False))
        layers += [nn.BatchNorm2d(c_out)] if k else []
        layers.append(nn.LeakyReLU(0.2))
    smallest = sizes(data.height, data.width, config.doublings)[0]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, smallest, bias=False), nn.Flatten(0))


# ---- model ------------------------------------------------------------------------------------------------------


class DCGAN(Model, Decodes):
    """Generator and discriminator, trained in turns; samples are G(z)."""

    family = "gan"
    Config = DCGANConfig
    stages = (Stage("fit", turns=("discriminator", "generator")),)

    def __init__(self, data: DataSpec, config: DCGANConfig | None = None, sampler: object = None) -> None:
        """Builds both nets for the shape of the data. Raises ValueError when it cannot be halved `doublings` times."""
        super().__init__(data, config, sampler)
        self.check_doublings(data, self.config.doublings)
        self.generator = generator_net(data, self.config)
        self.discriminator = discriminator_net(data, self.config)
        self.apply(init_weights)

    @staticmethod
    def check_doublings(data: DataSpec, doublings: int) -> None:
        """Raises ValueError when images of this size cannot be halved that often."""
        most = int(math.log2(min(data.height, data.width)))
        if not 1 <= doublings <= most:
            raise ValueError(f"doublings is {doublings}; allowed for {data.shape} images: 1 .. {most}")

    @classmethod
    def preset(cls, data: DataSpec) -> DCGANConfig:
        """Smallest maps of 4 to 7 pixels, which at 64 are the usual net; of 2 or 3 below 32, narrow nets below 16.

        D adds up what the positions of its smallest map say. With one halving less each would see 10 of 28 pixels, and
        nothing would judge whether distant parts fit together.
        """
        side = min(data.height, data.width)
        if side >= 32:
            return DCGANConfig(doublings=int(math.log2(side)) - 2)
        config = DCGANConfig(doublings=max(1, int(math.log2(side)) - 1))
        return config if side >= 16 else replace(config, latent=64, width=32, critic_width=32)

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """The paper's Adam with batches of 64 and averaged weights; larger steps for small images."""
        side = min(data.height, data.width)
        paper = Recipe(lr=2e-4, betas=(0.5, 0.999), batch=64, ema=0.999, images=1_500_000)
        if side < 16:
            return replace(paper, lr=2e-3, images=150_000)
        return replace(paper, lr=5e-4, batch=32) if side < 32 else paper

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Each net's parameters."""
        return {
            "discriminator": list(self.discriminator.parameters()),
            "generator": list(self.generator.parameters()),
        }

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The player's loss on as many generated images as there are real ones; D sees the two kinds in two batches."""
        z = self.noise(len(batch), gen)
        if player == "generator":
            total = generator_loss(self.discriminator(self.decode(z)))
            return Loss(total, {"generator": total.detach()})
        with torch.no_grad():
            fake = self.decode(z)
        real_term, fake_term = discriminator_loss(self.discriminator(batch.x), self.discriminator(fake))
        return Loss(real_term + fake_term, {"real": real_term.detach(), "fake": fake_term.detach()})

    def noise(self, n: int, gen: Generator) -> Tensor:
        """Latents z ~ N(0, I): (n, latent)."""
        return torch.randn(n, self.config.latent, generator=gen, device=gen.device)

    def decode(self, z: Tensor) -> Tensor:
        """G(z): (B, C, H, W)."""
        return self.generator(z[:, :, None, None])

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """G(z) of n fresh z."""
        return self.decode(self.noise(n, gen))

    def settle(self, gen: Generator) -> None:
        """Measures the generator's batch-normalisation moments anew on 5,000 generated images."""
        measure_batch_norm(self.generator, lambda: self.sample(250, gen))
