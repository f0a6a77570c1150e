"""A variational autoencoder of two linear layers; replace networks and loss by those of your model.

`genbench check {file}:Skeleton` tests the class against the contract.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn

from genbench.contract import Batch, Condition, Count, DataSpec, Decodes, Loss, Model, Recipe


@dataclass(frozen=True)
class SkeletonConfig:
    """width: of the hidden layer. latent: size of a latent. noise: standard deviation of a pixel around its mean."""

    width: Count = 128
    latent: Count = 16
    noise: float = 0.3


class Skeleton(Model, Decodes):
    """Images x = decode(z) + noise, z ~ N(0, I), trained by maximising the evidence lower bound."""

    family = "vae"  # a word for the leaderboard: gan, vae, flow, diffusion or your own
    Config = SkeletonConfig

    def __init__(self, data: DataSpec, config: SkeletonConfig | None = None, sampler: None = None) -> None:
        super().__init__(data, config, sampler)
        width, latent = self.config.width, self.config.latent
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(data.dims, width), nn.ReLU(), nn.Linear(width, 2 * latent))
        self.decoder = nn.Sequential(nn.Linear(latent, width), nn.ReLU(), nn.Linear(width, data.dims), nn.Tanh())

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """How genbench trains it; `train:` and `budget:` of a suite change single values."""
        return Recipe(lr=1e-3, batch=64, images=100_000)

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """What training minimises; batch.x is (B, C, H, W) in [-1, 1], all randomness comes from gen."""
        mean, log_var = self.encoder(batch.x).chunk(2, dim=1)
        noise = torch.randn(mean.shape, generator=gen, device=gen.device)
        x = self.decode(mean + (log_var / 2).exp() * noise)
        error = (x - batch.x).square().flatten(1).sum(1).mean() / (2 * self.config.noise**2)
        divergence = ((mean.square() + log_var.exp() - log_var - 1) / 2).sum(1).mean()
        return Loss(error + divergence, {"error": error, "divergence": divergence})

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """N images (n, C, H, W) in [-1, 1]."""
        return self.decode(self.noise(n, gen))

    def noise(self, n: int, gen: Generator) -> Tensor:
        """N latents (n, latent)."""
        return torch.randn(n, self.config.latent, generator=gen, device=gen.device)

    def decode(self, z: Tensor) -> Tensor:
        """The images of latents: with `noise`, the ability Decodes."""
        return self.decoder(z).unflatten(1, self.data.shape)
