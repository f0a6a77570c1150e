"""Metrics with their intervals on 2,000 fake and 2,000 real rows of 64 features, and the routes that other sizes take:
`make bench`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from interval_cost import arguments
from threadpoolctl import threadpool_limits

from genbench.check.other_device import DEVICE, other_device
from genbench.metrics import nearest
from genbench.metrics.computing import computing_on
from genbench.metrics.mixture import kept_type
from genbench.metrics.neighbour_pass import NeighbourPass
from genbench.metrics.products import KINDS
from genbench.registry import METRICS

N, D, CLASSES = 2_000, 64, 10
NAMES = (
    "fid", "fd_infinity", "kid", "kid_subsets", "cmmd", "mind", "is", "precision", "recall", "density", "coverage",
    "clipped_density", "clipped_coverage", "vendi", "rke", "sliced_wasserstein", "memorised", "authenticity",
    "ct_score", "clip_score", "clip_agreement",
)  # fmt: skip
ROUTES = {  # metric, rows, features
    "FID, a covariance and a root": ("fid", 1_500, 512),
    "FID, fewer rows than features": ("fid", 400, 1_024),
    "KID, subsets one by one": ("kid_subsets", 11_000, 16),
    "Vendi, fewer rows than features": ("vendi", 400, 1_024),
    "FLD": ("fld", 400, 64),
}
OF_OTHER_READINGS = (
    "sfid", "confidence", "rarest_class", "class_accuracy", "per_class_fid", "ppl", "bits_per_dim", "cycle_error",
    "paired_ssim", "fid_a_to_b",
)  # fmt: skip
ON_THE_DEVICE = ("fid", "kid", "coverage", "mind", "vendi", "rke", "fld", "is", "clip_score", "clip_agreement")
IN_HALF_PRECISION = 900_000  # bytes: distances of 400 rows to 400 centres fit in float16 and not in float32
OF_ONE_PASS = ("precision", "recall", "density", "coverage", "clipped_density", "clipped_coverage")
OF_MEMORY = ("memorised", "authenticity", "ct_score")


def rows(seed: int, shift: float = 0.0, n: int = N, d: int = D) -> np.ndarray:
    """Features (n, d): Gaussian, with a spread that falls from one feature to the next."""
    return shift + np.random.default_rng(seed).normal(size=(n, d)) / np.sqrt(1 + np.arange(d))


def given(reads: str, n: int = N, d: int = D) -> dict[str, Any]:
    """The arguments of a metric that reads this."""
    fake, real = rows(1, 0.1, n, d), rows(2, 0.0, n, d)
    scores = np.exp(2 * rows(3)[:, :CLASSES])
    unit = {name: np.clip(0.5 + 0.2 * x, 0, 1) for name, x in (("fake", fake), ("real", real))}
    return {
        "generated": {"fake": fake},
        "pixels": unit,
        "memory": {"fake": fake, "train": real, "held_out": rows(4, 0.0, n, d)},
        "prompts": {"fake": fake, "texts": real, "which": np.arange(n)},
        "probabilities": {"probabilities": scores / scores.sum(1, keepdims=True)},
    }.get(reads, {"fake": fake, "real": real})


@pytest.mark.parametrize("name", NAMES)
def test_metric(benchmark, name: str):
    metric = METRICS[name]
    with threadpool_limits(1):
        benchmark(metric.compute, **given(metric.reads.name))


@pytest.mark.parametrize("route", ROUTES)
def test_route(benchmark, route: str):
    name, n, d = ROUTES[route]
    metric = METRICS[name]
    with threadpool_limits(1):
        benchmark(metric.compute, **given(metric.reads.name, n, d))


@pytest.mark.parametrize("name", OF_OTHER_READINGS)
def test_metric_of_another_reading(benchmark, name: str):
    every = arguments(N, D)
    reads = every.get(METRICS[name].reads.name, every[""])
    with threadpool_limits(1):
        benchmark(METRICS[name].compute, **reads)


def test_fid_of_singular_covariances(benchmark):
    """The route by singular values, with more than 256 features."""
    sets = {name: np.repeat(x, 2, axis=1) for name, x in given("features", 800, 150).items()}
    with threadpool_limits(1):
        result = benchmark(METRICS["fid"].compute, **sets)
    assert "the trace from" not in result.interval


def test_inception_score_of_a_thousand_classes(benchmark):
    scores = np.exp(2 * rows(3, 0.0, N, 1_000))
    with threadpool_limits(1):
        benchmark(METRICS["is"].compute, probabilities=scores / scores.sum(1, keepdims=True))


def test_fld_with_distances_in_half_precision(benchmark):
    with threadpool_limits(1), computing_on("cpu", IN_HALF_PRECISION):
        assert kept_type(400, 400) == torch.float16
        benchmark(METRICS["fld"].compute, **given("memory", 400))


@pytest.mark.parametrize("name", ON_THE_DEVICE)
def test_on_the_simulated_device(benchmark, name: str):
    """The code for an accelerator, on tensors that the CPU computes."""
    sets = given(METRICS[name].reads.name, 400)
    with threadpool_limits(1), other_device(), computing_on(DEVICE):
        benchmark(METRICS[name].compute, **sets)


@pytest.mark.parametrize("kind", ["tf32", "bfloat16"])
def test_neighbours_from_products_of_less_precision(benchmark, kind: str):
    with threadpool_limits(1), computing_on("cpu", products=KINDS[kind]):
        benchmark(METRICS["coverage"].compute, **given("neighbours"))


def test_neighbours_within_a_large_set(benchmark, monkeypatch):
    """The way of more than 8,192 rows: each pair once."""
    monkeypatch.setattr(nearest, "_KEPT", 0)
    with threadpool_limits(1):
        benchmark(nearest.others, given("neighbours")["real"], 5)


def test_neighbours_with_two_threads(benchmark):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        benchmark(METRICS["coverage"].compute, **given("neighbours"))
    finally:
        torch.set_num_threads(before)


def test_all_that_compare_distances_from_one_pass(benchmark):
    memory = given("memory")
    pair = {"fake": memory["fake"], "real": memory["train"]}

    def measure() -> None:
        near = NeighbourPass(*pair.values())
        for name in OF_ONE_PASS:
            METRICS[name].compute(**pair, near=near)
        for name in OF_MEMORY:
            METRICS[name].compute(**memory, near=near)

    with threadpool_limits(1):
        benchmark(measure)
