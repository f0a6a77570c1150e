"""MIND: shifts and scalings with known values, torch-fidelity's directions, sets of different sizes."""

import numpy as np
import pytest

from genbench.errors import Degenerate, TooFewSamples
from genbench.metrics import monge_inception_distance
from genbench.metrics.mind import MIND, published_directions


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def sphere(d, scale=1.0):
    """Rows whose projections have the same order along every direction as those of any other scale."""
    return scale * np.concatenate([np.eye(d), -np.eye(d)])


def test_a_shift_costs_three_times_its_square_over_many_directions():
    """E (t'm)^2 = |m|^2 / D for t uniform on the sphere; 1,000 directions give it to sqrt(2 / 1000)."""
    real = normal(0, 200, 12)
    m = np.arange(12) / 10
    assert monge_inception_distance(fake=real + m, real=real) == pytest.approx(3 * m @ m, rel=4 * (2 / 1000) ** 0.5)


def test_scaling_is_exact():
    """W2^2 along t is (2 - 1)^2 mean (t'x)^2 = 1 / D of the 2 D rows +- e_i: 3 D / D."""
    assert monge_inception_distance(fake=sphere(16, 2.0), real=sphere(16)) == pytest.approx(3.0, rel=1e-12)


def test_the_same_set_twice_as_often_is_at_distance_0():
    real = normal(0, 30, 5)
    assert monge_inception_distance(fake=np.repeat(real, 2, axis=0), real=real) == pytest.approx(0, abs=1e-12)


def test_equals_sorted_projections_on_the_published_directions():
    """The formula as torch-fidelity's development version writes it, for sets of equal size."""
    fake, real = normal(0, 50, 6) * 1.3, normal(1, 50, 6)
    t = published_directions(6)
    assert np.linalg.norm(t, axis=1) == pytest.approx(1, rel=1e-6)
    expected = 3 * 6 * np.square(np.sort(fake @ t.T, axis=0) - np.sort(real @ t.T, axis=0)).mean()
    assert monge_inception_distance(fake=fake, real=real) == pytest.approx(expected, rel=1e-12)


def test_directions_are_those_of_torch_fidelitys_default_seed():
    import torch

    drawn = torch.randn(1000, 4, generator=torch.Generator().manual_seed(2020))
    assert published_directions(4) == pytest.approx(np.asarray(drawn / drawn.norm(dim=1, keepdim=True)), abs=1e-6)


def test_interval_has_the_spread_of_repeated_draws():
    real = normal(0, 400, 6)
    values = [MIND.compute(fake=normal(s, 200, 6) + 0.4, real=real) for s in range(1, 61)]
    spread = np.std([v.value for v in values])
    assert np.mean([(v.hi - v.value) / 1.96 for v in values]) == pytest.approx(spread, rel=0.3)


def test_sets_that_have_no_value():
    with pytest.raises(TooFewSamples, match="mind: 19 generated samples; needs at least 20"):
        MIND.compute(fake=normal(0, 19, 3), real=normal(1, 50, 3))
    with pytest.raises(Degenerate, match="mind: all 30 reference samples are the same"):
        MIND.compute(fake=normal(0, 30, 3), real=np.ones((30, 3)))
