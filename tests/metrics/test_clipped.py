"""Clipped density and coverage: the released code's formulas in brute force, linearity in bad samples, outliers."""

import numpy as np
import pytest
from scipy.stats import betabinom

from genbench.errors import Degenerate, TooFewSamples
from genbench.metrics.clipped import CLIPPED, expected_coverage, good_share

METRICS = {m.name: m for m in CLIPPED}


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def value(name, fake, real):
    return METRICS[name].compute(fake=fake, real=real)


def distances(x, y):
    return np.sqrt(np.square(x[:, None] - y).sum(-1))


def brute(fake, real, k=5):
    """Both values by the formulas, without bounds, blocks or a pass."""
    own = distances(real, real)
    np.fill_diagonal(own, np.inf)
    radii = np.sort(own, axis=1)[:, k - 1]
    clipped = np.minimum(radii, np.median(radii))
    around_real = (clipped >= own.T).sum(axis=1)  # balls of others around each real row
    density = np.minimum((distances(fake, real) <= clipped).sum(axis=1) / k, 1).mean()
    density /= np.minimum(around_real / k, 1).mean()
    coverage = np.minimum((distances(real, fake) < radii[:, None]).sum(axis=1) / k, 1).mean()
    expected = [np.minimum(np.arange(m + 1), k) @ betabinom(m, k, len(real) - k).pmf(np.arange(m + 1)) / k
                for m in range(len(fake) + 1)]  # fmt: skip
    return min(density, 1), np.searchsorted(expected, coverage) / len(expected)


@pytest.mark.parametrize(("n", "m", "shift"), [(80, 100, 0.0), (120, 60, 0.5), (60, 60, 1.5)])
def test_equal_the_formulas(n, m, shift):
    fake, real = normal(0, n, 3) + shift, normal(1, m, 3)
    density, coverage = brute(fake, real)
    assert value("clipped_density", fake, real).value == pytest.approx(density, rel=1e-12)
    assert value("clipped_coverage", fake, real).value == coverage


def test_expected_coverage_is_that_of_the_beta_binomial_and_of_draws():
    expected = expected_coverage(90, 70)
    exact = [np.minimum(np.arange(m + 1), 5) @ betabinom(m, 5, 85).pmf(np.arange(m + 1)) / 5 for m in range(71)]
    assert expected == pytest.approx(exact, rel=1e-10)
    assert (np.diff(expected) > 0).all()
    assert [good_share(c, expected) for c in (0.0, expected[35] + 1e-9, 1.0)] == [0, 36 / 71, 1]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("bad", [0.0, 0.3, 0.6, 1.0])
def test_falls_linearly_with_the_share_of_bad_samples(name, bad):
    """What both papers' figures show and density and coverage do not: the value is the share of good samples."""
    fake, real = normal(0, 1000, 8), normal(1, 1000, 8)
    fake[: int(1000 * bad)] += 100
    assert value(name, fake, real).value == pytest.approx(1 - bad, abs=0.05)


def test_an_outlier_of_the_reference_accepts_nothing():
    real = normal(0, 400, 4)
    real[:20] = 30 + 5 * normal(1, 20, 4)  # far away and sparse: balls that reach over much empty space
    fake = normal(2, 400, 4)
    fake[:200] = 30 + 5 * normal(3, 200, 4)
    plain = distances(fake[:200], real[:20])
    own = np.sort(distances(real, real), axis=1)[:20, 5]
    assert (plain <= own).any(axis=1).mean() > 0.5  # density accepts most of them
    assert value("clipped_density", fake, real).value == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("name", METRICS)
def test_interval_holds_the_value_and_stays_within_0_and_1(name):
    x = normal(0, 200, 3)
    found = value(name, x, x)
    assert 0.9 < found.lo <= found.value <= found.hi <= 1


@pytest.mark.parametrize("name", METRICS)
def test_sets_that_have_no_value(name):
    with pytest.raises(TooFewSamples, match=f"{name}: 49 generated samples; needs at least 50 for k = 5"):
        value(name, normal(0, 49, 3), normal(1, 60, 3))
    with pytest.raises(Degenerate, match=f"{name}: 60 of 60 balls of the reference samples have radius 0"):
        value(name, normal(0, 60, 3), np.repeat(normal(1, 6, 3), 10, axis=0))
