"""A step of the trainer for every zoo model and every stage of its training: `make bench`.

A step is what `genbench run` does for a batch: the batch, every player's loss and gradient, clipping, the optimisers,
the moving average. A call takes as many steps as the model's lazy regularisers need to come round once.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from subjects import MODELS, batches, dataset, fresh

from genbench.registry import resolve_model
from genbench.train.loop import FitOptions, Training

BATCH = 32
ENDLESS = 10**9  # images: no decay of the learning rate within a benchmark
ROUND = {"stylegan": 16}  # steps until both regularisers have had their turn
CASES = [(name, stage) for name in MODELS for stage in range(len(resolve_model(name).stages))]


def training_at(name: str, stage: int) -> Training:
    """A training about to take the first step of a stage."""
    model = fresh(name)
    recipe = replace(type(model).recipe(dataset(name).spec), batch=BATCH)
    training = Training(model, batches(name), recipe, FitOptions(ENDLESS, seed=0))
    training.fitted.steps = [0, *training.stage_ends][stage]
    model.train()
    return training


@pytest.mark.parametrize(("name", "stage"), CASES)
def test_training(benchmark, name: str, stage: int):
    training, steps = training_at(name, stage), ROUND.get(name, 1)

    def step() -> None:
        for _ in range(steps):
            training.step()

    benchmark(step)
    benchmark.extra_info["images"] = steps * BATCH * training.model.stages[stage].batches
