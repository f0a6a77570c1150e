"""Roughly how long a training and a drawing take, from a few losses: which tasks of a run are best started first."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from genbench.contract import Model
from genbench.draw.clock import clock_of
from genbench.draw.memory import synchronise
from genbench.machine import pinned_globals
from genbench.sources.base import DataPlan
from genbench.sources.trained import Fit
from genbench.sources.tryout import SECONDS, TriedImages, for_a_moment, own_random_numbers
from genbench.space import seeded
from genbench.train.presets import stage_lengths

FEW, MORE = 4, 16  # images of two losses, whose difference is the cost of an image
REPEATS = 2  # the first call of a size also prepares kernels
STEP = 3.0  # a step takes about as long as this many losses, of which it also computes the gradients


@dataclass(frozen=True)
class Pace:
    """Seconds of a whole training, and of the network for one image; 0 where unknown."""

    training: float = 0.0
    image: float = 0.0


@pinned_globals()
def pace_of(model: Model, plan: DataPlan, fit: Fit) -> Pace:
    """The pace of a training of this model; unknown where a loss fails."""
    recipe, training, image = fit.recipe, 0.0, 0.0
    with suppress(Exception), own_random_numbers():  # the training itself will tell what is wrong
        for stage, steps in zip(model.stages, stage_lengths(recipe, fit.images, model.stages), strict=True):
            parts = [_loss_seconds(model, plan, player, recipe.batch) for player in stage.turns]
            training += steps * STEP * sum(call + recipe.batch * each for call, each in parts)
            image = max(each for _, each in parts)
        return Pace(training, image)
    return Pace()


def _loss_seconds(model: Model, plan: DataPlan, player: str, batch: int) -> tuple[float, float]:
    """Seconds of a loss, without and for each of its images."""
    few, more = min(FEW, batch), min(MORE, batch)
    short, ended = _seconds(model, plan, player, few)
    if ended or more == few:
        return 0.0, short / few
    each = max(0.0, _seconds(model, plan, player, more)[0] - short) / (more - few)
    return max(0.0, short - few * each), each


def _seconds(model: Model, plan: DataPlan, player: str, n: int) -> tuple[float, bool]:
    """Of a loss of n images, or of its first moment where it takes long, and whether it was ended then."""
    clock, images, gen = clock_of(model.device), TriedImages(plan, model.device).batch(n), seeded(0, model.device)
    taken = []
    for _ in range(REPEATS):
        start = clock()
        with for_a_moment(model, SECONDS * n / FEW, clock) as ended:
            model.loss(images, player, 1, gen)
        synchronise(model.device)
        taken.append((clock() - start, bool(ended)))
    return min(taken)
