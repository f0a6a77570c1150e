"""Trainings of every model that several processes run together; the members of a team import this file."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import torch
import toys
from torch import Tensor, nn

from genbench.contract import Batch, DataSpec, Loss
from genbench.errors import CellFailure
from genbench.options import override
from genbench.processes.group import ALONE, Processes
from genbench.registry import resolve_model
from genbench.sources.build import build
from genbench.space import seeded
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training

SPEC, BATCH, IMAGES, STEPS = DataSpec(1, 8, 8, 17, 10), 16, 30, 6
CONFIGS = {
    "stylegan": {"r1_interval": 2, "path_weight": 2.0, "path_interval": 2, "mixing": 0.5},
    "latent_diffusion": {"critic_start": 1, "adversarial": 0.5},
    "cyclegan": {"pool": 20},
    "flow_matching": {"pairing": "optimal", "dropout": 0.1},
    "ddpm": {"dropout": 0.1},
    "gan": {"loss": "wasserstein-gp", "critic_steps": 2, "dropout": 0.3},
    "realnvp": {"batch_norm": True, "channels": 8},
    "glow": {"steps": 2, "width": 8},
}


class DoubleBatches(Batches):
    """Images in float64, so that a comparison shows every difference that is more than rounding."""

    def next(self, size, gen, rows=slice(None)):
        batch: Batch = super().next(size, gen, rows)
        return replace(batch, x=batch.x.double(), source=None if batch.source is None else batch.source.double())


def stream(name: str) -> Batches:
    pixels, source = (torch.randint(17, (IMAGES, *SPEC.shape), generator=seeded(i)).to(torch.uint8) for i in (0, 1))
    texts = tuple(f"digit {i % 10}" for i in range(IMAGES)) if name == "latent_diffusion" else None
    return DoubleBatches(pixels, torch.arange(IMAGES) % 10, 17, 0, True, texts, source if name == "cyclegan" else None)


def training(name: str, group: Processes = ALONE) -> Training:
    """A training of STEPS steps in each stage, in float64, with clipping, warm-up and an average."""
    model = build(resolve_model(name), SPEC, CONFIGS.get(name, {}), {}, 0).double()
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):  # some receive what a model computes in float32, as sinusoids
            layer.register_forward_pre_hook(lambda layer, inputs: (inputs[0].to(layer.weight.dtype),))
    recipe = override(model.recipe(SPEC), {"batch": BATCH, "clip": 1.0, "ema": 0.9, "warmup": 2, "lr": 1e-3})
    images = sum(BATCH * STEPS * stage.batches * (stage.share > 0) for stage in model.stages)
    return Training(model.train(), stream(name), recipe, FitOptions(images, 0), group)


def trained(name: str, group: Processes = ALONE, start: Path | None = None, steps: int | None = None) -> Training:
    """Runs a training to its end, or until step number `steps`; start: a checkpoint to continue, in process 0."""
    torch.set_default_dtype(torch.float64)
    try:
        run = training(name, group)
        run.resume(start)
        while run.fitted.steps < (steps or run.total_steps):
            run.step()
            run.flush()
    finally:
        torch.set_default_dtype(torch.float32)
    return run


def train_too(group: Processes, name: str, steps: int | None = None) -> None:
    """What a member of the team does."""
    trained(name, group, None, steps)


def state_of(run: Training) -> dict[str, Tensor]:
    """Weights, buffers and averaged weights by name."""
    averages = {f"average {i}": value for i, value in enumerate(run.average.state())}
    return {name: value.double() for name, value in run.model.state_dict().items()} | averages


class Coupled(toys.Diagonal):
    """The images of its batch depend on each other, and it asks for no others."""

    def loss(self, batch, player, step, gen):
        nll = (batch.x - batch.x.mean(0) - self.mean).square().sum(0).mean()
        return Loss(nll / len(batch), {"nll": nll})


class Sums(toys.Diagonal):
    """Its loss is a sum over images."""

    def loss(self, batch, player, step, gen):
        return Loss(-self.log_prob(batch.pixels, gen).sum())


class Counts(toys.Diagonal):
    """Has a buffer that each process would fill from its own images."""

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.register_buffer("seen", torch.zeros(data.shape))

    def loss(self, batch, player, step, gen):
        self.seen += batch.x.mean(0)
        return super().loss(batch, player, step, gen)


def step(group: Processes, name: str) -> None:
    """One step of a model that is not the same in several processes."""
    pixels = torch.randint(17, (IMAGES, *SPEC.shape), generator=seeded(0)).to(torch.uint8)
    model = globals()[name](SPEC).train()
    Training(model, Batches(pixels, None, 17, 0), model.recipe(SPEC), FitOptions(320, 0), group).step()


def fail(group: Processes, reason: str) -> None:
    """A member that fails before process 0 asks it for anything."""
    raise CellFailure(reason)


def die(group: Processes) -> None:
    """A member that is killed."""
    os.kill(os.getpid(), signal.SIGKILL)
