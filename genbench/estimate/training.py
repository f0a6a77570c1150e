"""The time of a training from a few steps of each of its stages."""

from __future__ import annotations

from genbench.contract import Model, Recipe
from genbench.draw.clock import clock_of
from genbench.draw.memory import synchronise
from genbench.estimate.span import ZERO, TimeRange, of_repeats
from genbench.machine import pinned_globals
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training, tensor_cores

WARM_UP = 3  # steps that are not timed: the first ones allocate
PART = 4  # steps that are timed together
LEAST, SECONDS, LONGEST = 4, 1.0, 10.0  # parts of a stage; 16 steps include the turns of lazy regularisers


@pinned_globals()
def training_seconds(model: Model, batches: Batches, recipe: Recipe, options: FitOptions) -> TimeRange:
    """Seconds of the steps of a training. The model is changed and of no further use."""
    training = Training(model, batches, recipe, options)
    model.train()
    spent, start = ZERO, 0
    with tensor_cores(model.device):
        for end in training.stage_ends:
            if end > start:
                spent += _of_a_step(training, start, end).times(end - start)
            start = end
    return spent


def _of_a_step(training: Training, start: int, end: int) -> TimeRange:
    """Seconds of a step of the stage from step `start` to `end`."""
    _steps(training, start, min(WARM_UP, end - start))
    parts: list[float] = []
    size, at = min(PART, end - start), start
    while len(parts) < LEAST or sum(parts) * size < SECONDS:
        if parts and sum(parts) * size > LONGEST:
            break
        at = at + size if at + 2 * size <= end else start
        parts.append(_steps(training, at, size) / size)
    return of_repeats(parts)


def _steps(training: Training, at: int, count: int) -> float:
    """Seconds of some steps from step number `at` on."""
    training.fitted.steps = at
    clock = clock_of(training.model.device)
    synchronise(training.model.device)
    start = clock()
    for _ in range(count):
        training.step()
    synchronise(training.model.device)
    return clock() - start
