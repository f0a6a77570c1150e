"""The suites that genbench ships: each reads, and its sweeps draw from one training."""

from __future__ import annotations

from pathlib import Path

import pytest

from genbench.suite.schema import Suite, read_suite

FILES = sorted((Path(__file__).parent.parent / "suites").glob("*.yaml"))
SWEEPS = {
    ("fashion_mnist", "ddpm"): ("steps", [5, 10, 20, 50]),
    ("fashion_mnist", "stylegan"): ("psi", [0.7, 0.5]),
    ("fashion_mnist", "glow"): ("temperature", [0.9, 0.7]),
    ("fashion_mnist_cpu", "ddpm"): ("steps", [5, 10, 20, 50]),
    ("fashion_mnist_cpu", "stylegan"): ("psi", [0.7, 0.5]),
    ("fashion_mnist_cpu", "glow"): ("temperature", [0.9, 0.7]),
    ("fashion_mnist_cpu", "mean_flow"): ("steps", [2]),
    ("fashion_mnist", "mean_flow"): ("steps", [2]),
    ("cifar10", "ddpm"): ("steps", [10, 20, 50, 100]),
    ("text_to_image", "guidance-1.5"): ("guidance", [0.0, 1.0, 2.0, 4.0, 7.5]),
}


def named(name: str) -> Suite:
    return read_suite(next(path for path in FILES if path.stem == name))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_it_reads_and_is_called_as_its_file(path):
    assert read_suite(path).suite == path.stem


@pytest.mark.parametrize(("suite", "owner"), SWEEPS)
def test_a_sweep_is_one_training(suite, owner):
    option, values = SWEEPS[suite, owner]
    rows = [entry for entry in named(suite).models if entry.weights_of == owner]
    assert [entry.sampler[option] for entry in rows] == values
    assert not any(entry.config for entry in rows)


def test_both_fashion_suites_have_the_same_rows_and_metrics():
    gpu, cpu = named("fashion_mnist"), named("fashion_mnist_cpu")
    rows = [[(e.label, e.config, e.sampler, e.weights_of) for e in suite.models] for suite in (gpu, cpu)]
    assert rows[0] == rows[1]
    assert [name for name in gpu.metrics if name != "fd_infinity"] == cpu.metrics  # 2,000 samples are too few for it
    assert all(entry.budget is None for entry in gpu.models)
    assert all((entry.budget is None) == (entry.weights_of is not None) for entry in cpu.models)
