"""A model tried on a few random images before it is trained: its losses, a drawing, its likelihoods.

What computes for longer than a moment is ended at the next call of a submodule and counts as good: a sampler of a
thousand steps is tried for its first ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from genbench import data, returned
from genbench.contract import (
    Batch,
    ClassConditional,
    DequantisedDensity,
    Draws,
    ExactLikelihood,
    ImportanceBound,
    LikelihoodBound,
    LikelihoodEstimate,
    Model,
    TextConditional,
    Translates,
)
from genbench.draw.blocks import UNCONDITIONAL, Conditions, draw_block, on_device
from genbench.errors import CellFailure, Undefined
from genbench.machine import pinned_globals
from genbench.sources.base import DataPlan
from genbench.space import seeded, to_unit_range

SECONDS = 0.1  # for each of the things that are tried
MOST, DRAWN = 4, 2  # images of a batch and of a drawing


class _Enough(BaseException):
    pass


def try_training(model: Model, plan: DataPlan, batch: int) -> None:
    """The loss of each player. Raises what the model raises, or CellFailure for what is not as the contract says.

    batch: images in a step of training, of which at most MOST are used. The model is changed, as by training.
    """
    with own_random_numbers():
        _losses(model, TriedImages(plan, model.device).batch(min(batch, MOST)))


def try_drawing(model: Draws, plan: DataPlan, precision: str = "fp32") -> None:
    """Two images, and what the model states about itself. Raises as `try_training`."""
    returned.options(model)
    returned.evaluations(model)
    with own_random_numbers(), for_a_moment(model.eval()):
        draw_block(model, 0, 0, DRAWN, precision, TriedImages(plan, model.device).condition(model))


def try_likelihoods(model: Draws, plan: DataPlan) -> None:
    """Each likelihood of two images. Raises as `try_training`."""
    images = TriedImages(plan, model.device)
    model.eval()
    for name, log_prob in _likelihoods(model):
        with suppress(Undefined), own_random_numbers(), pinned_globals(), torch.no_grad(), for_a_moment(model):
            values = log_prob(images.pixels(DRAWN), seeded(0, model.device))
            returned.log_probs(model, values, DRAWN, f"{name}()")


def own_random_numbers() -> AbstractContextManager[None]:
    """Leaves the global random state as it was."""
    return torch.random.fork_rng(devices=range(torch.cuda.device_count()))


@contextmanager
def for_a_moment(
    model: Draws, seconds: float = SECONDS, clock: Callable[[], float] = time.perf_counter
) -> Iterator[list[bool]]:
    """Ends what is inside at the first call of a submodule that comes `seconds` of the clock later.

    Yields a list that holds True afterwards where it was ended.
    """
    end, ended = clock() + seconds, list[bool]()

    def stop(*_: Any) -> None:
        if clock() > end:
            raise _Enough

    parts = [part for part in model.modules() if part is not model and not isinstance(part, torch.jit.ScriptModule)]
    hooks = [part.register_forward_pre_hook(stop) for part in parts]
    try:
        yield ended
    except _Enough:
        ended.append(True)
    finally:
        for hook in hooks:
            hook.remove()


@pinned_globals()
def _losses(model: Model, batch: Batch) -> None:
    gen = seeded(0, model.device)
    returned.players(model)
    model.train()
    with for_a_moment(model):
        model.prepare(batch, gen)
    for player in dict.fromkeys((stage.name, player) for stage in model.stages for player in stage.turns):
        with for_a_moment(model):
            loss = returned.loss(model, model.loss(batch, player[1], 0, gen), player[1])
            if not loss.total.requires_grad:
                raise CellFailure(f"the loss of player '{player[1]}' depends on no parameter, required: on its own")


def _likelihoods(model: Draws) -> Iterator[tuple[str, Callable[..., Tensor]]]:
    if isinstance(model, ExactLikelihood | DequantisedDensity):
        yield "log_prob", model.log_prob
    if isinstance(model, LikelihoodBound):
        yield "log_prob_bound", model.log_prob_bound
    if isinstance(model, ImportanceBound):
        yield "log_prob_importance", lambda pixels, gen: model.log_prob_importance(pixels, 2, gen)
    if isinstance(model, LikelihoodEstimate):
        yield "log_prob_estimate", model.log_prob_estimate


class TriedImages:
    """Random images of a dataset's shape, with labels and captions of its classes."""

    def __init__(self, plan: DataPlan, device: torch.device) -> None:
        self.spec, self.device = plan.spec, device
        self.captions = data.captions_of(plan.entry)
        self.labels = torch.arange(self.spec.classes) if self.spec.classes else None

    def pixels(self, n: int) -> Tensor:
        """Grey levels of n images (n, C, H, W)."""
        shape = (n, *self.spec.shape)
        return torch.randint(self.spec.levels, shape, generator=seeded(n), dtype=torch.uint8).to(self.device)

    def batch(self, n: int) -> Batch:
        """The same as a batch of training."""
        x = to_unit_range(self.pixels(n), self.spec.levels)
        labels = None if self.labels is None else self.labels[torch.arange(n) % len(self.labels)]
        texts = None if labels is None or not self.captions else tuple(self.captions[k] for k in labels.tolist())
        return Batch(x, self.pixels(n), None if labels is None else labels.to(self.device), texts, source=x.flip(0))

    def condition(self, model: Draws) -> Any:
        """What a drawing of DRAWN images is conditioned on."""
        wanted = UNCONDITIONAL
        if isinstance(model, Translates):
            wanted = Conditions(images=to_unit_range(self.pixels(DRAWN), self.spec.levels).cpu())
        elif isinstance(model, ClassConditional):
            wanted = Conditions(self.labels)
        elif isinstance(model, TextConditional):
            wanted = Conditions(self.labels, self.captions)
        return on_device(wanted.block(0, 0, DRAWN), self.device)
