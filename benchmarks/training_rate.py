"""What share of one thread's rate of matrix products a training step reaches: python benchmarks/training_rate.py

    share = operations of a step / its CPU seconds / the rate of products of 1024x1024 matrices

Every model at 28x28 with its preset and batch, on random images, alternating with the products; each number is the
median of the rounds. Operations are those of the products and convolutions that the model is defined by, backward pass
included, two for a multiplication with an addition; what a faster way computes in addition does not count.

    python benchmarks/training_rate.py --products       the rates of products and convolutions in fp32 and bf16
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils import flop_counter
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent.parent))  # tools

from genbench.train.loop import Training
from tools.gpu.subjects import SIZES, at_preset, training
from tools.gpu.train import NoTracker
from zoo import cyclegan, glow, glow_networks

SIDE = 1024
ROUNDS, SECONDS = 5, 0.3


def cpu_seconds(call: Callable[[], object], seconds: float) -> float:
    """CPU seconds of a call: the mean of those that fill `seconds`."""
    calls, start = 0, time.process_time()
    while time.process_time() - start < seconds:
        call()
        calls += 1
    return (time.process_time() - start) / calls


def plain_conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """zoo.convolution.conv without its faster ways."""
    result = nn.functional.conv2d(x, weight, bias, padding=weight.shape[2] // 2)
    return result.relu() if relu else result


def operations(run: Training) -> int:
    """Of one step, with convolutions computed as they are defined."""
    networks = patch.object(glow_networks, "conv", plain_conv)
    steps = patch.object(glow, "is_faster_fused", lambda x: False)
    last = patch.object(cyclegan.LastConv, "forward", nn.Conv2d.forward)
    tracker = patch.object(flop_counter, "ModuleTracker", NoTracker)
    with networks, steps, last, tracker, FlopCounterMode(display=False) as counter:
        run.step()
    return counter.get_total_flops()


def report(name: str, precision: str) -> None:
    """Prints a line for each stage of a model's training."""
    run = training(at_preset(name, SIZES["28"]), torch.device("cpu"), precision)
    a, b = (torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(k)) for k in (0, 1))
    for index, stage in enumerate(run.model.stages):
        run.fitted.steps = [0, *run.stage_ends][index]
        run.step()
        flops = operations(run)
        times = [(cpu_seconds(run.step, SECONDS), cpu_seconds(lambda: a @ b, SECONDS / 2)) for _ in range(ROUNDS)]
        step, product = (statistics.median(column) for column in zip(*times, strict=True))
        share = statistics.median(flops / s / (2 * SIDE**3 / p) for s, p in times)
        print(
            f"{name:16} {stage.name:12} {step * 1e3:7.1f} ms a step, {flops / 1e9:6.2f} GFLOP, "
            f"products {2 * SIDE**3 / product / 1e9:5.0f} GFLOP/s, share {share:.0%}",
            flush=True,
        )


def report_products() -> None:
    """Prints the rates of a product of matrices and of a 3x3 convolution of 64 channels, in both precisions."""
    gen = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16):
        matrix, weight = torch.randn(SIDE, SIDE, generator=gen).to(dtype), torch.randn(64, 64, 3, 3, generator=gen)
        images = torch.randn(32, 64, 14, 14, generator=gen).to(dtype, memory_format=torch.channels_last)
        convolve = partial(torch.conv2d, images, weight.to(dtype), padding=1)
        product, convolution = cpu_seconds(lambda m=matrix: m @ m, SECONDS), cpu_seconds(convolve, SECONDS)
        print(
            f"{dtype}: products {2e-9 * SIDE**3 / product:.0f} GFLOP/s, "
            f"convolutions {2e-9 * 32 * 64 * 64 * 9 * 14 * 14 / convolution:.0f} GFLOP/s",
        )


def main() -> None:
    """Reports the models, or the products."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--models", nargs="+", default=["gan", "cyclegan", "glow"])
    options.add_argument(
        "--precision", choices=["fp32", "bf16"], default="fp32", help="of the steps; products are fp32"
    )
    options.add_argument("--products", action="store_true", help="instead of the models")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    if chosen.products:
        report_products()
    for name in [] if chosen.products else chosen.models:
        report(name, chosen.precision)


if __name__ == "__main__":
    main()
