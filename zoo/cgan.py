"""Conditional generative adversarial network, CGAN (Mirza and Osindero 2014, arXiv:1411.1784).

Generator and discriminator are both told the class y: G(z, y) and D(x, y) play the game of Goodfellow et al. (2014)
within every class (Mirza and Osindero, eq. 2). The nets are DCGAN's (Radford et al. 2016), the losses those of zoo.gan.
Two ways of telling the discriminator:

    concat        an embedding of y is one more channel of the image (the paper joins y to a hidden layer)
    projection    l(x, y) = psi(phi(x)) + e_y' phi(x) (Miyato and Koyama 2018, arXiv:1802.05637), phi the features
                  before the last layer, psi linear, e_y an embedding: for a given x two classes differ by
                  (e_a - e_b)' phi(x)

Deviations
- Convolutional nets instead of dense layers with maxout; embeddings of y instead of one-hot vectors before the first
  layer (a linear layer after a one-hot vector is an embedding); Adam, below 32 pixels without momentum; averaged
  weights.
- phi is a layer over the whole of the smallest map where Miyato and Koyama sum a map over its positions: where each of
  these sees a part of the image, a sum of opinions on parts lets a class shrink to one picture. Batch normalisation as
  in DCGAN where they normalise the spectrum.
- Generated images are asked for the labels of the real batch, so that real and generated classes are equally frequent.

Symbols   z noise (B, latent)   y class (B,)   x image (B, C, H, W)   l(x, y) D's output (B,)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from genbench.contract import Batch, ClassConditional, Condition, DataSpec, Loss, Model, Recipe, Stage
from zoo.dcgan import DCGAN, DCGANConfig, discriminator_net, generator_net, init_weights, sizes
from zoo.gan import DISCRIMINATOR_LOSSES, GENERATOR_LOSSES
from zoo.nets import measure_batch_norm


@dataclass(frozen=True)
class CGANConfig:
    """Sizes, and how D is told the class.

    latent: dimensions of z. label: dimensions of G's embedding of y, joined to z. width, critic_width, doublings: as in
    DCGANConfig. conditioning: "concat" (Mirza and Osindero) or "projection" (Miyato and Koyama). loss: as in GANConfig,
    without the gradient penalty.
    """

    latent: int = 100
    label: int = 32
    width: int = 64
    critic_width: int = 64
    doublings: int = 4
    conditioning: Literal["concat", "projection"] = "concat"
    loss: Literal["minimax", "non-saturating", "least-squares", "hinge"] = "non-saturating"


# ---- networks ---------------------------------------------------------------------------------------------------


class ConditionalGenerator(nn.Module):
    """z (B, latent) and y (B,) to images (B, C, H, W) in (-1, 1)."""

    def __init__(self, data: DataSpec, config: CGANConfig) -> None:
        super().__init__()
        self.label = nn.Embedding(data.classes, config.label)
        self.net = generator_net(data, dcgan_config(config, config.latent + config.label))

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        """G(z, y)."""
        return self.net(torch.cat([z, self.label(labels)], 1)[:, :, None, None])


class ConcatDiscriminator(nn.Module):
    """Images (B, C, H, W) and y (B,) to outputs (B,); y as one more channel."""

    def __init__(self, data: DataSpec, config: CGANConfig) -> None:
        super().__init__()
        self.plane = nn.Embedding(data.classes, data.height * data.width)
        deeper = DataSpec(data.channels + 1, data.height, data.width, data.levels)
        self.net = discriminator_net(deeper, dcgan_config(config, config.latent))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """l(x, y)."""
        return self.net(torch.cat([x, self.plane(labels).view(-1, 1, *x.shape[2:])], 1))


class ProjectionDiscriminator(nn.Module):
    """Images (B, C, H, W) and y (B,) to outputs (B,): psi(phi(x)) + e_y' phi(x)."""

    def __init__(self, data: DataSpec, config: CGANConfig) -> None:
        super().__init__()
        body = discriminator_net(data, dcgan_config(config, config.latent))[:-2]  # up to DCGAN's last convolution
        features = config.critic_width << (config.doublings - 1)
        smallest = sizes(data.height, data.width, config.doublings)[0]
        whole = nn.Conv2d(features, features, smallest, bias=False)
        self.body = nn.Sequential(*body, whole, nn.LeakyReLU(0.2), nn.Flatten())
        self.psi = nn.Linear(features, 1)
        self.label = nn.Embedding(data.classes, features)
        for layer in (self.psi, self.label):
            nn.init.normal_(layer.weight, 0.0, 0.02)

    def features(self, x: Tensor) -> Tensor:
        """Phi(x): (B, features)."""
        return self.body(x)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """l(x, y)."""
        phi = self.features(x)
        return self.psi(phi).squeeze(1) + (self.label(labels) * phi).sum(1)


def dcgan_config(config: CGANConfig, latent: int) -> DCGANConfig:
    """The sizes of a DCGAN whose nets take `latent` inputs."""
    return DCGANConfig(latent, config.width, config.critic_width, config.doublings)


DISCRIMINATORS = {"concat": ConcatDiscriminator, "projection": ProjectionDiscriminator}


# ---- model ------------------------------------------------------------------------------------------------------


class CGAN(Model, ClassConditional):
    """Generator and discriminator that are told the class; samples are G(z, y)."""

    family = "gan"
    Config = CGANConfig
    stages = (Stage("fit", turns=("discriminator", "generator")),)

    def __init__(self, data: DataSpec, config: CGANConfig | None = None, sampler: object = None) -> None:
        """Builds both nets. Raises ValueError for data without classes, or as DCGAN does."""
        super().__init__(data, config, sampler)
        if data.classes < 1:
            raise ValueError("a conditional GAN needs labelled data; found data without classes")
        DCGAN.check_doublings(data, self.config.doublings)
        self.generator = ConditionalGenerator(data, self.config)
        self.discriminator = DISCRIMINATORS[self.config.conditioning](data, self.config)
        self.apply(init_weights)

    @classmethod
    def preset(cls, data: DataSpec) -> CGANConfig:
        """As DCGAN's."""
        d = DCGAN.preset(data)
        label = 16 if min(data.height, data.width) < 16 else 32
        return CGANConfig(d.latent, label, d.width, d.critic_width, d.doublings)

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """DCGAN's, but without momentum below 32 pixels."""
        recipe = DCGAN.recipe(data)
        return replace(recipe, betas=(0.0, 0.9)) if min(data.height, data.width) < 32 else recipe

    def players(self) -> dict[str, list[nn.Parameter]]:
        """Each net's parameters."""
        return {
            "discriminator": list(self.discriminator.parameters()),
            "generator": list(self.generator.parameters()),
        }

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The player's loss on real images and as many generated ones of the same classes."""
        assert batch.labels is not None
        z, labels = self.noise(len(batch), gen), batch.labels
        if player == "generator":
            total = GENERATOR_LOSSES[self.config.loss](self.discriminator(self.generator(z, labels), labels))
            return Loss(total, {"generator": total.detach()})
        with torch.no_grad():
            fake = self.generator(z, labels)
        outputs = self.discriminator(batch.x, labels), self.discriminator(fake, labels)
        real_term, fake_term = DISCRIMINATOR_LOSSES[self.config.loss](*outputs)
        return Loss(real_term + fake_term, {"real": real_term.detach(), "fake": fake_term.detach()})

    def noise(self, n: int, gen: Generator) -> Tensor:
        """Latents z ~ N(0, I): (n, latent)."""
        return torch.randn(n, self.config.latent, generator=gen, device=gen.device)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """G(z, y) of n fresh z and the classes asked for; without a condition every class is equally likely."""
        z = self.noise(n, gen)
        if condition is None or condition.labels is None:
            return self.generator(z, torch.randint(self.data.classes, (n,), generator=gen, device=gen.device))
        return self.generator(z, condition.labels)

    def settle(self, gen: Generator) -> None:
        """Measures the generator's batch-normalisation moments anew on 5,000 images of random classes."""
        measure_batch_norm(self.generator, lambda: self.sample(250, gen))
