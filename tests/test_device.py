"""Every model on $GENBENCH_TEST_DEVICE (default: the CPU): it trains, draws and, in bfloat16, does so too."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from genbench import data
from genbench.contract import ClassConditional, Condition, TextConditional, Translates
from genbench.draw import draw_block
from genbench.registry import MODELS, resolve_model
from genbench.sources.build import load_model
from genbench.space import to_unit_range
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training

STEPS = 2


def batches(found: data.Dataset, device: str) -> Batches:
    source = None if found.source is None else found.source.train.pixels.to(device)
    labels = None if found.train.labels is None else found.train.labels.to(device)
    return Batches(found.train.pixels.to(device), labels, found.spec.levels, 0, False, found.texts(found.train), source)


def condition(found: data.Dataset, kind: type, device: str) -> Condition | None:
    if issubclass(kind, Translates):
        return Condition(images=to_unit_range(found.source.test.pixels[:2], found.spec.levels).to(device))
    if issubclass(kind, ClassConditional):
        return Condition(found.train.labels[:2].to(device))
    return Condition(texts=found.captions[:2]) if issubclass(kind, TextConditional) else None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", MODELS.built_in)
def test_a_model_trains_and_draws_on_the_device(name, precision, device):
    kind = resolve_model(name)
    found = data.load({"name": "edges", "of": "digits"} if issubclass(kind, Translates) else {"name": "digits"})
    config, sampler = {"ddpm": ({"steps": 4}, {}), "ddim": ({}, {"steps": 2})}.get(name, ({}, {}))
    model = load_model(name, data=found.spec, sampler=sampler, **config).to(device).train()
    before = [p.detach().clone() for p in model.parameters()]
    recipe = replace(kind.recipe(found.spec), batch=8)
    training = Training(model, batches(found, device), recipe, FitOptions(8 * STEPS, 0, precision))
    training.run(None, lambda progress: None)
    assert all(math.isfinite(point.value) for point in training.fitted.curves)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    pixels, non_finite, _ = draw_block(model.eval(), 0, 0, 2, precision, condition(found, kind, device))
    assert (pixels.shape, pixels.device.type, non_finite) == ((2, *found.spec.shape), "cpu", 0)
