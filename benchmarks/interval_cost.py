"""What a metric's interval costs beside its value: CPU seconds of both, one thread.

    OMP_NUM_THREADS=1 python benchmarks/interval_cost.py --rows 2000 --features 64
    OMP_NUM_THREADS=1 python benchmarks/interval_cost.py --rows 500 --metrics rke fid

The value alone and the value with its interval alternate until `--seconds` have passed; each time is the least. The
arrays that a metric reads are given: what networks, drawing and likelihoods take is not part of either. Features are
those of set_metrics.py; images of translations have 16x16 pixels, and there are rows / 8 of them; cas reads images of
8x8 pixels, and timings a hundred calls of either size. Network evaluations, parameters and peak memory have no
interval.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parent))

from set_metrics import CLASSES, HELD_OUT, features, probabilities

from genbench import metrics
from genbench.draw.cost import Cost, TimedBatch
from genbench.errors import TooFewSamples
from genbench.metrics.arrays import matrix
from genbench.metrics.clipped import K, density_terms, expected_coverage, good_share
from genbench.metrics.conditional import accuracy
from genbench.metrics.likelihood import image_bits
from genbench.metrics.manifold import judged
from genbench.metrics.translation import Direction, distances, l1, ssim
from genbench.records import DENSITY
from genbench.registry import METRICS

DIMS, SIDE, LABELS = 784, 16, 10  # of a likelihood; of the translated images; classes of the requests
LEVELS, CALLS = 17, 100  # of the images that cas reads; timed calls of either size
Given = dict[str, Any]


def averaged(scores: Callable[[Direction], Any], a_to_b: Direction, b_to_a: Direction) -> float:
    """The value of a metric that averages two directions."""
    return float(np.mean([scores(way).mean() for way in (a_to_b, b_to_a)]))


def translated_fid(way: Direction) -> float:
    """The value of fid_a_to_b and fid_b_to_a."""
    return metrics.frechet_distance(fake=way.fake, real=way.real)


def of_balls(metric: str, ball: str, k: int, side: str, fake: Any, real: Any) -> float:
    """The value of precision, recall, density or coverage alone."""
    of = {"real": "reference", "fake": "generated"}[ball]
    counts = getattr(judged(metric, fake, real, k, None, balls_of=of).counts(f"{ball} {k}"), side)
    return float(counts.mean() / k if metric == "density" else (counts > 0).mean())


def clipped_density(fake: Any, real: Any) -> float:
    """The value of the metric."""
    return min(1.0, float(density_terms(judged("clipped_density", fake, real, K, None)).mean()))


def clipped_coverage(fake: Any, real: Any) -> float:
    """The value of the metric."""
    near = judged("clipped_coverage", fake, real, K, None)
    mean = float(np.minimum(near.counts(f"open {K}").y / K, 1.0).mean())
    return good_share(mean, expected_coverage(len(real), len(fake)))


def rarest_class(probabilities: Any) -> float:
    """The value of the metric."""
    p = matrix("probabilities", probabilities, least=1)
    return float(np.bincount(p.argmax(axis=1), minlength=p.shape[1]).min() / len(p))


def copying_side(fake: Any, train: Any, held_out: Any) -> float:
    """The value of ct_score."""
    return min(0.0, metrics.ct_score(fake=fake, train=train, held_out=held_out))


def mean_bits(log_probs: Any, dims: int, kind: str) -> float:
    """The value of bits_per_dim."""
    return float(image_bits(log_probs, dims, kind).mean())


def authenticity(fake: Any, train: Any, held_out: Any) -> float:
    """The value of the metric, which the held-out images do not change."""
    return metrics.authenticity_share(fake=fake, train=train)


def subsets(fake: Any, real: Any) -> float:
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
    "precision": partial(of_balls, "precision", "real", 3, "x"),
    "recall": partial(of_balls, "recall", "fake", 3, "y"),
    "density": partial(of_balls, "density", "real", 5, "x"),
    "coverage": partial(of_balls, "coverage", "real", 5, "y"),
    "clipped_density": clipped_density,
    "clipped_coverage": clipped_coverage,
    "vendi": metrics.vendi_score,
    "rke": metrics.renyi_kernel_entropy,
    "sliced_wasserstein": metrics.sliced_wasserstein_distance,
    "confidence": lambda probabilities: matrix("probabilities", probabilities, least=1).max(axis=1).mean(),
    "rarest_class": rarest_class,
    "memorised": metrics.memorised_share,
    "authenticity": authenticity,
    "ct_score": copying_side,
    "fld": metrics.feature_likelihood_divergence,
    **dict.fromkeys(("class_accuracy", "prompt_agreement"), accuracy),
    "clip_score": metrics.clip_score,
    "clip_agreement": metrics.clip_agreement,
    "per_class_fid": lambda **given: metrics.per_class_frechet_distance(**given).mean,
    "cas": metrics.classification_accuracy_score,
    "cycle_error": partial(averaged, lambda way: l1(x=way.back, y=way.source)),
    "paired_l1": partial(averaged, lambda way: l1(x=way.translated, y=way.target)),
    "paired_ssim": partial(averaged, lambda way: ssim(x=way.translated, y=way.target)),
    "paired_lpips": partial(averaged, distances),
    "fid_a_to_b": lambda a_to_b, b_to_a: translated_fid(a_to_b),
    "fid_b_to_a": lambda a_to_b, b_to_a: translated_fid(b_to_a),
    "ppl": metrics.perceptual_path_length,
    **dict.fromkeys(("bits_per_dim", "bits_per_dim_iwae", "bits_per_dim_ode"), mean_bits),
    "images_per_second": lambda cost: cost.batched.images_per_second,
    "latency": lambda cost: 1e3 * median(cost.single.seconds),
}
WITHOUT_INTERVAL = ("evaluations", "parameters", "peak_memory")


def arguments(rows: int, d: int) -> dict[str, Given]:
    """What the metrics read, by the name of their reading."""
    gen = np.random.default_rng(0)
    fake, real = features(rows, d, 1, 0.02), features(rows, d, 2)
    held_out, labels, p = features(min(rows, HELD_OUT), d, 3), gen.integers(LABELS, size=rows), probabilities(rows)
    images = [gen.random((2, max(2, rows // 8), 1, SIDE, SIDE)) for _ in range(4)]
    lpips = gen.exponential(size=(2, len(images[0][0])))
    a_to_b, b_to_a = (Direction(*(x[k] for x in images[:3]), fake, real, images[3][k], lpips[k]) for k in (0, 1))
    digits = gen.integers(LEVELS, size=(rows, 1, 8, 8), dtype=np.uint8)
    calls = [tuple(gen.gamma(50.0, 1e-4, CALLS)) for _ in range(2)]
    cost = Cost(TimedBatch(64, calls[0], None), TimedBatch(1, calls[1], None), 1.0, None)
    return {
        "generated": {"fake": fake},
        "memory": {"fake": fake, "train": real, "held_out": held_out},
        "probabilities": {"probabilities": p},
        "condition": {"probabilities": p, "labels": gen.integers(CLASSES, size=rows)},
        "prompts": {"fake": fake, "texts": real, "which": np.arange(rows)},
        "by class": {"fake": fake, "real": real, "fake_labels": labels, "real_labels": labels},
        "labelled": {"fake": digits, "real": digits, "fake_labels": labels, "real_labels": labels, "levels": LEVELS},
        "cost": {"cost": cost},
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
