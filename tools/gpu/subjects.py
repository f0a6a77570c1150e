"""The models that are timed, what they are trained on (random images) and what they are asked to draw."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import yaml

from genbench.contract import DataSpec, Model, Recipe, Translates
from genbench.data.captions import CAPTIONS
from genbench.registry import MODELS as REGISTERED
from genbench.registry import resolve_model
from genbench.sources.build import load_model
from genbench.space import seeded
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training
from tools.gpu.suites import SUITES

MODELS = tuple(REGISTERED.built_in)
SIZES = {"28": DataSpec(1, 28, 28, 256, 10), "32": DataSpec(3, 32, 32, 256, 10)}
TINY_SIZES = {"28": DataSpec(1, 8, 8, 17, 10)}
IMAGES = 1024  # random ones that training batches are taken from
ENDLESS = 10**12  # images of a budget that no timing reaches the end of
ROUND = {"stylegan": 16}  # steps until each of its lazy regularisers has had its turn


@dataclass(frozen=True)
class Trained:
    """A model to train: its name, config and recipe, as the suite has them, and the images of its budget."""

    name: str
    spec: DataSpec
    config: dict[str, Any]
    recipe: Recipe
    images: int = 0


def captions(spec: DataSpec) -> tuple[str, ...]:
    """What text models are asked for: CIFAR-10's captions for colour, Fashion-MNIST's for grey."""
    return tuple(CAPTIONS["cifar10" if spec.channels == 3 else "fashion-mnist"])


def at_preset(name: str, spec: DataSpec, batch: int = 0) -> Trained:
    """A zoo model at its preset for this data. batch: instead of the recipe's."""
    recipe = resolve_model(name).recipe(spec)
    return Trained(name, spec, {}, replace(recipe, batch=batch or recipe.batch))


def of_cifar10() -> dict[str, Trained]:
    """The trainings of suites/cifar10.yaml by label: sizes, recipes and budgets as the suite has them."""
    suite = yaml.safe_load((SUITES / "cifar10.yaml").read_text())
    found = {}
    for entry in suite["models"]:
        if "weights_of" in entry:
            continue
        recipe = resolve_model(entry["name"]).recipe(SIZES["32"])
        recipe = replace(recipe, **recipe_fields(entry.get("train", {})))
        images = entry.get("budget", suite.get("budget", {})).get("images", recipe.images)
        found[entry.get("label", entry["name"])] = Trained(
            entry["name"], SIZES["32"], entry.get("config", {}), recipe, images
        )
    return found


def recipe_fields(given: dict[str, Any]) -> dict[str, Any]:
    """A suite's `train:` as fields of a Recipe; YAML reads 1e-3 as text."""
    return {key: float(value) if key in ("lr", "clip", "ema") else value for key, value in given.items()}


def training(what: Trained, device: torch.device, precision: str, compile: bool = False) -> Training:
    """A training of the model on random images, about to take its first step."""
    model = load_model(what.name, data=what.spec, **what.config).to(device).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compile:
        for child in model.children():
            child.compile()
    return Training(model, random_batches(what.spec, model, device), what.recipe, FitOptions(ENDLESS, 0, precision))


def random_batches(spec: DataSpec, model: Model, device: torch.device) -> Batches:
    """Uniform random pixels with random classes and their captions; images of another domain for a translator."""
    pixels, other = (
        torch.randint(0, spec.levels, (IMAGES, *spec.shape), generator=seeded(seed)).to(torch.uint8).to(device)
        for seed in (0, 1)
    )
    labels = torch.randint(0, spec.classes, (IMAGES,), generator=seeded(2)).to(device) if spec.classes else None
    source = other if isinstance(model, Translates) else None
    named = captions(spec)
    texts = tuple(named[k] for k in labels.tolist()) if named and labels is not None else None
    return Batches(pixels, labels, spec.levels, 0, False, texts, source)
