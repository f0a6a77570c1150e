"""Precision, recall, density and coverage on toys with known answers, and torch-fidelity's precision and recall."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genbench.errors import GenbenchError
from genbench.evaluate.store_inputs import kept_about_reference
from genbench.features import Features
from genbench.metrics import BUILT_IN, neighbour_pass, precision_recall
from genbench.metrics.base import Inputs
from genbench.metrics.clipped import CLIPPED
from genbench.metrics.manifold import MANIFOLD
from genbench.metrics.neighbour_pass import NeighbourPass
from genbench.registry import METRICS
from genbench.store import Store

LINE = np.array([[0.0], [1.0], [2.0], [3.0]])


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def test_points_on_a_line():
    """k = 1: real radii are 1; fake radii 9.5, which reach every real point."""
    scores = precision_recall(fake=np.array([[0.5], [10.0]]), real=LINE, k=1)
    assert scores == (0.5, 1.0, 1.0, 0.5)  # density: 0.5 lies in 2 balls, 10 in none; coverage: balls of 0 and 1


def test_the_sphere_belongs_to_the_ball():
    assert precision_recall(fake=np.array([[-1.0], [4.0]]), real=LINE, k=1).precision == 1.0
    assert precision_recall(fake=np.array([[-1.001], [4.001]]), real=LINE, k=1).precision == 0.0


@pytest.mark.parametrize("shift", [0.0, 1e3])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_identical_sets(k, shift):
    """Each point lies in its own ball and, over all, in k others: density is 1 + 1 / k."""
    x = normal(0, 200, 8) + shift
    assert precision_recall(fake=x, real=x, k=k) == pytest.approx((1.0, 1.0, 1 + 1 / k, 1.0), rel=1e-12)


def test_duplicated_points_are_inside_their_own_ball_of_radius_zero():
    x = np.concatenate([np.repeat(normal(0, 10, 16), 5, axis=0), normal(1, 60, 16)]) + 50
    assert precision_recall(fake=x, real=x, k=3)[:2] == (1.0, 1.0)


def test_sets_far_apart():
    assert precision_recall(fake=normal(0, 50, 4) + 1e3, real=normal(1, 60, 4)) == (0.0, 0.0, 0.0, 0.0)


def test_half_of_the_modes_is_precise_and_recalls_half():
    real = np.concatenate([normal(0, 300, 2), normal(1, 300, 2) + 100])
    scores = precision_recall(fake=normal(2, 400, 2), real=real)
    assert scores.precision > 0.95
    assert scores.recall == pytest.approx(0.5, abs=0.03)
    assert scores.coverage == pytest.approx(0.5, abs=0.05)


def test_density_expects_one_at_equal_distributions():
    """Naeem et al. 2020, section 3.3: density 1, coverage 1 - 2^-k for large sets of equal size."""
    scores = precision_recall(fake=normal(0, 2000, 2), real=normal(1, 2000, 2), k=5)
    assert scores.density == pytest.approx(1.0, abs=0.06)
    assert scores.coverage == pytest.approx(1 - 2.0**-5, abs=0.015)


@given(st.integers(0, 10_000), st.integers(1, 6), st.floats(0.01, 100))
@settings(max_examples=15, deadline=None)
def test_swapping_sets_swaps_precision_and_recall_and_scale_does_not_matter(seed, k, scale):
    fake, real = normal(seed, 40, 3) * 1.5, normal(seed + 1, 50, 3)
    there, back = precision_recall(fake=fake, real=real, k=k), precision_recall(fake=real, real=fake, k=k)
    assert (there.precision, there.recall) == (back.recall, back.precision)
    assert precision_recall(fake=scale * fake, real=scale * real, k=k) == there


@pytest.mark.parametrize("k", [3, 5])
def test_agrees_with_torch_fidelity(k):
    from torch_fidelity.metric_prc import prc_features_to_metric

    fake, real = normal(0, 800, 64) * 0.9, normal(1, 700, 64)
    theirs = prc_features_to_metric(
        torch.from_numpy(fake), torch.from_numpy(real), prc_neighborhood=k, verbose=False, save_cpu_ram=False
    )
    ours = precision_recall(fake=fake, real=real, k=k)
    assert 0.05 < ours.recall < ours.precision < 1
    assert ours.precision == pytest.approx(theirs["precision"], rel=1e-6)
    assert ours.recall == pytest.approx(theirs["recall"], rel=1e-6)


def test_features_close_together_and_far_from_0_keep_their_digits():
    """Where float32 distances through inner products, as torch-fidelity takes them, put images on the wrong side."""
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(8, 512))
    fake, real = ((1 + 0.002 * rng.normal(size=(400, 8)) @ plane).astype(np.float32) for _ in range(2))
    a, b = torch.from_numpy(fake).double(), torch.from_numpy(real).double()

    def apart(x, y):
        return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")

    across = apart(a, b)
    precise = (across <= apart(b, b).kthvalue(4).values).any(1).double().mean().item()
    recalled = (apart(a, a).kthvalue(4).values >= across.T).any(1).double().mean().item()
    assert precision_recall(fake=fake, real=real, k=3)[:2] == (precise, recalled)


def test_metrics_state_their_own_k():
    fake, real = normal(0, 300, 6), normal(1, 200, 6) * 1.1
    for name, k in {"precision": 3, "recall": 3, "density": 5, "coverage": 5}.items():
        value = METRICS[name].compute(fake=fake, real=real)
        assert value.value == pytest.approx(getattr(precision_recall(fake=fake, real=real, k=k), name), rel=1e-12)
        assert value.lo <= value.value <= value.hi
        assert METRICS[name].protocol["k"] == k


def test_wilson_interval_does_not_collapse_at_one():
    """Wilson 1927 at p = 1: n / (n + z^2) to 1."""
    x = normal(0, 100, 3)
    value = METRICS["precision"].compute(fake=x, real=x)
    assert (value.value, value.hi) == (1.0, 1.0)
    assert value.lo == pytest.approx(100 / (100 + 1.959964**2), rel=1e-6)


def test_refuses_fewer_than_k_neighbours():
    with pytest.raises(GenbenchError, match="real: found 4 rows, allowed: at least 5"):
        precision_recall(fake=normal(0, 9, 1), real=LINE, k=4)
    with pytest.raises(GenbenchError, match="k: found 0, allowed: at least 1"):
        precision_recall(fake=LINE, real=LINE, k=0)


def test_a_row_is_one_pass_and_the_reference_is_compared_with_itself_once(tmp_path, monkeypatch):
    store, real, calls = Store(tmp_path), normal(0, 60, 3), []
    rows = [normal(seed, 70, 3) + 0.3 for seed in (1, 2)]
    alone = [[metric.compute(fake=fake, real=real) for metric in (*MANIFOLD, *CLIPPED)] for fake in rows]
    for name in ("others", "crossing"):
        compute = getattr(neighbour_pass, name)
        monkeypatch.setattr(neighbour_pass, name, lambda *a, n=name, c=compute: calls.append(n) or c(*a))
    for fake, expected in zip(rows, alone, strict=True):
        near = NeighbourPass(fake, real, kept=lambda part: kept_about_reference(store, "key", part, lambda: real))
        assert [metric.compute(fake=fake, real=real, near=near) for metric in (*MANIFOLD, *CLIPPED)] == expected
        near.nearest_to(real[:5])
    of_the_reference, of_held_out, of_each_row = ["others"], ["crossing"], ["others", "crossing"]
    assert sorted(calls) == sorted(of_the_reference + of_held_out + 2 * of_each_row)


def test_metrics_of_a_row_get_one_pass():
    class Row(Inputs):
        fake, real = Features(normal(0, 60, 3)), Features(normal(1, 70, 3))
        train, held_out = Features(real.vectors.copy()), Features(normal(2, 99, 3))

    row, names = Row(), ("precision", "coverage", "clipped_density", "memorised", "ct_score")
    passes = {id(BUILT_IN[n].reads.read(row, BUILT_IN[n]).values["near"]) for n in names}
    assert len(passes) == 1
    Row.train = Features(normal(3, 70, 3))
    assert id(BUILT_IN["memorised"].reads.read(row, BUILT_IN["memorised"]).values["near"]) not in passes
