"""Step `train`: images a second while training, and how much of the device's arithmetic that uses.

Every zoo model at 28x28 with its preset, and the networks of suites/cifar10.yaml at their published sizes on random
images, each in float32 (products in TF32, as the trainer allows), bfloat16, and bfloat16 compiled.

    utilisation = operations of a training step, backward pass included / its seconds / the rate that `facts` measured

The operations are counted by torch's FlopCounterMode: products and convolutions, two for a multiplication with an
addition. A step is timed by CUDA events over several steps, after warm-up, so what the host needs to launch it counts.
"""

from __future__ import annotations

import gc
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from tools.gpu.common import Part, Setting
from tools.gpu.devices import seconds_of, synchronise, torch_device, typical_seconds
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


def timed(setting: Setting, item: str) -> dict[str, Any]:
    """Images a second, operations of a step, and memory at its peak."""
    name, _, variant = item.rpartition("-")
    what, device, (precision, compile) = subjects(setting)[name], torch_device(setting.device), VARIANTS[variant]
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    flops = operations(what, device, precision)
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")
    running, steps = training(what, device, precision, compile), ROUND.get(what.name, 1)

    def round_of_steps() -> None:
        for _ in range(steps):
            running.step()

    first = seconds_of(round_of_steps, device)
    low, typical, high = (
        t / steps for t in typical_seconds(round_of_steps, device, 0.1 if setting.tiny else SECONDS, calls=2)
    )
    images = what.recipe.batch * running.model.stages[0].batches
    peak = torch.cuda.max_memory_allocated() / 2**20 if device.type == "cuda" else None
    return {
        "batch": what.recipe.batch, "parameters": sum(p.numel() for p in running.model.parameters()),
        "first_seconds": first, "step_seconds": [low, typical, high], "images_per_second": images / typical,
        "flops_per_step": flops, "flops_per_second": flops / typical, "peak_mib": peak,
        "stages": [stage.name for stage in running.model.stages],
    }  # fmt: skip


def operations(what: Trained, device: torch.device, precision: str) -> float:
    """Floating-point operations of a step, the mean over a round; of the first stage, where there are several."""
    running, steps = training(what, device, precision), ROUND.get(what.name, 1)
    running.step()  # the first also prepares the model
    with FlopCounterMode(display=False) as counter:
        for _ in range(steps):
            running.step()
    synchronise(device)
    return counter.get_total_flops() / steps
