"""Intervals by resampling, against variances in closed form and against how often they hold a known value."""

import sys
from pathlib import Path

import numpy as np
import pytest

from genbench.metrics import gram, kernel
from genbench.metrics.bootstrap import FEW, HALVES, first_order_variance, half_sample_variance, mean_interval, quarters
from genbench.registry import METRICS

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import interval_coverage as simulation


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def squared_mean(x):
    """Half-sample and first-order variance of |mean of x|^2, of rows x (N, D)."""
    effects = [2 * (x - x.mean(axis=0)) @ x.mean(axis=0)]
    return half_sample_variance(effects, sums_of(x), lambda sums, n: np.square(sums[0] / n).sum()), effects


def sums_of(*strata):
    return lambda stratum, rows: strata[stratum][rows].sum(axis=1)


# ---- means


def test_a_mean_of_many_has_the_normal_interval_but_for_the_skew():
    x = normal(0, 4000)
    value = mean_interval(x, "samples")
    half = 1.96 * x.std(ddof=1) / np.sqrt(4000)
    assert (value.value, value.hi - value.value, value.value - value.lo) == pytest.approx(
        (x.mean(), half, half), rel=0.1
    )
    assert value.interval == "bootstrap-t 95 % over samples, B = 1000, seed 2020"


def test_few_terms_get_students_interval_and_one_gets_none():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    value = mean_interval(x, "images", kind="bound")
    assert (value.lo, value.hi) == pytest.approx((2.5 - 3.182446 * 0.6454972, 2.5 + 3.182446 * 0.6454972), rel=1e-6)
    assert (value.interval, value.kind) == ("t 95 % over images", "bound")
    assert (mean_interval(x[:1], "images").lo, mean_interval(x[:1], "images").interval) == (None, "")


def test_a_skewed_mean_reaches_further_to_the_side_of_the_tail():
    value = mean_interval(np.random.default_rng(1).exponential(size=60), "samples")
    assert value.hi - value.value > 1.2 * (value.value - value.lo)


def test_one_outlier_and_no_spread_at_all_have_finite_intervals():
    x = np.full(400, 3.0)
    same = mean_interval(x, "images")
    assert (same.lo, same.hi) == (3.0, 3.0)
    x[0] = 50.0
    value = mean_interval(x, "images")
    error = x.std(ddof=1) / 20
    assert value.lo < value.value < value.hi <= value.value + 4 * error


def test_the_interval_stays_where_the_mean_can_be():
    x = np.r_[np.full(30, 1.0), 0.2]
    assert mean_interval(x, "samples", most=1.0).hi == 1.0
    assert mean_interval(1 - x, "samples", least=0.0).lo == 0.0


def test_the_same_seed_gives_the_same_interval():
    x = normal(2, 100)
    assert mean_interval(x, "x", seed=3) == mean_interval(x, "x", seed=3)
    assert mean_interval(x, "x", seed=3) != mean_interval(x, "x", seed=4)


# ---- half samples


def test_quarters_are_disjoint_and_even_over_strata():
    for rows, size in zip(quarters([17, 23], 5, seed=0), (17, 23), strict=True):
        assert rows.shape == (20, 4)
        assert rows.max() < size
        assert all(len(set(four.ravel().tolist())) == 16 for four in rows.reshape(5, 4, 4))


def test_a_linear_statistic_has_the_variance_of_a_mean():
    x = normal(0, 200)
    found = half_sample_variance([x], sums_of(x), lambda sums, n: sums[0] / n)
    assert found == pytest.approx(x.var(ddof=1) / 200, rel=1e-9)


def test_strata_add_up():
    x, y = normal(0, 80), 3 * normal(1, 40)
    found = half_sample_variance([x, y], sums_of(x, y), lambda sums, n: (sums[0] + sums[1]) / n)
    assert found == pytest.approx(x.var(ddof=1) / 80 + y.var(ddof=1) / 40, rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_a_quadratic_statistic_has_its_variance_where_first_order_is_twice_that(shift):
    """|mean|^2 of N(m, I_D): 4 |m|^2 / n + 2 D / n^2; the infinitesimal jackknife expects 4 D / n^2 for the latter."""
    n, d = 200, 40
    linear, quadratic = 4 * d * shift**2 / n, 2 * d / n**2
    found = [squared_mean(normal(seed, n, d) + shift) for seed in range(60)]
    assert np.mean([v for v, _ in found]) == pytest.approx(linear + quadratic, rel=0.15)  # J / 2 at least: a bit more
    assert np.mean([first_order_variance(e) for _, e in found]) == pytest.approx(linear + 2 * quadratic, rel=0.1)


def test_second_order_variance_of_kid_is_the_plain_double_sum(monkeypatch):
    x, n = normal(0, 19, 4), 19
    k = (x @ x.T / 4 + 1) ** 3
    np.fill_diagonal(k, 0)
    means = k.sum(axis=1) / (n - 1)
    h = [k[i, j] - means[i] - means[j] + means.mean() for i in range(n) for j in range(n) if i != j]
    expected = 2 / (n * (n - 1)) * np.square(h).sum() / (n * (n - 3))
    monkeypatch.setattr(gram, "BLOCK", 7)
    assert kernel.interaction(kernel.other_means(gram.single(x))) == pytest.approx(expected, rel=1e-5)


# ---- what a record says


def test_every_interval_says_how_it_was_got():
    fake, real = normal(0, 64, 3), normal(1, 50, 3)
    p = np.full((200, 4), 0.25)
    said = {m: METRICS[m].compute(fake=fake, real=real).interval for m in ("fid", "kid")}
    said |= {m: METRICS[m].compute(probabilities=p).interval for m in ("is", "confidence")}
    assert f"half-sampling, B = {HALVES}, seed 2020, for the mean of FID at this number of samples" in said["fid"]
    assert "first and second order in the generated samples, the reference fixed" in said["kid"]
    assert "half-sampling within splits" in said["is"]
    assert "bootstrap-t 95 % over generated samples, B = 1000" in said["confidence"]


@pytest.mark.parametrize("n", [2, FEW - 1])
def test_few_samples_are_of_first_order_and_say_so(n):
    fake, real = normal(0, n, 2), normal(1, 50, 2)
    for metric in ("fid", "kid"):
        value = METRICS[metric].compute(fake=fake, real=real)
        assert value.lo <= value.value <= value.hi
        assert "first-order effect" in value.interval


def test_dear_halves_are_not_taken(monkeypatch):
    from genbench.metrics import frechet

    monkeypatch.setattr(frechet, "_AFFORDABLE", 0)
    assert "first-order" in METRICS["fid"].compute(fake=normal(0, 64, 3), real=normal(1, 50, 3)).interval


# ---- coverage


@pytest.mark.parametrize("options", [{}, {"scale": 1.2, "shift": 0.3}], ids=["no difference", "clear difference"])
def test_fid_and_kid_hold_their_truth(options):
    world, rng = simulation.World(8, 200, **options, m=400), np.random.default_rng(0)
    values, many = simulation.fid_values(world, 100, rng)
    assert 0.9 <= simulation.coverage(values, many.mean()).held <= 0.99
    real = world.real(rng)
    values = [METRICS["kid"].compute(fake=world.fake(rng), real=real) for _ in range(200)]
    assert 0.9 <= simulation.coverage(values, simulation.kid_truths(world, real)[1]).held <= 0.99


def test_bits_per_dim_hold_the_entropy():
    rng = np.random.default_rng(0)
    log_probs = [simulation.known_entropy(rng, 64, 200) for _ in range(200)]
    values = [METRICS["bits_per_dim"].compute(log_probs=x, dims=64, kind="mass") for x in log_probs]
    assert 0.9 <= simulation.coverage(values, 1.75).held <= 0.99


def test_truths_of_the_simulation_are_the_known_ones():
    """MMD^2 of REFERENCE: two unit Gaussians half a unit apart in each of 8 dimensions; and moments without samples."""
    world = simulation.World(8, 60, shift=0.5, scale=1.3)
    population, given = simulation.kid_truths(simulation.World(8, 60, shift=0.5), normal(0, 3000, 8))
    assert population == pytest.approx(1.1171875, rel=1e-12)
    assert given == pytest.approx(population, abs=0.1)
    rng = np.random.default_rng(0)
    roots = np.mean([m.root.T @ m.root for m in (world.fake_moments(rng) for _ in range(2000))], axis=0)
    assert roots == pytest.approx(1.69 * np.eye(8), abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"scale": 1.2, "shift": 0.3}], ids=["no difference", "clear difference"])
def test_fid_at_the_size_of_a_suite_and_kid(options):
    """95 % within three standard errors of a count of 300; docs/intervals.md has the counts of more draws."""
    rng = np.random.default_rng(0)
    values, many = simulation.fid_values(simulation.World(64, 2000, **options), 300, rng)
    assert 0.9 <= simulation.coverage(values, many.mean()).held <= 0.985
    world = simulation.World(16, 500, **options, m=1000)
    real = world.real(rng)
    values = [METRICS["kid"].compute(fake=world.fake(rng), real=real) for _ in range(300)]
    assert 0.9 <= simulation.coverage(values, simulation.kid_truths(world, real)[1]).held <= 0.985


@pytest.mark.slow
def test_bits_per_dim_in_every_world():
    rng = np.random.default_rng(0)
    for name, d, n, truth, draw in simulation.bits_problems():
        values = [METRICS["bits_per_dim"].compute(log_probs=draw(rng, d, n), dims=d, kind="mass") for _ in range(300)]
        assert 0.9 <= simulation.coverage(values, truth).held <= 0.985, name
