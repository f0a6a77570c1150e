"""Intervals of means and distances, against variances in closed form and against how often they hold a known value."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import stdtrit
from scipy.stats import skew

from genbench.metrics import gram, kernel, second_order
from genbench.metrics.arrays import with_normal_interval
from genbench.metrics.base import Value
from genbench.metrics.frechet import Moments, distance, feature_moments, with_influence
from genbench.metrics.inception_score import divergences, second_derivatives
from genbench.metrics.kernel import FEW
from genbench.metrics.means import mean_interval
from genbench.metrics.rke import mean_squares, second_derivative
from genbench.metrics.second_order import PAIRS, first_order_variance, mean_square, pairs, variance
from genbench.metrics.vendi import Directions
from genbench.registry import METRICS

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import interval_coverage as simulation


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def squared_mean(x):
    """Variance and first-order variance of |mean of x|^2, of rows x (N, D), whose h(x, y) is 2 x'y."""
    centred = x - x.mean(axis=0)
    effects = [2 * centred @ x.mean(axis=0)]
    return variance(effects, [4 * mean_square(centred, centred[:, :0])]), first_order_variance(effects)


# ---- means


def test_numbers_without_skew_have_students_interval_and_one_gets_none():
    x = np.array([1.0, 2.0, 3.0, 4.0])
    value = mean_interval(x, "images", kind="bound")
    assert (value.lo, value.hi) == pytest.approx((2.5 - 3.182446 * 0.6454972, 2.5 + 3.182446 * 0.6454972), rel=1e-6)
    assert (value.interval, value.kind) == ("t 95 % over images, corrected for skewness (Hall 1992)", "bound")
    assert (mean_interval(x[:1], "images").lo, mean_interval(x[:1], "images").interval) == (None, "")


@pytest.mark.parametrize("sign", [1, -1])
def test_the_ends_of_a_skewed_mean_are_those_of_halls_transformation(sign):
    """g(T) = T + a T^2 / 3 + a^2 T^3 / 27 + a / 6, a = skewness / sqrt(N), of T = (mean - end) / its standard error."""
    x = sign * np.random.default_rng(1).exponential(size=60)
    value = mean_interval(x, "samples")
    a, error = skew(x) / 60**0.5, x.std(ddof=1) / 60**0.5
    moved = [t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6 for t in (x.mean() - np.array([value.hi, value.lo])) / error]
    assert moved == pytest.approx(stdtrit(59, [0.025, 0.975]), rel=1e-9)
    further, nearer = (value.hi - x.mean(), x.mean() - value.lo)[::sign]
    assert further > 1.2 * nearer


def test_one_score_has_a_value_of_its_kind_without_an_interval():
    assert with_normal_interval(0.5, np.array([0.5]), "", kind="bound") == Value(0.5, kind="bound")


def test_one_outlier_and_no_spread_at_all_have_finite_intervals():
    x = np.full(400, 3.0)
    same = mean_interval(x, "images")
    assert (same.lo, same.hi) == (3.0, 3.0)
    x[0] = 50.0
    value = mean_interval(x, "images")
    error = x.std(ddof=1) / 20
    assert value.lo < value.value
    assert value.hi == pytest.approx(value.value + 2 * stdtrit(399, 0.975) * error)


def test_the_interval_stays_where_the_mean_can_be():
    x = np.r_[np.full(30, 1.0), 0.2]
    assert mean_interval(x, "samples", most=1.0).hi == 1.0
    assert mean_interval(1 - x, "samples", least=0.0).lo == 0.0


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_the_scale_of_the_numbers_changes_nothing_else(scale):
    x = np.random.default_rng(2).exponential(size=50)
    ends = [np.array([v.lo, v.hi]) for v in (mean_interval(x, "x"), mean_interval(scale * x, "x"))]
    assert ends[1] / scale == pytest.approx(ends[0], rel=1e-12)


@pytest.mark.parametrize("n", [20, 200])
def test_skewed_means_are_covered_as_often_as_by_the_bootstrap(n):
    rng = np.random.default_rng(n)
    sets = [rng.exponential(size=n) for _ in range(300)]
    closed, resampled = (
        simulation.coverage([interval(x) for x in sets], 1.0).held
        for interval in (lambda x: mean_interval(x, "x"), simulation.bootstrap_t)
    )
    assert closed >= resampled - 0.01


# ---- second order


def test_strata_add_up_and_a_linear_statistic_has_the_variance_of_a_mean():
    x, y = normal(0, 80), 3 * normal(1, 40)
    assert variance([x, y], [0.0, 0.0]) == pytest.approx(x.var(ddof=1) / 80 + y.var(ddof=1) / 40, rel=1e-12)
    expected = x.var(ddof=1) / 80 - 0.5 / (2 * 80**2)
    assert variance([x], [0.5]) == pytest.approx(expected, rel=1e-12)
    assert variance([x], [1e9]) == x.var(ddof=1) / 160


@pytest.mark.parametrize(("n", "count"), [(2, 2), (3, 6), (30, 870), (700, PAIRS), (9000, PAIRS)])
def test_pairs_are_of_different_rows_and_no_two_are_the_same(n, count):
    rows, *places = pairs(n)
    left, right = (rows[place] for place in places)
    assert len(set(rows.tolist())) == len(rows) <= PAIRS + 1
    assert len(left) == len(right) == len(set(zip(left.tolist(), right.tolist(), strict=True))) == count
    assert (left != right).all()
    assert max(left.max(), right.max()) < n


@pytest.mark.parametrize(("n", "k"), [(9, 4), (4, 9)])
def test_mean_square_is_the_plain_double_sum(n, k):
    plus, minus = normal(0, n, k), normal(1, n, 3)
    h = plus @ plus.T - minus @ minus.T
    assert mean_square(plus, minus) == pytest.approx(np.square(h[~np.eye(n, dtype=bool)]).mean(), rel=1e-12)


def second_difference(statistic, x, i, j, step=1e-4):
    """d^2 T / de_i de_j where the weights 1/N of rows i and j of x move by e (delta - P)."""

    def moved(a, b):
        weights = np.full(len(x), 1 / len(x)) * (1 - a - b)
        weights[i] += a
        weights[j] += b
        return statistic(x, weights)

    return (moved(step, step) - moved(step, -step) - moved(-step, step) + moved(-step, -step)) / (4 * step**2)


def weighted_distance(real):
    def statistic(x, weights):
        mean = weights @ x
        centred = (x - mean) * np.sqrt(weights)[:, None]
        return distance(Moments(mean, centred), real)

    return statistic


def weighted_score(p, weights):
    m = weights @ p
    return np.exp(weights @ (p * np.log(p / m)).sum(1))


def weighted_entropy(x, weights):
    return 1 / (weights @ np.square(x @ x.T) @ weights)


@pytest.mark.parametrize("d", [1, 3])
def test_fids_second_derivative_is_that_in_the_weights(d, monkeypatch):
    """By differences. A hundred copies of each row: N - 1 in place of N changes less than a hundredth."""
    monkeypatch.setattr(second_order, "PAIRS", 10**7)
    x, real = normal(0, 8, d) + 0.3, feature_moments(normal(1, 40, d))
    h = [second_difference(weighted_distance(real), x, i, j) for i in range(8) for j in range(8)]
    assert with_influence(np.tile(x, (100, 1)), real).second == pytest.approx(np.square(h).mean(), rel=1.5e-2)


def test_second_derivatives_of_is_and_rke_are_those_in_the_weights():
    n = 12
    p, x = np.exp(normal(2, n, 4)), normal(0, n, 3) + 0.3
    p /= p.sum(1, keepdims=True)
    kl, unit = divergences(p), x / np.linalg.norm(x, axis=1, keepdims=True)
    directions = Directions("rke", x)
    of_rke = second_derivative(directions, mean_squares(directions))
    of_is = float(second_derivatives([p], [kl], np.exp([kl.mean()]))[0])
    for square, statistic, rows in ((of_is, weighted_score, p), (of_rke, weighted_entropy, unit)):
        h = [second_difference(statistic, rows, i, j) for i in range(n) for j in range(n) if i != j]
        assert square == pytest.approx(np.square(h).mean(), rel=1e-4)


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_a_quadratic_statistic_has_its_variance_where_first_order_is_twice_that(shift):
    """|mean|^2 of N(m, I_D): 4 |m|^2 / n + 2 D / n^2; the infinitesimal jackknife expects 4 D / n^2 for the latter."""
    n, d = 200, 40
    linear, quadratic = 4 * d * shift**2 / n, 2 * d / n**2
    found = [squared_mean(normal(seed, n, d) + shift) for seed in range(60)]
    assert np.mean([v for v, _ in found]) == pytest.approx(linear + quadratic, rel=0.15)
    assert np.mean([first for _, first in found]) == pytest.approx(linear + 2 * quadratic, rel=0.1)


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
    stated = {m: METRICS[m].compute(fake=fake, real=real).interval for m in ("fid", "kid")}
    stated |= {m: METRICS[m].compute(probabilities=p).interval for m in ("is", "confidence")}
    assert "first and second order in the generated samples, for the mean of FID at this number" in stated["fid"]
    assert "first and second order in the generated samples, the reference fixed" in stated["kid"]
    assert "first and second order in the samples of each split" in stated["is"]
    assert stated["confidence"].startswith("t 95 % over generated samples, corrected for skewness")


@pytest.mark.parametrize("n", [2, FEW - 1])
def test_kid_of_few_samples_is_of_first_order_and_says_so(n):
    fake, real = normal(0, n, 2), normal(1, 50, 2)
    for metric in ("fid", "kid"):
        value = METRICS[metric].compute(fake=fake, real=real)
        assert value.lo <= value.value <= value.hi
        assert ("first-order effect" in value.interval) == (metric == "kid")


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
