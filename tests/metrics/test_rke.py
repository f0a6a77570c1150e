"""RKE of sets whose number of different members is known, and of the matrix of cosines."""

import numpy as np
import pytest

from genbench.errors import Degenerate, TooFewSamples
from genbench.metrics import renyi_kernel_entropy
from genbench.metrics.rke import RKE


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def test_identical_samples_are_one_and_orthogonal_ones_count_each():
    assert renyi_kernel_entropy(fake=np.tile(normal(0, 1, 16), (40, 1))) == pytest.approx(1, rel=1e-12)
    turn = np.linalg.qr(normal(0, 12, 12))[0]
    assert renyi_kernel_entropy(fake=np.arange(1, 13)[:, None] * turn) == pytest.approx(12, rel=1e-12)


def test_unequal_groups_score_one_over_the_sum_of_squared_shares():
    shares = np.array([0.5, 0.25, 0.125, 0.125])
    fake = np.repeat(np.eye(6)[:4], (80 * shares).astype(int), axis=0)
    assert renyi_kernel_entropy(fake=fake) == pytest.approx(1 / np.square(shares).sum(), rel=1e-12)


@pytest.mark.parametrize(("n", "d"), [(40, 7), (20, 20), (12, 50)])
def test_is_the_frobenius_norm_of_the_matrix_of_cosines(n, d):
    x = normal(2, n, d) + 0.5
    k = np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a in x] for b in x])
    assert renyi_kernel_entropy(fake=x) == pytest.approx(1 / np.square(k / n).sum(), rel=1e-12)


@pytest.mark.parametrize("d", [12, 400])
def test_interval_has_the_spread_of_repeated_draws(d):
    scale = np.arange(1, d + 1) ** -1.0
    values = [RKE.compute(fake=normal(s, 300, d) * scale + 0.3 * scale) for s in range(150)]
    spread = np.std([v.value for v in values])
    assert np.mean([(v.hi - v.value) / 1.96 for v in values]) == pytest.approx(spread, rel=0.25)


def test_sets_that_have_no_value():
    with pytest.raises(TooFewSamples, match="rke: 1 generated sample; needs at least 2"):
        RKE.compute(fake=np.ones((1, 4)))
    with pytest.raises(Degenerate, match="rke: 1 of 3 rows are all zero"):
        RKE.compute(fake=np.array([[1.0, 0], [0, 0], [0, 1]]))
