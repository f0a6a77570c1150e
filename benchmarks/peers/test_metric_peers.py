"""Set-level metrics against torch-fidelity's and prdc's, alternating, on 5,000 + 5,000 rows of 2,048 features.

    make bench-peers PEERS=benchmarks/peers/test_metric_peers.py        with 1 and with 2 threads

Both start from the features and keep nothing between calls: the reference's part, which a suite computes once for all
rows, counts each time on both sides. Ours includes the interval unless a row says otherwise. One thread: CPU seconds;
two: the wall's, which need a quiet machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from contest import contest, report
from prdc import compute_prdc
from threadpoolctl import threadpool_limits
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from genbench.metrics import frechet_distance
from genbench.metrics.neighbour_pass import NeighbourPass
from genbench.registry import METRICS

N, FEW, D, ROUNDS = 5_000, 1_000, 2_048, 2
Sets = dict[str, np.ndarray]


def features(n: int) -> Sets:
    """Positive features with a falling spread, as Inception's, float32."""
    rng = np.random.default_rng(0)
    spread = 1 / np.sqrt(1 + np.arange(D))
    return {
        name: np.abs(rng.normal(size=(n, D)) * spread + 0.3 + shift).astype(np.float32)
        for name, shift in (("fake", 0.02), ("real", 0.0))
    }


def of_one_pass(*names: str) -> Callable[[Sets], Any]:
    """Metrics that share a pass over the distances."""

    def call(sets: Sets) -> Any:
        near = NeighbourPass(sets["fake"], sets["real"])
        return [METRICS[name].compute(**sets, near=near) for name in names]

    return call


def their_fid(fake: torch.Tensor, real: torch.Tensor) -> Any:
    statistics = [fid_features_to_statistics(x) for x in (fake, real)]
    return fid_statistics_to_metric(*statistics, verbose=False)


def their_precision_and_recall(fake: torch.Tensor, real: torch.Tensor) -> Any:
    return prc_features_to_metric(fake, real, prc_neighborhood=3, save_cpu_ram=False, verbose=False)


def their_kid(fake: torch.Tensor, real: torch.Tensor) -> Any:
    return kid_features_to_metric(fake, real, kid_subset_size=min(1000, len(fake)), verbose=False)


def their_four(fake: torch.Tensor, real: torch.Tensor) -> Any:
    return compute_prdc(real.numpy(), fake.numpy(), nearest_k=5)


ALL_FOUR = ("precision", "recall", "density", "coverage")
CONTESTS: dict[str, tuple[int, float, Callable[[Sets], Any], Callable[..., Any]]] = {  # rows, aim, ours, theirs
    "FID, value": (N, 0.5, lambda sets: frechet_distance(**sets), their_fid),
    "FID, value and interval": (N, 1.0, lambda sets: METRICS["fid"].compute(**sets), their_fid),
    "FID, 1,000 rows, value": (FEW, 0.15, lambda sets: frechet_distance(**sets), their_fid),
    "KID, 100 subsets of 1,000": (N, 0.6, lambda sets: METRICS["kid_subsets"].compute(**sets), their_kid),
    "KID, all pairs": (N, 0.6, lambda sets: METRICS["kid"].compute(**sets), their_kid),
    "precision, recall": (N, 0.8, of_one_pass("precision", "recall"), their_precision_and_recall),
    "precision, recall, density, coverage": (N, 1.0, of_one_pass(*ALL_FOUR), their_precision_and_recall),
    "precision, recall, density, coverage against prdc": (N, 1.0, of_one_pass(*ALL_FOUR), their_four),
    "these, clipped density and coverage": (
        N, 1.0, of_one_pass(*ALL_FOUR, "clipped_density", "clipped_coverage"), their_precision_and_recall,
    ),
}  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("what", CONTESTS)
def test_metric(benchmark: Any, what: str, threads: int) -> None:
    rows, share, ours, theirs = CONTESTS[what]
    sets = features(rows)
    tensors = [torch.from_numpy(x) for x in sets.values()]
    clock = time.process_time if threads == 1 else time.perf_counter
    torch.set_num_threads(threads)
    with threadpool_limits(threads):
        benchmark.pedantic(lambda: ours(sets), rounds=1)
        result = contest(lambda: ours(sets), lambda: theirs(*tensors), least_rounds=ROUNDS, clock=clock)
    report(benchmark, f"{what}, {threads} thread{'s' * (threads > 1)}", rows, 1 / share, result)
