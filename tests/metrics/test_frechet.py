"""Frechet distance against closed forms (Gaussians with exact moments), known bias, and torch-fidelity."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genbench.errors import CellFailure, Degenerate, GenbenchError
from genbench.metrics import covariance_trace, frechet, frechet_distance
from genbench.metrics.frechet import FrechetComparison, feature_moments, fid, first_derivatives
from genbench.registry import METRICS


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def with_moments(seed, n, mean, root):
    """n rows whose sample mean and covariance are exactly mean and root' root."""
    rows = normal(seed, n, len(mean))
    q, _ = np.linalg.qr(rows - rows.mean(axis=0))
    return np.asarray(mean) + np.sqrt(n - 1) * q @ root


def reference_fid(fake, real):
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    statistics = [fid_features_to_statistics(torch.from_numpy(x.astype(np.float64))) for x in (fake, real)]
    return fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]


@pytest.mark.parametrize("distance", [frechet_distance, fid])
def test_a_reference_of_one_row_repeated_is_refused_by_name(distance):
    with pytest.raises(Degenerate, match=f"^{distance.__name__}: all 30 reference samples are the same"):
        distance(fake=normal(0, 30, 4), real=np.ones((30, 4)))


def test_isotropic_gaussians():
    d, shift = 6, np.linspace(-1, 2, 6)
    fake, real = with_moments(0, 100, shift, 1.5 * np.eye(d)), with_moments(1, 80, np.zeros(d), 0.4 * np.eye(d))
    expected = np.square(shift).sum() + d * (1.5 - 0.4) ** 2
    assert frechet_distance(fake=fake, real=real) == pytest.approx(expected, rel=1e-12)


def test_commuting_covariances():
    a, b = np.array([0.1, 1.0, 3.0]), np.array([2.0, 0.5, 3.0])  # standard deviations along shared axes
    axes, _ = np.linalg.qr(normal(3, 3, 3))
    fake, real = (
        with_moments(0, 50, np.zeros(3), np.diag(a) @ axes),
        with_moments(1, 60, np.zeros(3), np.diag(b) @ axes),
    )
    assert frechet_distance(fake=fake, real=real) == pytest.approx(np.square(a - b).sum(), rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(500, 16), (10, 64), (2, 3)])
def test_identical_sets_are_at_distance_zero(n, d):
    x = normal(0, n, d) * np.logspace(0, -6, d) + 100
    assert frechet_distance(fake=x, real=x) == pytest.approx(0, abs=1e-9)


def test_the_mean_of_float32_rows_is_added_in_float64():
    rows = (1000 + normal(0, 3000, 3)).astype(np.float32)
    assert feature_moments(rows).mean == pytest.approx(rows.astype(np.float64).mean(axis=0), rel=1e-14)


def test_fewer_samples_than_dimensions_is_exact():
    """Rank-one covariances: tr (S_f S_r)^(1/2) = |a' b| of the two directions."""
    a, b = normal(0, 1, 40)[0], normal(1, 1, 40)[0]
    fake, real = np.stack([a, -a]) / np.sqrt(2), np.stack([b, -b]) / np.sqrt(2)
    expected = a @ a + b @ b - 2 * abs(a @ b)
    assert frechet_distance(fake=fake, real=real) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("n", "m"), [(400, 300), (2000, 1437)])
def test_agrees_with_torch_fidelity(n, m):
    scale = 1 / np.arange(1, 65)
    fake, real = (normal(0, n, 64) * scale + 0.05).astype(np.float32), (normal(1, m, 64) * scale).astype(np.float32)
    assert frechet_distance(fake=fake, real=real) == pytest.approx(reference_fid(fake, real), rel=1e-6)


@given(st.integers(0, 10_000), st.floats(-1e4, 1e4))
@settings(max_examples=15, deadline=None)
def test_invariant_to_rotation_shift_and_order_and_quadratic_in_scale(seed, shift):
    fake, real = normal(seed, 40, 5) * 1.3 + 0.2, normal(seed + 1, 30, 5)
    turn, _ = np.linalg.qr(normal(seed + 2, 5, 5))
    distance = frechet_distance(fake=fake, real=real)
    assert frechet_distance(fake=fake @ turn + shift, real=real @ turn + shift) == pytest.approx(distance, rel=1e-6)
    assert frechet_distance(fake=3 * fake[::-1], real=3 * real) == pytest.approx(9 * distance, rel=1e-9)
    assert frechet_distance(fake=real, real=fake) == pytest.approx(distance, rel=1e-9)


def test_small_sample_bias_is_the_known_one():
    """Two samples of N(0, I_d) of size N: about 2 d / N + (d^2 + d) / (2 N)."""
    d, n = 32, 2000
    found = [frechet_distance(fake=normal(2 * s, n, d), real=normal(2 * s + 1, n, d)) for s in range(20)]
    assert np.mean(found) == pytest.approx(2 * d / n + (d * d + d) / (2 * n), rel=0.02)


def test_interval_has_the_spread_of_repeated_draws():
    real = normal(0, 1000, 16)
    values = [METRICS["fid"].compute(fake=1.5 * normal(s, 600, 16) + 0.3, real=real) for s in range(1, 13)]
    spread = np.std([frechet_distance(fake=1.5 * normal(s, 600, 16) + 0.3, real=real) for s in range(1, 401)])
    assert np.mean([(v.hi - v.value) / 1.96 for v in values]) == pytest.approx(spread, rel=0.15)
    assert all(v.lo < v.value < v.hi for v in values)
    assert "reference fixed" in values[0].interval


def test_interval_is_the_derivative_in_the_weights_of_the_samples():
    """Infinitesimal jackknife: moving weight to one row changes the distance at the rate of its influence."""
    from genbench.metrics.frechet import feature_moments, with_influence

    fake, real, copies = 1.5 * normal(0, 20, 3) + 0.3, normal(1, 30, 3), 2000
    effects = with_influence(fake, feature_moments(real)).effects
    effects = effects - effects.mean()
    many = np.tile(fake, (copies, 1))
    base = frechet_distance(fake=many, real=real)
    for i in (0, 7):
        moved = frechet_distance(fake=np.vstack([many, np.tile(fake[i], (10, 1))]), real=real) - base
        assert moved == pytest.approx(effects[i] * 10 / len(many), rel=0.1)


@pytest.mark.parametrize(
    ("fake", "real", "error", "message"),
    [
        (np.zeros(5), np.zeros((5, 2)), GenbenchError, r"fake: found an array of shape \(5,\), allowed: \(N, D\)"),
        (np.zeros((1, 2)), np.zeros((5, 2)), GenbenchError, "fake: found 1 rows, allowed: at least 2"),
        (np.zeros((3, 2)), np.zeros((5, 3)), GenbenchError, "fake has 2 features a row and real 3"),
        (np.zeros((3, 2)), np.full((5, 2), np.nan), CellFailure, "real: 5 of 5 rows hold a value that is not finite"),
    ],
)
def test_refuses_what_has_no_distance(fake, real, error, message):
    with pytest.raises(error, match=message):
        frechet_distance(fake=fake, real=real)


# ---- routes for many features ---------------------------------------------------------------------------------------


def spread_out(seed, n, d, decay=1.0, shift=0.0):
    return shift + normal(seed, n, d) * np.arange(1, d + 1) ** -decay


@pytest.mark.parametrize(("n", "m"), [(900, 800), (300, 800), (900, 280), (900, 320), (300, 280)])
def test_the_fast_route_agrees_with_singular_values_within_its_bound(n, m, monkeypatch):
    """Well conditioned: more rows than features, or the smaller Gram matrix of fewer rows."""
    fake, real = spread_out(0, n, 320, 0.5, 0.1), feature_moments(spread_out(1, m, 320, 0.5))
    fast, by_roots = FrechetComparison(fake, real), frechet.distance(feature_moments(fake), real)
    assert fast.trace.route == "eigenvalues"
    monkeypatch.setattr(covariance_trace, "SMALL", 1000)
    monkeypatch.setattr(frechet, "SMALL", 1000)
    exact = FrechetComparison(fake, real)
    assert exact.trace.route == "singular values"
    assert abs(fast.trace.value - exact.trace.value) <= fast.trace.error + exact.trace.error
    assert fast.trace.value == pytest.approx(exact.trace.value, rel=1e-8)
    assert [fast.value, by_roots] == pytest.approx([exact.value] * 2, rel=1e-7)


@pytest.mark.parametrize(("decay", "scale"), [(3.0, 1.0), (3.0, 1e-3), (6.0, 1.0)])
def test_an_ill_conditioned_covariance_takes_the_singular_values(decay, scale):
    fake, real = scale * spread_out(0, 700, 300, decay), scale * spread_out(1, 600, 300, decay)
    assert FrechetComparison(fake, feature_moments(real)).trace.route == "singular values"
    assert frechet_distance(fake=fake, real=fake) == pytest.approx(0, abs=1e-9)


def test_repeated_and_constant_features_are_ill_conditioned_too():
    fake, real = normal(0, 700, 300), normal(1, 700, 300)
    fake[:, 1], real[:, 1], fake[:, 2], real[:, 2] = fake[:, 0], real[:, 0], 0.0, 0.0
    assert frechet_distance(fake=fake, real=real) == pytest.approx(reference_fid(fake, real), rel=1e-5)


def test_the_fast_routes_interval_is_that_of_singular_values_and_states_the_route(monkeypatch):
    fake, real = spread_out(0, 900, 320, 0.5, 0.1), spread_out(1, 800, 320, 0.5)
    fast = METRICS["fid"].compute(fake=fake, real=real)
    assert re.search(r"the trace from eigenvalues, rounding error of FID at most \de-1\d$", fast.interval)
    monkeypatch.setattr(covariance_trace, "SMALL", 1000)
    exact = METRICS["fid"].compute(fake=fake, real=real)
    assert fast.value == pytest.approx(exact.value, rel=1e-8)
    assert fast.hi - fast.lo == pytest.approx(exact.hi - exact.lo, rel=1e-3)


def test_more_features_than_rows_agree_with_the_closed_form_of_a_scale():
    """X and 2 X: sum of eigenvalues (2 - 1)^2 of the covariance, for 260 rows of 600 features."""
    x = spread_out(0, 260, 600, 0.3)
    expected = np.square(x - x.mean(axis=0)).sum() / 259 + np.square(x.mean(axis=0)).sum()
    assert frechet_distance(fake=2 * x, real=x) == pytest.approx(expected, rel=1e-7)


def repeated(seed, n, d):
    return normal(seed, n // 2, d)[np.arange(n) % (n // 2)]


FALLING = np.logspace(0, -4, 40)


@pytest.mark.parametrize(
    ("fake", "real", "route"),
    [
        (normal(0, 30, 40), normal(1, 30, 40), "gram"),
        (normal(0, 30, 40), normal(1, 200, 40), "gram"),
        (normal(0, 40, 40), normal(1, 25, 40), "gram"),
        (normal(0, 26, 300), normal(1, 30, 300), "gram"),
        (normal(0, 41, 40), normal(1, 30, 40), "map"),
        (FALLING * normal(0, 30, 40), FALLING * normal(1, 30, 40), "map"),
        (repeated(0, 30, 40), normal(1, 30, 40), "map"),
        (np.ones((30, 40)), normal(1, 30, 40), "map"),
    ],
)
def test_effects_of_few_rows_are_the_first_derivatives(fake, real, route, monkeypatch):
    maps = []
    with_transport = FrechetComparison.with_transport
    monkeypatch.setattr(FrechetComparison, "with_transport", lambda self: maps.append(1) or with_transport(self))
    few, all_rows = (FrechetComparison(0.3 + fake, feature_moments(real)) for _ in range(2))
    effects = few.effects()
    assert bool(maps) == (route == "map")
    expected = first_derivatives(all_rows, all_rows.with_transport())
    assert effects - effects.mean() == pytest.approx(expected - expected.mean(), rel=1e-9, abs=1e-9 * expected.std())
    assert few.value == pytest.approx(FrechetComparison(0.3 + fake, feature_moments(real)).value, rel=1e-12)
