"""No end of an interval is a value that cannot be."""

from __future__ import annotations

import math

import numpy as np
import pytest

from genbench.metrics import get
from genbench.metrics.base import UNIT_BOUNDS, cut_interval
from genbench.registry import METRICS

FREE = {"kid", "kid_subsets", "fld", "ct_score"}  # unbiased or relative: below 0 where the sets agree


def test_every_unit_has_bounds_or_a_reason_for_none():
    assert {name for name in METRICS.names() if get(name).unit not in UNIT_BOUNDS} == FREE


def test_intervals_are_cut_at_the_bounds_of_the_unit():
    assert cut_interval("share", 0.004, -0.013, 0.021) == (0, 0.021)
    assert cut_interval("share", 0.98, 0.9, 1.06) == (0.9, 1)
    assert cut_interval("bits/dim", 0.5, -0.1, 1.1) == (0, 1.1)
    assert cut_interval("share", 0.5, None, None) == (None, None)
    assert cut_interval("MMD^2", -0.1, -0.2, 0.0) == (-0.2, 0.0)


def test_an_estimate_beyond_the_bounds_keeps_its_interval():
    assert cut_interval("feature^2", -0.01, -0.03, 0.01) == (-0.03, 0.01)  # as FD-infinity's may be


@pytest.mark.parametrize("n", [2, 3, 5, 20, 60])
@pytest.mark.parametrize("name", ["rke", "vendi"])
def test_no_more_different_samples_than_samples_or_features(name, n):
    rng = np.random.default_rng(n)
    sets = [rng.normal(size=(n, 400)), np.eye(n), np.repeat(rng.normal(size=(n, 7)), 2, axis=0), np.ones((n, 3))]
    for rows in sets:
        value = get(name).compute(fake=rows)
        assert 1 - 1e-9 <= value.lo <= value.value <= value.hi <= min(rows.shape) * (1 + 1e-9)


def test_no_more_classes_than_there_are():
    for share in (0.9, 0.999, 1.0):
        p = share * np.eye(4)[np.arange(400) % 4] + (1 - share) / 4
        value = get("is").compute(probabilities=p)
        assert 1 <= value.lo <= value.value <= value.hi <= 4 * (1 + 1e-9)
        assert math.isfinite(value.hi)
