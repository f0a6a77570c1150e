"""FD-infinity in Gaussian worlds whose distance is known, beside FID's known bias."""

import numpy as np
import pytest

from genbench.errors import CellFailure, GenbenchError
from genbench.metrics import frechet_distance
from genbench.metrics.fd_infinity import FD_INFINITY, frechet_distance_infinity, intercept, ladder
from genbench.metrics.frechet import distance, feature_moments


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def standard(seed, n, d):
    """n rows whose sample mean is exactly 0 and whose sample covariance is exactly the identity."""
    rows = normal(seed, n, d)
    return np.sqrt(n - 1) * np.linalg.qr(rows - rows.mean(axis=0))[0]


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1.2, 0.1)])
def test_removes_the_bias_of_fid(scale, shift):
    d, n, real = 32, 2000, standard(0, 100, 32)
    true = d * ((scale - 1) ** 2 + shift**2)
    fakes = [scale * normal(s, n, d) + shift for s in range(1, 31)]
    fid = np.array([frechet_distance(fake=fake, real=real) for fake in fakes])
    infinity = np.array([frechet_distance_infinity(fake=fake, real=real) for fake in fakes])
    bias = scale**2 * d / n + scale * (d * d + d) / (4 * n)  # half of what two samples have; S^(1/2) scales as scale
    assert np.mean(fid) - true == pytest.approx(bias, abs=4 * fid.std() / np.sqrt(30) + 0.02 * bias)
    assert abs(infinity.mean() - true) < 0.05 * bias + 4 * infinity.std() / np.sqrt(30)
    assert abs((infinity - fid).mean() + bias) < 0.07 * bias


def test_joined_groups_have_the_moments_of_their_rows():
    fake, real = 1.5 * normal(0, 403, 16) + 3, feature_moments(normal(1, 50, 16))
    inverse, values, groups = ladder(fake, real, seed=5)
    rows = fake[np.random.default_rng(5).permutation(403)]
    halves = [distance(feature_moments(half), real) for half in (rows[:201], rows[201:])]
    assert values[-1] == pytest.approx(distance(feature_moments(fake), real), rel=1e-10)
    assert values[-2] == pytest.approx(np.mean(halves), rel=1e-10)
    assert groups[0] == pytest.approx(distance(feature_moments(rows[:50]), real), rel=1e-10)
    assert inverse == pytest.approx([(5 / 50 + 3 / 51) / 8, (3 / 101 + 1 / 100) / 4, (1 / 201 + 1 / 202) / 2, 1 / 403])


def test_intercept_is_that_of_a_weighted_line():
    inverse = np.array([8, 4, 2, 1]) / 1000
    assert intercept(inverse, 0.7 + 30 * inverse) == pytest.approx(0.7, rel=1e-12)
    bent = 0.7 + 30 * inverse + 2000 * inverse**2
    assert intercept(inverse, bent) == pytest.approx(np.polyfit(inverse, bent, 1, w=1 / inverse)[1], rel=1e-9)


def test_interval_holds_the_true_distance():
    """Student's t over 8 groups where first-order effects decide: close to 95 of 100; 150 draws."""
    d, real = 8, standard(0, 100, 8)
    values = [FD_INFINITY.compute(fake=1.5 * normal(s, 1000, d) + 0.3, real=real) for s in range(150)]
    true = d * (0.5**2 + 0.3**2)
    held = np.mean([v.lo <= true <= v.hi for v in values])
    assert 0.90 <= held <= 0.99
    assert np.mean([v.value for v in values]) == pytest.approx(true, abs=0.03)
    assert "8 disjoint groups" in values[0].interval


def test_is_slightly_negative_at_times_when_the_distributions_agree():
    real = standard(0, 100, 8)
    found = np.array([frechet_distance_infinity(fake=normal(s, 400, 8), real=real) for s in range(60)])
    assert (found < 0).any()
    assert abs(found.mean()) < 0.05 * (8 + 18) / 400 + 4 * found.std() / np.sqrt(60)


def test_order_of_the_samples_does_not_matter_but_for_the_shuffle():
    fake, real = 1.2 * normal(0, 2000, 8) + 0.2, normal(1, 500, 8)
    value = frechet_distance_infinity(fake=fake, real=real)
    assert frechet_distance_infinity(fake=fake, real=real) == value
    by_size = fake[np.square(fake).sum(axis=1).argsort()]
    assert frechet_distance_infinity(fake=by_size, real=real, seed=1) == pytest.approx(value, abs=0.01)


def test_refuses_too_few_samples():
    with pytest.raises(CellFailure, match=r"400 generated samples make 8 groups too small for 50 features.*least 800"):
        frechet_distance_infinity(fake=normal(0, 400, 50), real=normal(1, 100, 50))
    with pytest.raises(GenbenchError, match="fake has 2 features a row and real 3"):
        frechet_distance_infinity(fake=normal(0, 40, 2), real=normal(1, 100, 3))
