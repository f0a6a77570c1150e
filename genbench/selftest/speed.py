"""Test problems for cost: a model that advances the clock itself, and a count of network evaluations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn

from genbench.contention import Counters, Meter
from genbench.contract import Batch, Condition, DataSpec, Loss, Model
from genbench.draw.blocks import draw
from genbench.draw.cost import measure_cost
from genbench.selftest.base import KnownProblem, Measurement, measured, zoo

FIXED, EACH, FIRST = 0.5, 0.125, 100.0
BUSY_UNTIL = 160.0  # seconds; the first call ends at 150


class Sleeper(Model):
    """Needs FIXED seconds a call plus EACH seconds an image, and FIRST times as long in its first call."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__(data)
        self.weights = nn.Parameter(torch.zeros(3))
        self.now = 0.0

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """A loss without information."""
        return Loss(self.weights.sum())

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Images of zeros, after advancing the clock."""
        self.now += (FIXED + EACH * n) * (1.0 if self.now else FIRST)
        return torch.zeros(n, *self.data.shape)


def sleeper(metric: str, true: float) -> Measurement:
    """A cost metric of the sleeper in batches of 8, by its own clock; the first call is not timed."""
    model = Sleeper(DataSpec(1, 2, 2))
    cost = measure_cost(model, seed=0, batch=8, seconds=10.0, clock=lambda: model.now)
    return Measurement(measured(metric, cost=cost), true, 1e-9)


class Shared(Sleeper):
    """A sleeper that takes twice as long while another process computes, which ends at BUSY_UNTIL."""

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """As a sleeper, again while the other process computes."""
        if 0 < self.now < BUSY_UNTIL:
            super().sample(n, gen, condition)
        return super().sample(n, gen, condition)

    def counters(self, cores: Sequence[int]) -> Counters:
        """CPU time of a machine with one core."""
        return Counters(self.now, self.now + min(self.now, BUSY_UNTIL), self.now)

    def wait(self, seconds: float) -> None:
        """Advances the clock."""
        self.now += seconds


def beside_another() -> Measurement:
    """Images/s of batches of 8 that another process disturbs at first; these calls are repeated when it has ended."""
    model = Shared(DataSpec(1, 2, 2))
    meter = Meter(1, 30.0, (0,), most=0.1, read=model.counters, clock=lambda: model.now, sleep=model.wait)
    cost = measure_cost(model, seed=0, batch=8, seconds=10.0, clock=lambda: model.now, meter=meter)
    return Measurement(measured("images_per_second", cost=cost), 8 / 1.5, 1e-9)


def ddim_evaluations() -> Measurement:
    """Calls of DDIM's network while seven steps are drawn, per image."""
    model = zoo("ddim", DataSpec(1, 8, 8, 17), {"steps": 7})
    return Measurement(draw(model, 4, seed=0, block=4).evaluations, 7.0, 0.0)


SPEED_PROBLEMS = (
    KnownProblem(
        "images/s of 8 in 0.5 + 8 / 8 s", "8 / 1.5, by its own clock", lambda: sleeper("images_per_second", 8 / 1.5)
    ),
    KnownProblem("images/s beside a process that ends", "8 / 1.5, by its own clock", beside_another),
    KnownProblem("latency of one in 0.5 + 1 / 8 s (ms)", "625, by its own clock", lambda: sleeper("latency", 625.0)),
    KnownProblem("network evaluations of DDIM, 7 steps", "Song et al. 2021, 4.2: one a step", ddim_evaluations),
)
