"""Inception Score: known values, the shuffle, and torch-fidelity."""

import numpy as np
import pytest
import torch

from genbench.errors import GenbenchError
from genbench.metrics import inception_score
from genbench.registry import METRICS


def softmax(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def test_certain_and_even_classes_score_their_number():
    assert inception_score(probabilities=np.eye(7), splits=1) == pytest.approx(7, rel=1e-12)


@pytest.mark.parametrize("row", [[1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
def test_the_same_answer_for_all_scores_one(row):
    assert inception_score(probabilities=np.tile(row, (40, 1))) == pytest.approx(1, rel=1e-12)


def test_two_kinds_of_rows_score_the_exponential_of_their_mutual_information():
    p = np.array([[0.9, 0.1], [0.1, 0.9]]).repeat(10, axis=0)
    bits = 1 + 0.9 * np.log2(0.9) + 0.1 * np.log2(0.1)
    assert inception_score(probabilities=p, splits=1) == pytest.approx(2**bits, rel=1e-12)


def test_class_order_does_not_spoil_the_splits():
    """Ten certain classes saved one after the other: unshuffled splits would each score 1."""
    assert inception_score(probabilities=np.eye(10).repeat(200, axis=0)) > 9.5


@pytest.mark.parametrize("n", [2000, 1437])
def test_agrees_with_torch_fidelity(n):
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric

    logits = np.random.default_rng(0).standard_normal((n, 10)) * 3
    theirs = isc_features_to_metric(torch.from_numpy(logits))[KEY_METRIC_ISC_MEAN]
    assert inception_score(probabilities=softmax(logits)) == pytest.approx(theirs, rel=1e-9)
    assert METRICS["is"].compute(probabilities=softmax(logits).astype(np.float32)).value == pytest.approx(
        theirs, rel=1e-6
    )


def test_interval_has_the_spread_of_repeated_draws():
    draws = [softmax(np.random.default_rng(s).standard_normal((1000, 10)) * 3) for s in range(300)]
    spread = np.std([inception_score(probabilities=p) for p in draws])
    values = [METRICS["is"].compute(probabilities=p) for p in draws[:12]]
    assert np.mean([(v.hi - v.value) / 1.96 for v in values]) == pytest.approx(spread, rel=0.15)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.ones((20, 3)), "rows must be at least 0 and sum to 1"),
        (np.tile([1.5, -0.5], (20, 1)), "rows must be at least 0 and sum to 1"),
        (np.eye(4), r"splits: found 10, allowed: 1\.\.4"),
    ],
)
def test_refuses_what_is_no_distribution_or_cannot_be_split(probabilities, message):
    with pytest.raises(GenbenchError, match=message):
        inception_score(probabilities=probabilities)
