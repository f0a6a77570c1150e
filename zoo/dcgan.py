"""Deep convolutional generative adversarial network, DCGAN (Radford, Metz and Chintala 2016).

Two networks on images x in [-1, 1]: a generator G of transposed convolutions maps noise z to images, a convolutional
discriminator D of the reverse shape distinguishes them from real images. Each step updates D, then G, with the
non-saturating losses of Goodfellow et al. (2014, section 3) on logits. From the paper's sections 3 and 4: strided
convolutions instead of pooling, no hidden dense layers, batch normalisation in both networks except at G's output and
D's input, ReLU in G with tanh at the end, LeakyReLU(0.2) in D, weights from N(0, 0.02^2), Adam(2e-4, beta_1 = 0.5).

Deviations
- Kernels are 4x4 and the widths 512-256-128-64, as in common PyTorch implementations; the paper's figure 1 shows 5x5
  and 1024-512-256-128. 4x4 with stride 2 covers every pixel equally often, 5x5 does not.
- z is Gaussian; the paper's is uniform in [-1, 1].
- Any image size: the discriminator halves it `doublings` times and rounds down, the generator uses the same sizes in
  reverse order.
- Samples are drawn with averaged weights (EMA 0.999), and the batch size is 64 (paper: 128). Smaller images have larger
  Adam steps: below 16 pixels 2e-3 and narrower networks, below 32 pixels 5e-4 and batches of 32.
- The moments of batch normalisation in eval mode are measured on 5,000 generated images after training (`settle`): the
  moments from training do not fit the averaged weights (EMA).

Symbols   z noise (B, latent)     x image (B, C, H, W)     l(x) logit of D (B,), D(x) = sigmoid(l(x))
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn

from genbench.contract import Batch, Condition, Count, DataSpec, Decodes, Loss, Model, Recipe, Stage
from genbench.errors import ModelError
from zoo.gan import GENERATOR_LOSSES, cross_entropy
from zoo.nets import affordable, measure_batch_norm


@dataclass(frozen=True)
class DCGANConfig:
    """Sizes; the defaults are the common ones for 64x64 images.

    latent: dimensions of z (paper 100). width: generator channels before the last layer, doubled at each halving of the
    size (paper 128, common implementations 64). critic_width: the same for the discriminator after its first layer.
    doublings: how often the generator doubles the size (paper 4).
    """

    latent: Count = 100
    width: Count = 64
    critic_width: Count = 64
    doublings: Count = 4


# ---- networks ---------------------------------------------------------------------------------------------------


def sizes(height: int, width: int, doublings: int) -> list[tuple[int, int]]:
    """(height, width) of the feature maps, from the smallest to the image; each is half of the next, rounded down."""
    return [(height >> k, width >> k) for k in range(doublings, -1, -1)]


def require_doublings(model: str, data: DataSpec, doublings: int) -> None:
    """Raises ModelError in the name of a model when images of this size cannot be halved that often."""
    most = int(math.log2(min(data.height, data.width)))
    if doublings > most:
        size = f"{data.height}x{data.width}"
        raise ModelError(f"{model}: config.doublings: found {doublings}, allowed: at most {most} for {size} images")


def init_weights(module: nn.Module) -> None:
    """Draws convolutions from N(0, 0.02^2) (section 4), batch normalisation's scales from N(1, 0.02^2)."""
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


PAPER = Recipe(lr=2e-4, betas=(0.5, 0.999), batch=64, ema=0.999, images=1_500_000)


class DCGAN(Model, Decodes):
    """A convolutional generator and discriminator, trained in turns; samples are G(z)."""

    family = "gan"
    Config = DCGANConfig
    stages = (Stage("fit", turns=("discriminator", "generator")),)

    def __init__(self, data: DataSpec, config: DCGANConfig | None = None, sampler: object = None) -> None:
        """Builds both networks. Raises ModelError when the images cannot be halved `doublings` times."""
        super().__init__(data, config, sampler)
        require_doublings(type(self).__name__, data, self.config.doublings)
        self.generator = generator_net(data, self.config)
        self.discriminator = discriminator_net(data, self.config)
        self.apply(init_weights)

    @classmethod
    def preset(cls, data: DataSpec) -> DCGANConfig:
        """Smallest maps of 4 to 7 pixels; below 32 pixels the small networks."""
        side = min(data.height, data.width)
        return DCGANConfig(doublings=int(math.log2(side)) - 2) if side >= 32 else DCGAN.small(data)[0]

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """The paper's Adam with batches of 64 and averaged weights; below 32 pixels the small recipe."""
        return PAPER if min(data.height, data.width) >= 32 else DCGAN.small(data)[1]

    @classmethod
    def small(cls, data: DataSpec) -> tuple[DCGANConfig, Recipe]:
        """Smallest maps of 2 or 3 pixels, narrower networks below 16 and from 48 pixels, larger step sizes.

        D's last layer combines all positions of its smallest map. With one halving less, each position would depend on
        10 of 28 pixels, and no layer would compare distant parts of an image.
        """
        side = min(data.height, data.width)
        config, images = DCGANConfig(doublings=max(1, int(math.log2(side)) - 1)), affordable(data, 1_500_000, 285_000)
        recipe = replace(PAPER, lr=5e-4, batch=32, images=images)
        if side < 16:
            return replace(config, latent=64, width=32, critic_width=32), replace(PAPER, lr=2e-3, images=150_000)
        return (replace(config, width=32, critic_width=32) if side >= 32 else config), recipe

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each network."""
        return {
            "discriminator": list(self.discriminator.parameters()),
            "generator": list(self.generator.parameters()),
        }

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The player's loss on equally many real and generated images; D receives them as two batches."""
        z = self.noise(len(batch), gen)
        if player == "generator":
            total = GENERATOR_LOSSES["non-saturating"](self.discriminator(self.decode(z)))
            return Loss(total, {"generator": total})
        with torch.no_grad():
            fake = self.decode(z)
        real_term, fake_term = cross_entropy(self.discriminator(batch.x), self.discriminator(fake))
        return Loss(real_term + fake_term, {"real": real_term, "fake": fake_term})

    def noise(self, n: int, gen: Generator) -> Tensor:
        """Latents z ~ N(0, I): (n, latent)."""
        return torch.randn(n, self.config.latent, generator=gen, device=gen.device)

    def decode(self, z: Tensor) -> Tensor:
        """G(z): (B, C, H, W)."""
        return self.generator(z[:, :, None, None])

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """G(z) for n new draws of z."""
        return self.decode(self.noise(n, gen))

    def settle(self, gen: Generator) -> None:
        """Measures the generator's batch-normalisation moments again, on 5,000 generated images."""
        measure_batch_norm(self.generator, lambda: self.sample(250, gen))
