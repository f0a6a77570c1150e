"""Sliced Wasserstein distance against closed forms, scipy and the cheapest assignment."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.stats import wasserstein_distance

from genbench.errors import CellFailure, GenbenchError
from genbench.metrics import wasserstein
from genbench.metrics.wasserstein import (
    SLICED_WASSERSTEIN,
    directions,
    mean_squared_distance,
    quantile_steps,
    sliced_wasserstein_distance,
    with_effects,
)


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("shape", [(200, 30), (2, 1), (30, 200)])
def test_identical_sets_in_any_order(shape):
    x = normal(0, *shape)
    assert sliced_wasserstein_distance(fake=x, real=x[::-1], projections=50) == pytest.approx(0, abs=1e-12)


def test_every_sample_twice_is_the_same_set():
    x = normal(0, 50, 5)
    assert sliced_wasserstein_distance(fake=np.repeat(x, 2, axis=0), real=x) == pytest.approx(0, abs=1e-12)


def test_shift_reads_as_the_root_mean_square_over_pixels():
    """Along t the distance is |t'm|, in the mean over all directions |m|^2 / P when squared."""
    x, m = normal(0, 100, 48), np.linspace(-0.2, 0.5, 48)
    exact = np.sqrt(np.square(directions(48, 1000, 2020) @ m).mean())
    found = sliced_wasserstein_distance(fake=x + m, real=x)
    assert found == pytest.approx(exact, rel=1e-12)
    assert found == pytest.approx(np.sqrt(np.square(m).mean()), rel=4 * np.sqrt(2 / 1000) / 2)


def test_gaussians_of_other_size_and_place():
    """N(m, a^2 I) and N(0, b^2 I) along t: (t'm)^2 + (a - b)^2."""
    a, b, m, n = 1.5, 1.0, np.linspace(0.1, 0.7, 6), 4000
    expected = np.square(directions(6, 100, 0) @ m).mean() + (a - b) ** 2
    pairs = [(a * normal(2 * s, n, 6) + m, b * normal(2 * s + 1, n // 2, 6)) for s in range(8)]
    found = [sliced_wasserstein_distance(fake=f, real=r, projections=100, seed=0) ** 2 for f, r in pairs]
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / np.sqrt(8) + 0.005)


def test_one_dimension_by_hand_and_by_scipy():
    """Where all values are 0 or 1, squared distances are distances: W2^2 = W1."""
    found = sliced_wasserstein_distance(fake=[[0.0], [1.0]], real=[[0.0], [0.0], [1.0]], projections=1)
    assert found**2 == pytest.approx(1 / 6, rel=1e-12)
    fake, real = (np.random.default_rng(s).integers(0, 2, (n, 1)).astype(float) for s, n in ((0, 91), (1, 40)))
    found = sliced_wasserstein_distance(fake=fake, real=real, projections=1)
    assert found**2 == pytest.approx(wasserstein_distance(fake[:, 0], real[:, 0]), rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(12, 12), (12, 20), (7, 5), (30, 2)])
def test_one_dimension_is_the_cheapest_assignment(n, m):
    x, y = normal(0, n, 1) * 2 + 1, normal(1, m, 1)
    cost = np.square(np.repeat(x, m, axis=0) - np.repeat(y, n, axis=0).T)
    rows, columns = linear_sum_assignment(cost)
    found = sliced_wasserstein_distance(fake=x, real=y, projections=3)
    assert found**2 == pytest.approx(cost[rows, columns].mean(), rel=1e-12)


@pytest.mark.parametrize("m", [16, 41])
def test_effects_are_the_derivative_in_the_weights_of_the_samples(m):
    """W2^2 is linear in the weights until the end of a fake step passes that of a real one."""
    fake, real, copies = 1.5 * normal(0, 15, 2) + 0.3, normal(1, m, 2), 400
    along = directions(2, 30, 7)
    squared, effects = with_effects(fake, real, along)
    effects = effects - effects.mean()
    many = np.tile(fake, (copies, 1))
    for i in (0, 7):
        moved = mean_squared_distance(np.vstack([many, np.tile(fake[i], (2, 1))]), real, along) - squared
        assert moved == pytest.approx(effects[i] * 2 / (len(many) + 2), rel=1e-6)


def test_interval_has_the_spread_of_repeated_draws():
    real = normal(0, 400, 5)
    values = [SLICED_WASSERSTEIN.compute(fake=1.5 * normal(s, 200, 5) + 0.3, real=real) for s in range(1, 81)]
    spread = np.std([v.value for v in values])
    assert np.mean([(v.hi - v.lo) / 2 / 1.96 for v in values]) == pytest.approx(spread, rel=0.2)
    assert all(v.lo < v.value < v.hi for v in values)


def test_does_not_depend_on_blocks_or_on_the_type(monkeypatch):
    fake, real = (normal(s, n, 10).astype(np.float32) for s, n in ((0, 70), (1, 45)))
    value = sliced_wasserstein_distance(fake=fake, real=real, projections=40)
    monkeypatch.setattr(wasserstein, "_BLOCK", 16)
    monkeypatch.setattr(wasserstein, "_DIRECTION_BLOCK", 7)
    wide = {"fake": fake.astype(np.float64), "real": real.astype(np.float64)}
    assert sliced_wasserstein_distance(**wide, projections=40) == pytest.approx(value, rel=1e-12)
    assert sliced_wasserstein_distance(**wide, projections=40, seed=0) != pytest.approx(value, rel=1e-6)


def test_pieces_cover_the_whole_once():
    cut = quantile_steps(7, 5)
    assert cut.length.sum() == pytest.approx(1, rel=1e-12)
    assert np.bincount(cut.fake, cut.length) == pytest.approx(np.full(7, 1 / 7))
    assert np.bincount(cut.real, cut.length) == pytest.approx(np.full(5, 1 / 5))
    assert len(cut.length) == 7 + 5 - 1


@pytest.mark.parametrize(
    ("fake", "real", "error", "message"),
    [
        (np.zeros(5), np.zeros((5, 2)), GenbenchError, r"fake: found an array of shape \(5,\), allowed: \(N, P\)"),
        (
            np.zeros((3, 2)),
            np.zeros((1, 2)),
            GenbenchError,
            r"real: found an array of shape \(1, 2\), allowed: \(N, P\)",
        ),
        (np.zeros((3, 2)), np.zeros((5, 3)), GenbenchError, "fake has 2 pixels a row and real 3"),
        (np.zeros((3, 2)), np.full((5, 2), np.inf), CellFailure, "real: 5 of 5 rows hold a value that is not finite"),
    ],
)
def test_refuses_what_has_no_distance(fake, real, error, message):
    with pytest.raises(error, match=message):
        sliced_wasserstein_distance(fake=fake, real=real)


def test_refuses_no_projection():
    with pytest.raises(GenbenchError, match="projections: found 0, allowed: at least 1"):
        sliced_wasserstein_distance(fake=np.zeros((3, 2)), real=np.zeros((3, 2)), projections=0)
