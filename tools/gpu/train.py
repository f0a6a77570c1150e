"""Step `train`: images a second while training, and how much of the device's arithmetic that uses.

Every zoo model at 28x28 with its preset, and the networks of suites/cifar10.yaml at their published sizes on random
images, each in float32 (products in TF32, as the trainer allows), bfloat16, and bfloat16 compiled.

    utilisation = operations of an image, backward pass included, x images a second / the rate that `facts` measured

The operations are counted by torch's FlopCounterMode: products and convolutions, two for a multiplication with an
addition. A step is timed by CUDA events over several steps, after warm-up, so what the host needs to launch it counts.
Of a recipe in stages every stage is timed; images a second are then those of the whole recipe.
"""

from __future__ import annotations

import gc
from contextlib import nullcontext
from typing import Any
from unittest.mock import patch

import torch
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

from genbench.train.loop import Training
from tools.gpu.common import Part, Setting
from tools.gpu.devices import seconds_of, torch_device, typical_seconds
from tools.gpu.subjects import MODELS, ROUND, SIZES, TINY_SIZES, Trained, at_preset, of_cifar10, training

SECONDS = 2.0  # of timed steps
VARIANTS = {"fp32": ("fp32", False), "bf16": ("bf16", False), "compiled": ("bf16", True)}
TINY_MODELS = ("gan", "vae")


def parts(setting: Setting) -> list[Part]:
    """A process for each model's plain variants; then one for each that is compiled, which takes long."""
    names = list(subjects(setting))
    plain = [Part((f"{n}-fp32", f"{n}-bf16"), "tools.gpu.train:timed", seconds=20.0) for n in names]
    compiled = [] if setting.tiny else [Part((f"{n}-compiled",), "tools.gpu.train:timed", seconds=45.0) for n in names]
    return [*plain, *compiled]


def subjects(setting: Setting) -> dict[str, Trained]:
    """What is trained, by the item's name without the variant; the large networks first."""
    if setting.tiny:
        return {f"{name}-28": at_preset(name, TINY_SIZES["28"], batch=4) for name in TINY_MODELS}
    large = {f"{label}-cifar10": trained for label, trained in of_cifar10().items()}
    return large | {f"{name}-28": at_preset(name, SIZES["28"]) for name in MODELS}


class NoTracker(nullcontext[None]):
    """Operations are counted in total, not by module, whose tracking fails at parametrised weights."""

    parents = frozenset({"Global"})


def timed(setting: Setting, item: str) -> dict[str, Any]:
    """Images a second over the whole recipe, operations an image, and memory at its peak; each stage apart as well."""
    name, _, variant = item.rpartition("-")
    what, device, (precision, compile) = subjects(setting)[name], torch_device(setting.device), VARIANTS[variant]
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")  # as the trainer does
    counted = training(what, device, precision)
    running = training(what, device, precision, compile)
    seconds = 0.1 if setting.tiny else SECONDS
    stages = [
        timed_stage(counted, running, i, ROUND.get(what.name, 1), seconds) for i in range(len(counted.stage_ends))
    ]
    shares = sum(stage["share"] for stage in stages)
    of_image = {k: sum(s["share"] / shares * s[k] for s in stages) for k in ("seconds_per_image", "flops_per_image")}
    rate = 1 / of_image["seconds_per_image"]
    return {
        "batch": what.recipe.batch, "parameters": sum(p.numel() for p in running.model.parameters()),
        "budget_images": what.images, "images_per_second": rate, "flops_per_image": of_image["flops_per_image"],
        "flops_per_second": of_image["flops_per_image"] * rate, "stages": stages,
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None,
    }  # fmt: skip


def timed_stage(counted: Training, running: Training, index: int, steps: int, seconds: float) -> dict[str, Any]:
    """One stage of the recipe. counted: an eager training whose operations are counted; steps: of a round."""
    for one in (counted, running):
        one.fitted.steps = [0, *one.stage_ends][index]
    stage, device = running.model.stages[index], running.model.device
    images = running.recipe.batch * stage.batches
    counted.step()  # the very first also prepares the model
    with patch.object(flop_counter, "ModuleTracker", NoTracker), FlopCounterMode(display=False) as counter:
        for _ in range(steps):
            counted.step()

    def round_of_steps() -> None:
        for _ in range(steps):
            running.step()

    first = seconds_of(round_of_steps, device)
    low, typical, high = (t / steps for t in typical_seconds(round_of_steps, device, seconds, calls=2))
    return {
        "name": stage.name, "share": stage.share, "first_seconds": first, "step_seconds": [low, typical, high],
        "seconds_per_image": typical / images, "flops_per_image": counter.get_total_flops() / steps / images,
    }  # fmt: skip
