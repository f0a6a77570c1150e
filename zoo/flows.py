"""What flows of pixels share: likelihood, training, latents and sampling, given a bijection of dequantised pixels.

Shapes: B images, C channels, H height, W width, D = C H W latents.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from torch import Generator, Tensor, nn

from genbench.contract import Batch, Condition, DequantisedDensity, Loss, Model, Reconstructs
from genbench.space import density_to_mass, dequantise
from zoo.nets import NoiseToImages, log_normal


class PixelFlow(Model, DequantisedDensity, Reconstructs):
    """A flow trained by maximum likelihood: log p(y) = log N(f(y); 0, I) + log |det df/dy| of dequantised pixels y.

    A subclass has `flow`, f: pixels (B, C, H, W) in [0, 1) to latents (B, D) and log |det| (B,), and the inverse in
    decode(). Its sampler has a temperature, the standard deviation of the latents. decode(encode(x)) is x.
    """

    family = "flow"
    flow: Any

    def log_prob(self, pixels: Tensor, gen: Generator | None = None) -> Tensor:
        """Log p(y) - D ln(levels) in nats of pixels (B, C, H, W) uint8, dequantised by uniform noise: (B,)."""
        z, log_det = self.flow(dequantise(pixels, self.data.levels, gen))
        return density_to_mass(log_normal(z) + log_det, self.data.dims, self.data.levels)

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """Mean bits per dimension of the batch with new dequantisation noise."""
        bits = -self.log_prob(batch.pixels, gen).mean() / (self.data.dims * math.log(2))
        return Loss(bits, {"bits_per_dim": bits})

    def encode(self, x: Tensor) -> Tensor:
        """Latents (B, D) of images x in [-1, 1], evaluated at the centres of the grey levels' cells."""
        level = (x + 1) * ((self.data.levels - 1) / 2)
        return self.flow((level + 0.5) / self.data.levels)[0]

    def noise(self, n: int, gen: Generator) -> Tensor:
        """Latents from N(0, I): (n, D)."""
        return torch.randn(n, self.data.dims, generator=gen, device=gen.device)

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Images in [-1, 1] of latents (B, D); the nearest grey level of an image is the cell that contains y."""

    def images(self, noise: Tensor) -> Tensor:
        """Images in [-1, 1] of standard normal noise (B, D), which becomes latents by the sampler's temperature."""
        return self.decode(self.sampler.temperature * noise)

    def for_onnx(self, n: int, gen: Generator) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """`images`."""
        return NoiseToImages(self), (self.noise(n, gen),)

    @torch.no_grad()
    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Images (n, C, H, W) in [-1, 1]."""
        return self.images(self.noise(n, gen))
