"""What a metric's interval costs beside its value: CPU seconds of both, one thread.

    python benchmarks/interval_cost.py --rows 2000 --features 64
    python benchmarks/interval_cost.py --rows 500 --metrics rke fid

The value alone and the value with its interval alternate until `--seconds` have passed; each time is the least. The
arrays that a metric reads are given: what networks, drawing and likelihoods take is not part of either. Features are
those of set_metrics.py; images of translations have 16x16 pixels, and there are rows / 8 of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parent))

from set_metrics import CLASSES, HELD_OUT, features, probabilities

from genbench import metrics
from genbench.errors import TooFewSamples
from genbench.metrics.arrays import matrix
from genbench.metrics.conditional import accuracy
from genbench.metrics.translation import Direction, l1, ssim
from genbench.records import DENSITY
from genbench.registry import METRICS
from genbench.space import bits_per_dim

DIMS, SIDE, LABELS = 784, 16, 10  # of a likelihood; of the translated images; classes of the requests
Given = dict[str, Any]


def cycle_error(a_to_b: Direction, b_to_a: Direction) -> float:
    """The value of the metric."""
    return float(np.mean([l1(x=way.back, y=way.source).mean() for way in (a_to_b, b_to_a)]))


def paired(measure: Callable[..., Any], a_to_b: Direction, b_to_a: Direction) -> float:
    """The value of paired_l1 and paired_ssim."""
    return float(np.mean([measure(x=way.translated, y=way.target).mean() for way in (a_to_b, b_to_a)]))


def fid_a_to_b(a_to_b: Direction, b_to_a: Direction) -> float:
    """The value of the metric."""
    return metrics.frechet_distance(fake=a_to_b.fake, real=a_to_b.real)


def mean_bits(log_probs: Any, dims: int, kind: str) -> float:
    """The value of bits_per_dim."""
    return float(bits_per_dim(torch.as_tensor(log_probs), dims).mean())


def authenticity(fake: Any, train: Any, held_out: Any) -> float:
    """The value of the metric, which the held-out images do not change."""
    return metrics.authenticity_share(fake=fake, train=train)


def subsets(fake: Any, real: Any) -> Any:
    """The value of kid_subsets."""
    return metrics.kernel_distance(fake=fake, real=real, subsets=100, subset_size=min(1_000, len(fake)), seed=2020)


VALUES: dict[str, Callable[..., Any]] = {
    "fid": metrics.frechet_distance,
    "sfid": metrics.spatial_frechet_distance,
    "fd_infinity": metrics.frechet_distance_infinity,
    "kid": metrics.kernel_distance,
    "kid_subsets": subsets,
    "cmmd": metrics.clip_kernel_distance,
    "mind": metrics.monge_inception_distance,
    "is": metrics.inception_score,
    "confidence": lambda probabilities: matrix("probabilities", probabilities, least=1).max(axis=1).mean(),
    **dict.fromkeys(("precision", "recall", "density", "coverage"), metrics.precision_recall),
    "memorised": metrics.memorised_share,
    "authenticity": authenticity,
    "ct_score": metrics.ct_score,
    "vendi": metrics.vendi_score,
    "rke": metrics.renyi_kernel_entropy,
    "sliced_wasserstein": metrics.sliced_wasserstein_distance,
    "fld": metrics.feature_likelihood_divergence,
    "clip_score": metrics.clip_score,
    "clip_agreement": metrics.clip_agreement,
    "class_accuracy": accuracy,
    "per_class_fid": metrics.per_class_frechet_distance,
    "ppl": metrics.perceptual_path_length,
    "bits_per_dim": mean_bits,
    "cycle_error": cycle_error,
    "paired_l1": partial(paired, l1),
    "paired_ssim": partial(paired, ssim),
    "fid_a_to_b": fid_a_to_b,
}


def arguments(rows: int, d: int) -> dict[str, Given]:
    """What the metrics read, by the name of their reading."""
    gen = np.random.default_rng(0)
    fake, real = features(rows, d, 1, 0.02), features(rows, d, 2)
    held_out, labels, p = features(min(rows, HELD_OUT), d, 3), gen.integers(LABELS, size=rows), probabilities(rows)
    images = [gen.random((2, max(2, rows // 8), 1, SIDE, SIDE)) for _ in range(4)]
    a_to_b, b_to_a = (Direction(*(x[k] for x in images[:3]), fake, real, images[3][k]) for k in (0, 1))
    return {
        "generated": {"fake": fake},
        "memory": {"fake": fake, "train": real, "held_out": held_out},
        "probabilities": {"probabilities": p},
        "condition": {"probabilities": p, "labels": gen.integers(CLASSES, size=rows)},
        "prompts": {"fake": fake, "texts": real, "which": np.arange(rows)},
        "by class": {"fake": fake, "real": real, "fake_labels": labels, "real_labels": labels},
        "paths": {"distances": gen.exponential(size=rows)},
        "likelihood": {"log_probs": gen.normal(-1500.0, 100.0, rows), "dims": DIMS, "kind": DENSITY},
        "translation": {"a_to_b": a_to_b, "b_to_a": b_to_a},
        "": {"fake": fake, "real": real},
    }


def alternating(calls: list[Callable[[], object]], seconds: float) -> list[float]:
    """The least CPU seconds of each of the calls, which alternate."""
    least, end = [float("inf")] * len(calls), time.thread_time() + seconds
    rounds = 0
    while rounds < 4 or time.thread_time() < end:
        for i, call in enumerate(calls):
            start = time.thread_time()
            call()
            if rounds:  # the first call imports, and fills caches
                least[i] = min(least[i], time.thread_time() - start)
        rounds += 1
    return least


def cost(name: str, given: dict[str, Given], seconds: float) -> tuple[float, float]:
    """CPU seconds of a metric's value, and what its interval adds. Raises TooFewSamples."""
    reads = given.get(METRICS[name].reads.name, given[""])
    value, both = alternating([partial(VALUES[name], **reads), partial(METRICS[name].compute, **reads)], seconds)
    return value, max(0.0, both - value)


def main() -> None:
    """Prints a row for each metric."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=2_000)
    options.add_argument("--features", type=int, default=64)
    options.add_argument("--seconds", type=float, default=0.5, help="for each metric, at least four rounds")
    options.add_argument("--metrics", nargs="+", default=list(VALUES), choices=list(VALUES), metavar="METRIC")
    asked = options.parse_args()
    torch.set_num_threads(1)
    given = arguments(asked.rows, asked.features)
    print(f"{'metric':20}{'value, ms':>12}{'interval, ms':>14}{'of the value':>14}")
    with threadpool_limits(1):
        for name in asked.metrics:
            try:
                value, interval = cost(name, given, asked.seconds)
            except TooFewSamples as why:
                print(f"{name:20}{why}")
                continue
            print(f"{name:20}{1e3 * value:12.3f}{1e3 * interval:14.3f}{interval / value:14.2f}", flush=True)


if __name__ == "__main__":
    main()
