"""Time and memory of every set-level metric at paper size, as a suite computes them for one row: with intervals, all
that compare distances from one pass, the reference's part included.

    python benchmarks/set_metrics.py --rows 50000 --threads 2
    python benchmarks/set_metrics.py --rows 50000 --device cuda --memory 2048

Features are random, positive, with a falling spread; sliced Wasserstein reads as many pixels as features. Memory is
the process's peak beyond what it holds before the metric: of the CPU, not of a GPU.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from genbench.metrics.computing import computing_on
from genbench.metrics.neighbour_pass import NeighbourPass
from genbench.registry import METRICS

CLASSES, HELD_OUT = 1_000, 10_000
PART = 5_000  # rows made at a time
NAMES = (
    "fid", "fd_infinity", "kid", "kid_subsets", "cmmd", "mind", "is", "precision", "recall", "density", "coverage",
    "clipped_density", "clipped_coverage", "memorised", "authenticity", "ct_score", "vendi", "rke",
    "sliced_wasserstein", "fld",
)  # fmt: skip
Sets = dict[str, np.ndarray]


def features(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    """Positive features (n, d) with a falling spread, float32."""
    rng, spread = np.random.default_rng(seed), (1 / np.sqrt(1 + np.arange(d))).astype(np.float32)
    result = np.empty((n, d), dtype=np.float32)
    for start in range(0, n, PART):
        rows = result[start : start + PART]
        rng.standard_normal(out=rows, dtype=np.float32)
        rows *= spread
        rows += 0.3 + shift
        np.abs(rows, out=rows)
    return result


def probabilities(n: int) -> np.ndarray:
    """Class probabilities (n, CLASSES), float32."""
    scores = np.exp(2 * np.random.default_rng(9).standard_normal((n, CLASSES), dtype=np.float32))
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def arguments(name: str, sets: Sets) -> Sets:
    """The arguments of a metric, by what it reads."""
    fake, real = sets["fake"], sets["real"]
    return {
        "generated": {"fake": fake},
        "memory": {"fake": fake, "train": real, "held_out": sets["held_out"]},
        "probabilities": {"probabilities": sets["probabilities"]},
    }.get(METRICS[name].reads.name, {"fake": fake, "real": real})


def resident(field: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most since `forget_peak`; Linux alone."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) / 1024


def forget_peak() -> None:
    """VmHWM starts again."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(chosen: list[str], sets: Sets, device: str, memory: int) -> None:
    """Prints a line for each metric, and the sums."""
    near, total, most = NeighbourPass(sets["fake"], sets["real"]), 0.0, 0.0
    print(f"{'metric':20}{'value':>12}{'wall, s':>10}{'CPU, s':>10}{'MiB more':>10}")
    for name in chosen:
        shared = {"near": near} if METRICS[name].reads.name in ("neighbours", "memory") else {}
        before = resident("VmRSS")
        forget_peak()
        wall, cpu = time.perf_counter(), time.process_time()
        with computing_on(device, memory):
            value = METRICS[name].compute(**arguments(name, sets), **shared).value
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        total, more = total + wall, resident("VmHWM") - before
        most = max(most, more)
        print(f"{name:20}{value:12.5g}{wall:10.1f}{cpu:10.1f}{more:10,.0f}", flush=True)
    print(f"{'all':20}{'':12}{total:10.1f}{'':10}{most:10,.0f}")


def main() -> None:
    """Makes the sets and measures."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=50_000)
    options.add_argument("--features", type=int, default=2_048)
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--device", default="cpu")
    options.add_argument("--memory", type=int, default=2_048, help="MiB that a metric may use beside the features")
    options.add_argument("--metrics", nargs="+", default=NAMES, choices=NAMES, metavar="METRIC")
    asked = options.parse_args()
    torch.set_num_threads(asked.threads)
    n, d = asked.rows, asked.features
    sets = {"fake": features(n, d, 1, 0.02), "real": features(n, d, 2), "held_out": features(min(n, HELD_OUT), d, 3)}
    sets["probabilities"] = probabilities(n)
    with threadpool_limits(asked.threads):
        measure(asked.metrics, sets, asked.device, asked.memory * 2**20)


if __name__ == "__main__":
    main()
