"""Estimates of the time of large runs on 1, 8 and 64 GPUs, from counted operations and stated assumptions.

    python -m tools.scaling_estimate > table.md

Nothing here is measured on a GPU. The operations of each network are counted by torch for one step; a GPU is assumed to
sustain SUSTAINED operations per second, and one training on several GPUs to lose the shares of PARALLEL.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from genbench import returned
from genbench.contract import Batch, DataSpec, Model
from genbench.registry import resolve_model
from genbench.sources.build import build
from genbench.space import seeded, to_unit_range

SUSTAINED = 1e14  # operations per second of a GPU
PARALLEL = {1: 1.0, 8: 0.9, 64: 0.7}  # share of the speed of N GPUs that one training reaches
SAMPLES = 50_000
UNREGULARISED = 1  # a step without the penalties that StyleGAN2 computes every 4th or 16th step
INCEPTION = 299
CIFAR10, IMAGENET64 = DataSpec(3, 32, 32, classes=10), DataSpec(3, 64, 64, classes=1000)


@dataclass(frozen=True)
class PaperRecipe:
    """images: seen in training; None for the recipe's own number."""

    label: str
    model: str
    data: DataSpec
    images: int | None = None


RECIPES = (
    PaperRecipe("DDPM, CIFAR-10", "ddpm", CIFAR10),
    PaperRecipe("EDM, CIFAR-10", "edm", CIFAR10),
    PaperRecipe("flow matching, CIFAR-10", "flow_matching", CIFAR10),
    PaperRecipe("Glow, CIFAR-10", "glow", CIFAR10, 50_000_000),
    PaperRecipe("StyleGAN2, CIFAR-10", "stylegan", CIFAR10),
    PaperRecipe("DCGAN, CIFAR-10", "dcgan", CIFAR10),
    PaperRecipe("EDM, ImageNet-64", "edm", IMAGENET64, 2_500_000_000),
)


def operations(work: Any) -> int:
    """Additions and multiplications of matrix products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def batch_of(spec: DataSpec, n: int = 2) -> Batch:
    """Random images with labels."""
    pixels = torch.randint(spec.levels, (n, *spec.shape), generator=seeded(0), dtype=torch.uint8)
    x = to_unit_range(pixels, spec.levels)
    return Batch(x, pixels, torch.arange(n) % max(1, spec.classes), None, source=x.flip(0))


def of_player(model: Model, spec: DataSpec, player: str) -> float:
    """Operations of one image in the forward pass of a player's loss."""
    batch, gen = batch_of(spec), seeded(0)
    with torch.no_grad():
        model.prepare(batch, gen)
        return operations(lambda: model.loss(batch, player, UNREGULARISED, gen)) / len(batch.x)


def of_training(model: Model, spec: DataSpec) -> float:
    """Operations of one image in the last stage: every turn of its players, backward passes as two forward ones."""
    return sum(3 * of_player(model, spec, player) for player in model.stages[-1].turns)


def of_drawing(model: Model, spec: DataSpec) -> float:
    """Operations of one image: its evaluations, each as the forward pass of the last player's loss."""
    return of_player(model, spec, model.stages[-1].turns[-1]) * float(returned.evaluations(model))


def hours(total: float, gpus: int, sustained: float, share: float = 1.0) -> float:
    """Of so many operations."""
    return total / (sustained * gpus * share) / 3600


def rows(sustained: float) -> Iterator[tuple[str, ...]]:
    """The table of trainings."""
    yield ("recipe", "parameters", "images seen", "Gop an image, training", "Gop an image, drawing",
           *(f"hours on {n} GPU{'s' if n > 1 else ''}" for n in PARALLEL))  # fmt: skip
    for recipe in RECIPES:
        kind = resolve_model(recipe.model)
        model = build(kind, recipe.data, {}, {}, 0).train().requires_grad_(False)
        images = recipe.images or kind.recipe(recipe.data).images
        train, draw = of_training(model, recipe.data), of_drawing(model, recipe.data)
        times = [hours(train * images, n, sustained, share) + hours(draw * SAMPLES, n, sustained)
                 for n, share in PARALLEL.items()]  # fmt: skip
        size = sum(p.numel() for p in model.parameters())
        counts = f"{size / 1e6:.1f} M", f"{images / 1e6:,.0f} M", f"{train / 1e9:.2f}", f"{draw / 1e9:,.1f}"
        yield (recipe.label, *counts, *(f"{time:,.2f}" for time in times))


def scoring(sustained: float, images: float = 1e9) -> Iterator[tuple[str, ...]]:
    """The table of scoring."""
    from torchvision.models import inception_v3

    net = inception_v3(weights=None, init_weights=False, aux_logits=True).eval()
    with torch.no_grad():
        one = operations(lambda: net(torch.zeros(1, 3, INCEPTION, INCEPTION)))
    yield "images", "Gop an image", *(f"hours on {n} GPU{'s' if n > 1 else ''}" for n in PARALLEL)
    yield f"{images:.0e}", f"{one / 1e9:.1f}", *(f"{hours(one * images, n, sustained):,.1f}" for n in PARALLEL)


def markdown(table: Iterator[tuple[str, ...]]) -> str:
    """A table; the first row is its head."""
    head, *others = table
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, ("---",) * len(head), *others))


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sustained", type=float, default=SUSTAINED, help="operations per second of a GPU")
    sustained = parser.parse_args().sustained
    torch.set_num_threads(1)
    print(markdown(scoring(sustained)), flush=True)
    print(f"\n{markdown(rows(sustained))}", flush=True)


if __name__ == "__main__":
    main()
