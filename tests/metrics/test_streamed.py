"""Moments of a stream are those of all rows at once."""

from __future__ import annotations

import numpy as np
import pytest

from genbench.errors import CellFailure, GenbenchError
from genbench.metrics.frechet import distance, feature_moments, fid_to_moments
from genbench.metrics.streamed import streamed_moments


@pytest.mark.parametrize("sizes", [(1000,), (1, 1, 998), (300, 7, 693), (3, 2), (1, 1)])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_blocks_have_the_moments_of_all_rows(sizes, offset):
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(sum(sizes), 5)) @ np.diag([1, 1, 3, 1e-3, 2]) + offset
    streamed, whole = streamed_moments(np.split(rows, np.cumsum(sizes)[:-1])), feature_moments(rows)
    assert streamed.mean == pytest.approx(whole.mean, rel=1e-12)
    exact = np.cov(rows - offset, rowvar=False)
    assert np.allclose(streamed.root.T @ streamed.root, exact, rtol=1e-7, atol=1e-9)


def test_the_distance_of_a_stream_is_that_of_all_rows():
    rng = np.random.default_rng(1)
    fake, real = rng.normal(0.2, 1, (600, 8)), rng.normal(0, 1.3, (500, 8))
    blocks = (fake[i : i + 64] for i in range(0, 600, 64))
    expected = distance(feature_moments(fake), feature_moments(real))
    assert distance(streamed_moments(blocks), feature_moments(real)) == pytest.approx(expected, rel=1e-10)


def test_two_rows_have_a_distance_to_moments_and_one_has_none():
    rng = np.random.default_rng(2)
    fake, real = rng.normal(size=(2, 3)), rng.normal(size=(50, 3))
    expected = distance(feature_moments(fake), feature_moments(real))
    assert fid_to_moments(fake=fake, reference=feature_moments(real)).value == pytest.approx(expected)
    with pytest.raises(GenbenchError, match="fake: found 1 rows, allowed: at least 2"):
        fid_to_moments(fake=fake[:1], reference=feature_moments(real))


def test_what_is_no_stream_of_features_is_refused():
    with pytest.raises(GenbenchError, match="found 1 rows, allowed: at least 2"):
        streamed_moments([np.zeros((1, 3))])
    with pytest.raises(GenbenchError, match="found 4 in a block after 3; must agree"):
        streamed_moments([np.zeros((2, 3)), np.zeros((2, 4))])
    with pytest.raises(CellFailure, match="1 of 2 rows hold a value that is not finite"):
        streamed_moments([np.array([[0.0], [np.nan]])])
