"""MeanFlow's training step with zoo/tangents.py and with torch's tangents, and flow matching's.

    python benchmarks/tangents.py

CPU milliseconds on one thread, alternating; each number is the median of the rounds. Preset and batch of each size,
random images.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from unittest.mock import patch

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))  # tools

from genbench.contract import DataSpec
from genbench.train.loop import Training
from tools.gpu.subjects import at_preset, training
from zoo import tangents

SHAPES = (DataSpec(1, 8, 8, 17, 10), DataSpec(1, 28, 28, 256, 10))
ROUNDS, STEPS = 7, 3


def milliseconds(run: Training) -> float:
    """CPU time of a step."""
    start = time.process_time()
    for _ in range(STEPS):
        run.step()
    return 1e3 * (time.process_time() - start) / STEPS


def main() -> None:
    """Prints a line for each size."""
    torch.set_num_threads(1)
    for size in SHAPES:
        mean, flow = (
            training(at_preset(name, size), torch.device("cpu"), "fp32") for name in ("mean_flow", "flow_matching")
        )
        rows = []
        for _ in range(ROUNDS):
            ours = milliseconds(mean)
            with patch.object(tangents, "FASTER", {}):
                theirs = milliseconds(mean)
            flows = milliseconds(flow)
            rows.append((ours, theirs, flows, ours / theirs, ours / flows))
        ours, theirs, flows, less, more = (statistics.median(column) for column in zip(*rows, strict=True))
        print(
            f"{size.height}x{size.width}: mean_flow {ours:.1f} ms, with torch's tangents {theirs:.1f} ms "
            f"(ratio {less:.2f}), flow_matching {flows:.1f} ms (ratio {more:.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
