"""The presets `paper` and `small` of a model: as published, or for a CPU with lengths that are shares of the budget.

A recipe's warm-up and moving average are lengths in steps, chosen for its own budget. In a training that is many times
shorter, the step size would never be reached and the averaged weights would be nearly the initial ones; and a network
of a published size would see too few images on a CPU. So `small` takes from a recipe only whether it has them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from genbench.contract import DataSpec, Model, Recipe, Stage
from genbench.options import override

SHORT = 0.1  # of the recipe's own budget: below it, `auto` is `small`
WARM, AVERAGED = 0.05, 0.1  # of the steps: the warm-up, and what the moving average spans
LEAST_WARM = 10  # steps of a warm-up in a short training: Glow's loss became infinite after one of a single step
FORMS = {"preset", "recipe"}


@dataclass(frozen=True)
class Preset:
    """A model's config and recipe for some data and budget; name: "paper" or "small"."""

    name: str
    config: Any
    recipe: Recipe


def stage_lengths(recipe: Recipe, images: int, stages: Sequence[Stage]) -> list[int]:
    """The steps of each stage for a budget of images."""
    shares = sum(stage.share for stage in stages)
    return [math.ceil(images * s.share / shares / recipe.batch / s.batches) for s in stages]


def chosen_preset(preset: str, recipe: Recipe, images: int) -> str:
    """The preset that `auto` is for this budget; another one is itself."""
    if preset != "auto":
        return preset
    return "small" if images < SHORT * recipe.images else "paper"


def make_preset(kind: type[Model], data: DataSpec, preset: str, train: dict[str, Any], images: int | None) -> Preset:
    """The preset of a model for this data; train: changes to the recipe; images: the budget, if there is one."""
    own = override(kind.recipe(data), train)
    if chosen_preset(preset, own, images or own.images) == "paper":
        return Preset("paper", kind.preset(data), own)
    config, recipe = small_form(kind, data)
    return Preset("small", config, override(recipe, train))


def small_form(kind: type[Model], data: DataSpec) -> tuple[Any, Recipe]:
    """Config and recipe of `small`; those of `paper` for a class that replaces these of its base, but not `small`."""
    first = next(names for base in kind.__mro__ if (names := vars(base).keys() & {"small", *FORMS}))
    return kind.small(data) if "small" in first else (kind.preset(data), kind.recipe(data))


def differing(config: Any, other: Any) -> dict[str, Any]:
    """The fields of a config in which it differs from another one of its class, with its values."""
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {name: value for name, value in values.items() if value != getattr(other, name)}


def fitted_recipe(recipe: Recipe, images: int, stages: Sequence[Stage]) -> Recipe:
    """The recipe with a warm-up and a moving average that are shares of the training, where it has any.

    A warm-up has at least LEAST_WARM steps, but at most half of all. The decay of the step size (cosine, linear) is a
    share of the budget in every recipe. All lengths begin anew with each stage, so that the shortest one decides.
    """
    steps = min(stage_lengths(recipe, images, stages))
    ema = 1 - 1 / max(1.0, AVERAGED * steps)
    warmup = min(steps // 2, max(LEAST_WARM, int(WARM * steps)))
    return replace(recipe, warmup=warmup if recipe.warmup else 0, ema=ema if recipe.ema else 0.0)


def preset_in_words(name: str, resized: bool, before: Recipe, after: Recipe) -> str:
    """The preset and what it changed as text; resized: whether its networks are not those of `paper`."""
    changes = ["networks for a CPU"] if resized else []
    lengths = (("warm-up", before.warmup, after.warmup), ("ema", before.ema, after.ema))
    changes += [f"{words} {old:g} -> {new:.4g}" for words, old, new in lengths if old != new]
    return f"preset {name}" + (f" ({', '.join(changes)})" if changes else "")
