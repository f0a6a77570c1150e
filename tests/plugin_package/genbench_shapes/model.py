"""A model that learns one image and draws it with a little noise."""

from __future__ import annotations

import torch
from torch import nn

from genbench.contract import Loss, Model, Recipe

from .noise import SCALE


class Constant(Model):
    """The mean of the training images, plus noise.

    The constant of its sibling module counts for its code hash.
    """

    family = "constant"

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.image = nn.Parameter(torch.zeros(data.shape))

    @classmethod
    def recipe(cls, data):
        return Recipe(lr=0.05, batch=16, images=320)

    def loss(self, batch, player, step, gen):
        return Loss((self.image - batch.x).square().mean())

    def sample(self, n, gen, condition=None):
        noise = torch.randn(n, *self.data.shape, generator=gen, device=gen.device)
        return (self.image + SCALE * noise).clamp(-1, 1)  # noise keeps the samples different
