"""Signs that a training cannot have worked: a budget within the warm-up, and losses that did not fall.

They are warnings: the images are scored, and the record states why they may be bad.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from genbench.contract import Model, Recipe, Stage
from genbench.train.loop import CurvePoint
from genbench.train.presets import stage_lengths

WARM_SHARE = 0.5  # of the training: more of it at a lowered step size is worth a warning
FEWEST_POINTS = 10


def budget_doubts(recipe: Recipe, images: int, stages: Sequence[Stage]) -> tuple[str, ...]:
    """Warnings about a budget of images: shorter than the warm-up or than what the moving average spans."""
    steps = min(stage_lengths(recipe, images, stages))
    trained = f"{'the training' if len(stages) == 1 else 'its shortest stage'} has {steps:,} steps"
    doubts = []
    if recipe.warmup >= steps:
        doubts.append(f"{trained}, all within the warm-up of {recipe.warmup:,}: its step size was never reached")
    elif recipe.warmup > WARM_SHARE * steps:
        doubts.append(f"{trained}, {recipe.warmup:,} of them warm-up")
    span = round(1 / (1 - recipe.ema)) if recipe.ema else 0
    if span > steps:
        doubts.append(f"{trained}, fewer than the {span:,} that the moving average of the weights spans")
    return tuple(doubts)


def loss_doubts(model: Model, curves: Sequence[CurvePoint]) -> tuple[str, ...]:
    """A warning for each stage in which no term of the loss is lower in its last tenth than in its first.

    Stages of several players are left out: the loss of one rises where the other improves.
    """
    return tuple(
        f"the loss of stage '{stage.name}' did not decrease: {_ends(falls)}"
        for stage in model.stages
        if len(set(stage.turns)) == 1
        and (falls := _falls([p for p in curves if p.stage == stage.name]))
        and all(last >= first for first, last in falls.values())
    )


def _falls(points: Sequence[CurvePoint]) -> dict[str, tuple[float, float]]:
    """For each term its mean over the first and the last tenth of the curve; nothing for short curves."""
    values: dict[str, list[float]] = {}
    for point in points:
        values.setdefault(point.name, []).append(point.value)
    tenths = {name: len(curve) // 10 for name, curve in values.items() if len(curve) >= FEWEST_POINTS}
    return {n: (statistics.fmean(values[n][:k]), statistics.fmean(values[n][-k:])) for n, k in tenths.items()}


def _ends(falls: dict[str, tuple[float, float]]) -> str:
    return ", ".join(f"{name} from {first:.4g} to {last:.4g}" for name, (first, last) in falls.items())
