"""Small models with known behaviour, used as a third party's `file.py:Class`."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from genbench.contract import ClassConditional, DequantisedDensity, Loss, Model, Recipe, Stage, Translates
from genbench.space import density_to_mass, dequantise


@dataclass(frozen=True)
class Config:
    """scale: the initial spread. sleep: seconds that a step takes. die_at: the step at which the process is killed."""

    scale: float = 0.5
    sleep: float = 0.0
    die_at: int = -1


class Diagonal(Model, DequantisedDensity):
    """Independent Gaussians for the dequantised pixels: y = mean + std z."""

    family = "flow"
    Config = Config

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.mean = nn.Parameter(torch.full(data.shape, 0.5))
        self.log_std = nn.Parameter(torch.full(data.shape, self.config.scale).log())

    @classmethod
    def recipe(cls, data):
        return Recipe(lr=1e-2, batch=32, images=640)

    def density(self, y):
        return torch.distributions.Normal(self.mean, self.log_std.exp()).log_prob(y).flatten(1).sum(1)

    def log_prob(self, pixels, gen=None):
        return density_to_mass(
            self.density(dequantise(pixels, self.data.levels, gen)), self.data.dims, self.data.levels
        )

    def loss(self, batch, player, step, gen):
        if self.config.sleep:
            time.sleep(self.config.sleep)
        if step == self.config.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        nll = -self.log_prob(batch.pixels, gen).mean()
        return Loss(nll, {"nll": nll})

    def sample(self, n, gen, condition=None):
        z = torch.randn(n, *self.data.shape, generator=gen, device=gen.device)
        return ((self.mean + self.log_std.exp() * z) * 2 - 1).clamp(-1, 1)


class Raises(Diagonal):
    """Fails in its tenth step."""

    def loss(self, batch, player, step, gen):
        if step == 10:
            raise RuntimeError("planted failure")
        return super().loss(batch, player, step, gen)


class TurnsNaN(Diagonal):
    """Its loss is not finite from the fifth step on."""

    def loss(self, batch, player, step, gen):
        loss = super().loss(batch, player, step, gen)
        bad = loss.total * float("nan") if step >= 5 else loss.total
        return Loss(bad, {"nll": bad})


@dataclass(frozen=True)
class WatchedConfig(Config):
    """dies: the step in which process `of` of a training is killed, once for all attempts."""

    dies: int = -1
    of: int = 0


class Watched(Diagonal):
    """Writes the number of each step of process r into $GENBENCH_WATCHED/steps-r."""

    Config = WatchedConfig

    def loss(self, batch, player, step, gen):
        rank = torch.distributed.get_rank() if torch.distributed.is_initialized() else 0
        folder = Path(os.environ["GENBENCH_WATCHED"])
        with (folder / f"steps-{rank}").open("a") as file:
            file.write(f"{step}\n")
        if (step, rank) == (self.config.dies, self.config.of) and not (folder / "died").exists():
            (folder / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(batch, player, step, gen)


class TwoPlayers(Model):
    """Each player pulls its own number, and would pull the other's too if it could."""

    stages = (Stage("first", turns=("a", "b"), share=1.0), Stage("second", turns=("b",), share=3.0))

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.a = nn.Parameter(torch.zeros(()))
        self.b = nn.Parameter(torch.zeros(()))

    def players(self):
        return {"a": [self.a], "b": [self.b]}

    def loss(self, batch, player, step, gen):
        return Loss(self.a + self.b, {player: self.a + self.b})

    def sample(self, n, gen, condition=None):
        return torch.zeros(n, *self.data.shape, device=gen.device)


class HalfNaN(Diagonal):
    """Every second image has a pixel that is not a number."""

    def sample(self, n, gen, condition=None):
        x = super().sample(n, gen, condition)
        x[::2, 0, 0, 0] = float("nan")
        return x


class NotAModel:
    """No model at all."""


class Prototypes(Model, ClassConditional):
    """One picture a class: the mean of its training images, found by descent; every sample of a class is the same."""

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.pictures = nn.Parameter(torch.zeros(data.classes, *data.shape))

    @classmethod
    def recipe(cls, data):
        return Recipe(lr=0.05, batch=64, images=6_400)

    def loss(self, batch, player, step, gen):
        return Loss((self.pictures[batch.labels] - batch.x).square().mean())

    def sample(self, n, gen, condition=None):
        return self.pictures[condition.labels].clamp(-1, 1)


class Same(Model, Translates):
    """Translates every image to itself."""

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.unused = nn.Parameter(torch.zeros(()))

    def loss(self, batch, player, step, gen):
        return Loss((batch.source.mean() - batch.x.mean()).square() + self.unused.square())

    def translate(self, x, direction):
        return x

    def sample(self, n, gen, condition=None):
        return condition.images
