"""Drawing samples: fixed blocks, one seed a block, so that image i depends on (weights, sampler, seed, i) alone."""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from genbench.contract import Condition, Model, Steps
from genbench.progress import Progress, Report, silent
from genbench.seeds import stream_seed
from genbench.space import seeded, to_pixels

DRAW_VERSION = 1


@dataclass(frozen=True)
class Drawn:
    """Samples as grey levels (n, C, H, W) uint8 on the CPU, network evaluations per image, and how many images held a
    number that was not finite (such a pixel counts as level 0).
    """

    pixels: Tensor
    evaluations: float
    non_finite: int
    seconds: float


class CallCount:
    """Counts the calls of a module while it is open."""

    def __init__(self, module: nn.Module) -> None:
        self.calls = 0
        self._handle = module.register_forward_hook(self._count)

    def close(self) -> None:
        """Stops counting."""
        self._handle.remove()

    def _count(self, *_: object) -> None:
        self.calls += 1


def draw(
    model: Model,
    n: int,
    seed: int,
    *,
    block: int = 500,
    precision: str = "fp32",
    scratch: Path | None = None,
    report: Report = silent,
) -> Drawn:
    """N samples in eval mode. scratch: a folder that keeps finished blocks, so that a killed run continues."""
    model.eval()
    parts, bad, calls, start = [], 0, 0, time.perf_counter()
    for index in range(-(-n // block)):
        pixels, wrong, evaluations = _kept_block(model, index, seed, block, precision, scratch)
        parts.append(pixels)
        bad, calls = bad + wrong, calls + evaluations
        done, seconds = min(n, (index + 1) * block), time.perf_counter() - start
        report(Progress("draw", done, n, "images", done / seconds))
    return Drawn(torch.cat(parts)[:n], calls / len(parts), bad, time.perf_counter() - start)


def _kept_block(
    model: Model, index: int, seed: int, block: int, precision: str, scratch: Path | None
) -> tuple[Tensor, int, int]:
    if scratch is None:
        return draw_block(model, index, seed, block, precision)
    path = scratch / f"block-{index}.npz"
    if path.is_file():
        with np.load(path) as kept:
            return torch.from_numpy(kept["pixels"]), int(kept["bad"]), int(kept["evaluations"])
    pixels, bad, evaluations = draw_block(model, index, seed, block, precision)
    partial = scratch / f"partial-{index}.npz"
    np.savez(partial, pixels=pixels.numpy(), bad=bad, evaluations=evaluations)
    partial.replace(path)
    return pixels, bad, evaluations


@torch.inference_mode()
def draw_block(
    model: Model, index: int, seed: int, block: int, precision: str = "fp32", condition: Condition | None = None
) -> tuple[Tensor, int, int]:
    """Block number `index`: grey levels (block, C, H, W), images with non-finite numbers, evaluations per image."""
    device = model.device
    gen = seeded(stream_seed(seed, "draw", index), device)
    counter = CallCount(model.denoiser) if isinstance(model, Steps) else None
    with torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext():
        x = model.sample(block, gen, condition)
    evaluations = model.evaluations
    if counter is not None:
        counter.close()
        evaluations = counter.calls
    return to_pixels(x, model.data.levels).cpu(), non_finite_images(x), evaluations


def non_finite_images(x: Tensor) -> int:
    """How many images of x (n, C, H, W) hold a number that is not finite."""
    if math.isfinite(x.sum().item()):  # one cheap look, as nearly always all are
        return 0
    return int((~torch.isfinite(x)).flatten(1).any(1).sum())
