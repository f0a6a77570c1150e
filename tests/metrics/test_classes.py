"""Confidence and rarest class on probabilities whose values are known."""

import numpy as np
import pytest

from genbench.metrics.classes import confidence, rarest_class


def test_one_hot_rows_are_sure_and_uniform_rows_are_not():
    assert confidence(probabilities=np.eye(4)).value == 1.0
    assert confidence(probabilities=np.full((8, 4), 0.25)).value == 0.25


def test_interval_of_confidence_is_that_of_a_mean():
    top = np.array([0.6, 0.9] * 50)
    found = confidence(probabilities=np.stack([top, 1 - top], axis=1))
    half = 1.96 * top.std(ddof=1) / 10
    assert found.value == pytest.approx(0.75)
    assert found.hi - found.value == pytest.approx(half, rel=0.06)  # of 1,000 resamples


def test_the_interval_of_confidence_ends_at_certainty():
    top = np.r_[np.ones(30), 0.6]
    assert confidence(probabilities=np.stack([top, 1 - top], axis=1)).hi == 1.0


def test_the_rarest_class_is_counted_and_a_missing_one_is_zero():
    rows = np.eye(3)[[0] * 5 + [1] * 3 + [2] * 2]
    assert rarest_class(probabilities=rows).value == pytest.approx(0.2)
    gone = rarest_class(probabilities=rows[:8])
    assert gone.value == 0.0
    assert 0 < gone.hi < 0.4
