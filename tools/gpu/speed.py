"""Step `speed`: what `genbench speed` measures, of every zoo model with its presets for 28x28 and 32x32.

Each item is a process of its own, as in genbench speed: first image, batches of growing size with their memory, share
of the time inside the networks (by CUDA events), floating-point operations, joules an image.
"""

from __future__ import annotations

from dataclasses import asdict
from statistics import median
from typing import Any

from tools.gpu.common import Part, Setting, each
from tools.gpu.devices import torch_device
from tools.gpu.subjects import MODELS, SIZES, TINY_SIZES, captions

SECONDS = 0.3  # each batch size is repeated for about as long
VARIANTS = {"fp32": ("fp32", False), "bf16": ("bf16", False), "compiled": ("bf16", True)}


def parts(setting: Setting) -> list[Part]:
    """The plain variants first, since compiling takes long."""
    sizes, models = (TINY_SIZES, ("gan", "vae")) if setting.tiny else (SIZES, MODELS)
    variants = ("fp32",) if setting.tiny else tuple(VARIANTS)
    names = [f"{model}-{size}-{variant}" for variant in variants for size in sizes for model in models]
    return each(names, "tools.gpu.speed:profiled", seconds=25.0)


def profiled(setting: Setting, item: str) -> dict[str, Any]:
    """The cost of drawing from one model: an item is model-size-variant."""
    from genbench.speed.client import Worker
    from genbench.speed.profile import read_profile
    from genbench.speed.subjects import TimedModel

    model, size, variant = item.rsplit("-", 2)
    precision, compiled = VARIANTS[variant]
    spec = (TINY_SIZES if setting.tiny else SIZES)[size]
    subject = TimedModel(model, model, None, ".", {}, {}, precision, asdict(spec), captions(spec))
    with Worker(str(torch_device(setting.device)), 1 if setting.tiny else 0) as worker:
        first = worker.request("build", subject=vars(subject))["first_seconds"]
        seconds = 0.001 if setting.tiny else SECONDS
        profile = read_profile(worker.request("profile", first_seconds=first, seconds=seconds, compile=compiled))
    best = profile.best
    return {
        "first_seconds": profile.first_seconds, "compile_seconds": profile.compile_seconds,
        "latency_seconds": median(profile.latencies), "best_batch": best.batch,
        "images_per_second": best.images_per_second, "network_share": profile.network_share,
        "flops_per_image": profile.flops, "joules_per_image": profile.joules, "evaluations": profile.evaluations,
        "parameters": profile.parameters, "ended": profile.ended, "busy": profile.busy,
        "sweep": [[p.batch, p.images_per_second, p.peak_mib] for p in profile.sweep],
    }  # fmt: skip
