"""What is timed: every zoo model with random weights, on the digits or (translators) on the digits' edges."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from genbench import builtin, data
from genbench.contract import ClassConditional, Condition, DataSpec, Model, TextConditional, Translates
from genbench.data import Dataset
from genbench.draw.blocks import UNCONDITIONAL, Conditions
from genbench.registry import resolve_model
from genbench.sources.build import load_model
from genbench.space import to_unit_range
from genbench.train.batches import Batches

MODELS = tuple(builtin.MODEL_TABLE)


@cache
def dataset(name: str) -> Dataset:
    """The data that a zoo model is timed on."""
    translates = issubclass(resolve_model(name), Translates)
    return data.load({"name": "edges", "of": "digits"} if translates else {"name": "digits"})


def fresh(name: str, spec: DataSpec | None = None, sampler: dict[str, Any] | None = None, **config: Any) -> Model:
    """The model with random weights, in eval mode and the layout in which genbench trains and draws."""
    model = load_model(name, data=spec or dataset(name).spec, sampler=sampler, **config)
    return model.to(memory_format=torch.channels_last)


def batches(name: str) -> Batches:
    """The stream of training images."""
    found = dataset(name)
    source = None if found.source is None else found.source.train.pixels
    return Batches(
        found.train.pixels, found.train.labels, found.spec.levels, 0, False, found.texts(found.train), source
    )


def condition(name: str, model: Model, block: int) -> Condition | None:
    """What the first block of samples is asked to show."""
    return conditions_of(dataset(name), model).block(0, 0, block)


def conditions_of(found: Dataset, model: Model) -> Conditions:
    """What a model is asked to show, where it can be asked."""
    if isinstance(model, Translates):
        assert found.source is not None
        return Conditions(images=to_unit_range(found.source.test.pixels, found.spec.levels))
    if isinstance(model, ClassConditional):
        return Conditions(found.train.labels)
    return Conditions(found.train.labels, found.captions) if isinstance(model, TextConditional) else UNCONDITIONAL
