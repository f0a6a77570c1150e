"""Vendi score of sets whose number of different members is known."""

import numpy as np
import pytest

from genbench.errors import CellFailure, GenbenchError, TooFewSamples
from genbench.metrics.vendi import VENDI, vendi_score


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("n", [1, 5, 200])
def test_identical_samples_are_one(n):
    assert vendi_score(fake=np.tile(normal(0, 1, 16), (n, 1))) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("n", [7, 12])
def test_orthogonal_samples_count_each(n):
    turn = np.linalg.qr(normal(0, 12, 12))[0]
    assert vendi_score(fake=np.arange(1, n + 1)[:, None] * turn[:n]) == pytest.approx(n, rel=1e-12)


def test_two_orthogonal_groups_are_two():
    assert vendi_score(fake=np.repeat(np.eye(9)[:2], 30, axis=0)) == pytest.approx(2, rel=1e-12)


def test_unequal_groups_score_the_exponential_of_their_entropy():
    shares = np.array([0.5, 0.25, 0.125, 0.125])
    fake = np.repeat(np.linalg.qr(normal(1, 6, 6))[0][:4], (80 * shares).astype(int), axis=0)
    assert vendi_score(fake=fake) == pytest.approx(2**1.75, rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(40, 7), (20, 20), (12, 50)])
def test_is_the_spectrum_of_the_matrix_of_cosines(n, d):
    x = normal(2, n, d) + 0.5
    k = np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a in x] for b in x])
    eigenvalues = np.linalg.eigvalsh(k / n)
    eigenvalues = eigenvalues[eigenvalues > 1e-12]
    assert vendi_score(fake=x) == pytest.approx(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()), rel=1e-9)


def test_directions_spread_evenly_approach_their_dimension():
    """Uniform directions in d dimensions: entropy log d - (d - 1) / (2 n), to second order in 1 / sqrt(n)."""
    d, n = 10, 1000
    found = [np.log(vendi_score(fake=normal(s, n, d))) for s in range(20)]
    assert np.log(d) - np.mean(found) == pytest.approx((d - 1) / (2 * n), rel=0.1)


@pytest.mark.parametrize("d", [12, 400])
def test_interval_has_the_spread_of_repeated_draws(d):
    scale = np.arange(1, d + 1) ** -1.0
    values = [VENDI.compute(fake=normal(s, 300, d) * scale + 0.3 * scale) for s in range(100)]
    assert np.mean([(v.hi - v.value) / 1.96 for v in values]) == pytest.approx(
        np.std([v.value for v in values]), rel=0.2
    )


def test_interval_of_one_sample_and_of_equal_ones():
    with pytest.raises(TooFewSamples, match="vendi: 1 generated sample; needs at least 2"):
        VENDI.compute(fake=normal(0, 1, 4))
    same = VENDI.compute(fake=np.ones((50, 4)))
    assert (same.value, same.lo, same.hi) == pytest.approx((1, 1, 1), abs=1e-9)


def test_the_interval_ends_where_every_feature_counts():
    nearly = VENDI.compute(fake=np.eye(3)[[0] * 7 + [1] * 7 + [2] * 6])
    assert 2.98 < nearly.value < nearly.hi == 3


def test_refuses_what_has_no_direction():
    with pytest.raises(CellFailure, match="vendi: 2 of 3 rows are all zero and have no direction"):
        vendi_score(fake=np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]]))
    with pytest.raises(GenbenchError, match="fake: found 0 rows, allowed: at least 1"):
        vendi_score(fake=np.zeros((0, 3)))
