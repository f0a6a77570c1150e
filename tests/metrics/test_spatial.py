"""sFID: the Frechet distance, of features that know where in the image they were."""

import numpy as np
import pytest
import torch

from genbench.metrics import frechet_distance
from genbench.metrics.spatial import SFID, spatial_frechet_distance
from genbench.registry import METRICS


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def test_sees_parts_that_changed_places_where_their_average_does_not():
    """Two positions with means 0 and 3, swapped: averaged over positions nothing moved, else each mean by 3."""
    left, right = normal(0, 300, 4), normal(1, 300, 4) + 3
    left, right = left - left.mean(axis=0), right - right.mean(axis=0) + 3
    real, swapped = np.hstack([left, right]), np.hstack([right, left])
    assert frechet_distance(fake=(left + right) / 2, real=(right + left) / 2) == pytest.approx(0, abs=1e-9)
    spatial = spatial_frechet_distance(fake=swapped, real=real)
    assert spatial > 8 * 9
    shifted = real + np.repeat([3.0, -3.0], 4)
    assert spatial_frechet_distance(fake=shifted, real=real) == pytest.approx(8 * 9, rel=1e-9)


def test_agrees_with_torch_fidelity_on_fewer_samples_than_features():
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric

    scale = 1 / np.arange(1, 151)
    fake, real = normal(0, 100, 150) * scale + 0.05, normal(1, 120, 150) * scale
    statistics = [fid_features_to_statistics(torch.from_numpy(x)) for x in (fake, real)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]
    assert spatial_frechet_distance(fake=fake, real=real) == pytest.approx(theirs, rel=1e-6)


def test_is_declared_under_its_own_name():
    fake, real = normal(0, 100, 12) + 0.5, normal(1, 90, 12)
    value = SFID.compute(fake=fake, real=real)
    assert value == METRICS["fid"].compute(fake=fake, real=real)
    assert value.value == pytest.approx(spatial_frechet_distance(fake=fake, real=real), rel=1e-12)
    assert (SFID.name, SFID.title, SFID.reads.name, SFID.better) == ("sfid", "sFID", "spatial", "lower")
