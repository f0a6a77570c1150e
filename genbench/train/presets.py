"""The presets `paper` and `small` of a recipe: as a model declares it, or with the lengths in it fitted to the budget.

A recipe's warm-up and moving average are lengths in steps, chosen for its own budget. In a training that is many times
shorter, the step size would never be reached and the averaged weights would be nearly the initial ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from genbench.contract import Recipe, Stage

SHORT = 0.1  # of the recipe's own budget: below it, `auto` is `small`
WARM, AVERAGED = 0.05, 0.1  # of the steps: most of the warm-up, and what the moving average spans at most


def stage_lengths(recipe: Recipe, images: int, stages: Sequence[Stage]) -> list[int]:
    """The steps of each stage for a budget of images."""
    shares = sum(stage.share for stage in stages)
    return [math.ceil(images * s.share / shares / recipe.batch / s.batches) for s in stages]


def chosen_preset(preset: str, recipe: Recipe, images: int) -> str:
    """The preset that `auto` is for this budget; another one is itself."""
    if preset != "auto":
        return preset
    return "small" if images < SHORT * recipe.images else "paper"


def fitted_recipe(recipe: Recipe, images: int, stages: Sequence[Stage]) -> Recipe:
    """The recipe with a warm-up and a moving average that are short compared with the training.

    The decay of the step size (cosine, linear) is a share of the budget in every recipe. All lengths begin anew with
    each stage, so that the shortest one decides.
    """
    steps = min(stage_lengths(recipe, images, stages))
    span = max(1.0, AVERAGED * steps)
    return replace(recipe, warmup=min(recipe.warmup, int(WARM * steps)), ema=min(recipe.ema, 1 - 1 / span))


def preset_in_words(preset: str, before: Recipe, after: Recipe) -> str:
    """The preset and what it changed, in words."""
    changes = [
        f"{words} {old:g} -> {new:.4g}"
        for words, old, new in (("warm-up", before.warmup, after.warmup), ("ema", before.ema, after.ema))
        if old != new
    ]
    return f"preset {preset}" + (f" ({', '.join(changes)})" if changes else "")
