"""Class accuracy and prompt agreement: counts by hand, and what is refused."""

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import norm

from genbench.errors import CellFailure, GenbenchError
from genbench.metrics.conditional import CONDITIONAL, accuracy
from genbench.metrics.readings import CONDITION

P = np.array([[0.7, 0.2, 0.1], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3], [0.0, 0.0, 1.0]], dtype=np.float32)


def test_accuracy_counts_the_likeliest_class():
    assert accuracy(probabilities=P, labels=[0, 2, 1, 2]) == 1.0
    assert accuracy(probabilities=P, labels=[0, 1, 1, 0]) == 0.5
    assert accuracy(probabilities=P, labels=np.array([1, 0, 0, 0], dtype=np.uint8)) == 0.0


def test_labels_that_were_not_obeyed_score_chance():
    rng = np.random.default_rng(0)
    found = CONDITIONAL[0].compute(probabilities=rng.dirichlet(np.ones(10), 5000), labels=rng.integers(10, size=5000))
    assert found.lo < 0.1 < found.hi
    assert found.hi - found.lo < 0.02


@pytest.mark.parametrize("distance", [0.5, 2.0, 6.0])
def test_accuracy_of_two_gaussian_classes_is_phi_of_half_their_distance(distance):
    """Samples x = m_y + N(0, 1) under the best classifier of them, which is wrong with probability Phi(-d / 2)."""
    rng = np.random.default_rng(0)
    labels = rng.integers(2, size=40_000)
    x = distance * labels + rng.normal(size=len(labels))
    p = expit(distance * (x - distance / 2))
    found = CONDITIONAL[0].compute(probabilities=np.stack([1 - p, p], axis=1), labels=labels)
    known = norm.cdf(distance / 2)
    assert found.value == pytest.approx(known, abs=4 * np.sqrt(known * (1 - known) / len(labels)))


def test_both_metrics_read_the_same_and_differ_in_who_may_be_asked():
    by_class, by_text = CONDITIONAL
    labels = [0, 2, 1, 1]
    assert by_class.compute(probabilities=P, labels=labels) == by_text.compute(probabilities=P, labels=labels)
    assert by_class.compute(probabilities=P, labels=labels).value == 0.75
    assert (by_class.abilities, by_text.abilities) == (("ClassConditional",), ("TextConditional",))
    assert by_class.reads == by_text.reads == CONDITION
    assert by_class.protocol != by_text.protocol


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2, 3], r"labels: found class 3, allowed: 0..2 \(the classifier's\)"),
        ([0, 1, -1, 2], "labels: found class -1, allowed: at least 0"),
        ([0, 1, 2], r"labels: found int64 of shape \(3,\), allowed: integers of shape \(4,\)"),
        ([0.0, 1.0, 2.0, 0.0], "labels: found float64 of shape"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(GenbenchError, match=message):
        accuracy(probabilities=P, labels=labels)


def test_values_that_are_not_finite_fail():
    with pytest.raises(CellFailure, match="probabilities: 1 of 4 rows"):
        accuracy(probabilities=np.where(P == 0.4, np.nan, P), labels=[0, 0, 0, 0])
