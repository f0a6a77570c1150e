"""Conditional generative adversarial network, CGAN (Mirza and Osindero 2014, arXiv:1411.1784).

Generator and discriminator both receive the class y: G(z, y) and D(x, y) solve the minimax problem of Goodfellow et
al. (2014) within every class (Mirza and Osindero, eq. 2). The networks are DCGAN's (Radford et al. 2016), the losses
those of zoo.gan. The discriminator receives the class in one of two ways:

    concat        an embedding of y is an additional channel of the image (the paper joins y to a hidden layer)
    projection    l(x, y) = psi(phi(x)) + e_y' phi(x) (Miyato and Koyama 2018, arXiv:1802.05637), where phi are the
                  features before the last layer, psi is linear and e_y is an embedding: for the same x, the outputs for
                  two classes differ by (e_a - e_b)' phi(x)

Deviations
- Convolutional networks instead of dense layers with maxout; embeddings of y instead of one-hot vectors before the
  first layer (a linear layer applied to a one-hot vector is an embedding); Adam, below 32 pixels without momentum;
  averaged weights.
- phi is a layer over all positions of the smallest map; Miyato and Koyama sum a map over its positions. Such a sum
  scores parts of the image independently, and a class can then collapse to a single image. Batch normalisation as in
  DCGAN; Miyato and Koyama use spectral normalisation.
- Generated images have the labels of the real batch, so real and generated classes are equally frequent.

Symbols   z noise (B, latent)   y class (B,)   x image (B, C, H, W)   l(x, y) D's output (B,)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from genbench.contract import Batch, ClassConditional, Condition, Count, DataSpec, Loss, Model, Recipe, Stage
from genbench.errors import ModelError
from zoo.dcgan import DCGAN, DCGANConfig, discriminator_net, generator_net, init_weights, require_doublings, sizes
from zoo.gan import DISCRIMINATOR_LOSSES, GENERATOR_LOSSES
from zoo.nets import measure_batch_norm


@dataclass(frozen=True)
class CGANConfig:
    """Sizes, and how D receives the class.

    latent: dimensions of z. label: dimensions of G's embedding of y, joined to z. width, critic_width, doublings: as in
    DCGANConfig. conditioning: "concat" (Mirza and Osindero) or "projection" (Miyato and Koyama). loss: as in GANConfig,
    without the gradient penalty.
    """

    latent: Count = 100
    label: Count = 32
    width: Count = 64
    critic_width: Count = 64
    doublings: Count = 4
    conditioning: Literal["concat", "projection"] = "concat"
    loss: Literal["minimax", "non-saturating", "least-squares", "hinge"] = "non-saturating"


def with_label(data: DataSpec, d: DCGANConfig) -> CGANConfig:
    """DCGAN's sizes with an embedding of the class."""
    label = 16 if min(data.height, data.width) < 16 else 32
    return CGANConfig(d.latent, label, d.width, d.critic_width, d.doublings)


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
    """Images (B, C, H, W) and y (B,) to outputs (B,); an embedding of y is an additional channel."""

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
    """The sizes of a DCGAN whose generator has `latent` inputs."""
    return DCGANConfig(latent, config.width, config.critic_width, config.doublings)


DISCRIMINATORS = {"concat": ConcatDiscriminator, "projection": ProjectionDiscriminator}


# ---- model ------------------------------------------------------------------------------------------------------


class CGAN(Model, ClassConditional):
    """A generator and a discriminator that both receive the class; samples are G(z, y)."""

    family = "gan"
    Config = CGANConfig
    stages = (Stage("fit", turns=("discriminator", "generator")),)

    def __init__(self, data: DataSpec, config: CGANConfig | None = None, sampler: object = None) -> None:
        """Builds both networks. Raises ModelError for data without classes, and as DCGAN does."""
        super().__init__(data, config, sampler)
        if data.classes < 1:
            raise ModelError("CGAN: data: found no classes, allowed: labelled images")
        require_doublings(type(self).__name__, data, self.config.doublings)
        self.generator = ConditionalGenerator(data, self.config)
        self.discriminator = DISCRIMINATORS[self.config.conditioning](data, self.config)
        self.apply(init_weights)

    @classmethod
    def preset(cls, data: DataSpec) -> CGANConfig:
        """DCGAN's sizes and an embedding of the class."""
        return with_label(data, DCGAN.preset(data))

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """DCGAN's recipe, without momentum below 32 pixels."""
        return DCGAN.recipe(data) if min(data.height, data.width) >= 32 else CGAN.small(data)[1]

    @classmethod
    def small(cls, data: DataSpec) -> tuple[CGANConfig, Recipe]:
        """DCGAN's, without momentum."""
        config, recipe = DCGAN.small(data)
        return with_label(data, config), replace(recipe, betas=(0.0, 0.9))

    def players(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of each network."""
        return {
            "discriminator": list(self.discriminator.parameters()),
            "generator": list(self.generator.parameters()),
        }

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The player's loss on real images and equally many generated images of the same classes."""
        assert batch.labels is not None
        z, labels = self.noise(len(batch), gen), batch.labels
        if player == "generator":
            total = GENERATOR_LOSSES[self.config.loss](self.discriminator(self.generator(z, labels), labels))
            return Loss(total, {"generator": total})
        with torch.no_grad():
            fake = self.generator(z, labels)
        outputs = self.discriminator(batch.x, labels), self.discriminator(fake, labels)
        real_term, fake_term = DISCRIMINATOR_LOSSES[self.config.loss](*outputs)
        return Loss(real_term + fake_term, {"real": real_term, "fake": fake_term})

    def noise(self, n: int, gen: Generator) -> Tensor:
        """Latents z ~ N(0, I): (n, latent)."""
        return torch.randn(n, self.config.latent, generator=gen, device=gen.device)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """G(z, y) for n new draws of z and the labels of the condition; without labels, for uniformly drawn classes."""
        z = self.noise(n, gen)
        if condition is None or condition.labels is None:
            return self.generator(z, torch.randint(self.data.classes, (n,), generator=gen, device=gen.device))
        return self.generator(z, condition.labels)

    def for_onnx(self, n: int, gen: Generator) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """The generator."""
        return self.generator, (self.noise(n, gen), torch.arange(n) % self.data.classes)

    def settle(self, gen: Generator) -> None:
        """Measures the generator's batch-normalisation moments again, on 5,000 images of random classes."""
        measure_batch_norm(self.generator, lambda: self.sample(250, gen))
