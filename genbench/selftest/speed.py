"""Worlds of cost: a model that moves the clock itself, and a count of network evaluations."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from genbench.contract import Batch, Condition, DataSpec, Loss, Model
from genbench.draw.blocks import draw
from genbench.draw.cost import measure_cost
from genbench.selftest.base import Found, World, measured, zoo

FIXED, EACH, FIRST = 0.5, 0.125, 100.0


class Sleeper(Model):
    """Takes FIXED seconds a call and EACH seconds an image, FIRST times as long at its first call."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__(data)
        self.weights = nn.Parameter(torch.zeros(3))
        self.now = 0.0

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """Nothing to learn."""
        return Loss(self.weights.sum())

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Black images, late."""
        self.now += (FIXED + EACH * n) * (1.0 if self.now else FIRST)
        return torch.zeros(n, *self.data.shape)


def sleeper(metric: str, true: float) -> Found:
    """A cost metric of the sleeper in batches of 8 under its own clock; the first call is not timed."""
    model = Sleeper(DataSpec(1, 2, 2))
    cost = measure_cost(model, seed=0, batch=8, seconds=10.0, clock=lambda: model.now)
    return Found(measured(metric, cost=cost), true, 1e-9)


def evaluations() -> Found:
    """Calls of DDIM's network while seven steps are drawn, per image."""
    model = zoo("ddim", DataSpec(1, 8, 8, 17), {"steps": 7})
    return Found(draw(model, 4, seed=0, block=4).evaluations, 7.0, 0.0)


SPEED = (
    World(
        "images/s of 8 in 0.5 + 8 / 8 s", "8 / 1.5, under its own clock", lambda: sleeper("images_per_second", 8 / 1.5)
    ),
    World("latency of one in 0.5 + 1 / 8 s (ms)", "625, under its own clock", lambda: sleeper("latency", 625.0)),
    World("network evaluations of DDIM, 7 steps", "Song et al. 2021, 4.2: one a step", evaluations),
)
