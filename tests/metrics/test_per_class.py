"""Per-class FID on Gaussians with exact moments within each class."""

import numpy as np
import pytest

from genbench.errors import CellFailure, GenbenchError
from genbench.metrics import frechet_distance
from genbench.metrics.per_class import PER_CLASS_FID, per_class_frechet_distance


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def exact(seed, n, mean, scale):
    """n rows whose sample mean is exactly mean and whose sample covariance is exactly scale^2 I."""
    rows = normal(seed, n, len(mean))
    return np.asarray(mean) + scale * np.sqrt(n - 1) * np.linalg.qr(rows - rows.mean(axis=0))[0]


def mixed(seed, *parts):
    """The rows of the parts and their labels 3, 5, 7, ... in one shuffled order."""
    order = np.random.default_rng(seed).permutation(sum(map(len, parts)))
    labels = np.concatenate([np.full(len(part), 2 * c + 3) for c, part in enumerate(parts)])
    return np.concatenate(parts)[order], labels[order]


def test_is_the_mean_of_closed_forms_whatever_the_numbers_and_the_order():
    origin, far = np.zeros(3), np.array([5.0, 0, 0])
    fake, fake_labels = mixed(0, exact(0, 40, origin, 1.5), exact(1, 90, far + np.array([0, 2, 0]), 1.0))
    real, real_labels = mixed(1, exact(2, 60, origin, 1.0), exact(3, 30, far, 0.5))
    found = per_class_frechet_distance(fake=fake, real=real, fake_labels=fake_labels, real_labels=real_labels)
    assert found.distances == pytest.approx({3: 3 * 0.5**2, 5: 4 + 3 * 0.5**2}, rel=1e-12)
    assert found.mean == pytest.approx((0.75 + 4.75) / 2, rel=1e-12)
    value = PER_CLASS_FID.compute(fake=fake, real=real, fake_labels=fake_labels, real_labels=real_labels)
    assert value.value == pytest.approx(found.mean, rel=1e-12)


def test_sees_a_model_that_ignores_the_class_where_fid_does_not():
    real, labels = mixed(0, exact(0, 50, np.zeros(2), 1.0), exact(1, 50, np.full(2, 4.0), 1.0))
    swapped = 8 - labels
    options = {"fake": real, "real": real, "real_labels": labels}
    assert frechet_distance(fake=real, real=real) == pytest.approx(0, abs=1e-9)
    assert per_class_frechet_distance(**options, fake_labels=labels).mean == pytest.approx(0, abs=1e-9)
    assert per_class_frechet_distance(**options, fake_labels=swapped).mean == pytest.approx(32, rel=1e-12)


def test_interval_has_the_spread_of_repeated_draws():
    real, real_labels = mixed(0, normal(0, 300, 4), normal(1, 300, 4) + 3)
    values = []
    for s in range(2, 122):
        fake, fake_labels = mixed(s, 1.5 * normal(2 * s, 150, 4) + 0.5, normal(2 * s + 1, 300, 4) + 4)
        values.append(PER_CLASS_FID.compute(fake=fake, real=real, fake_labels=fake_labels, real_labels=real_labels))
    spread = np.std([v.value for v in values])
    assert np.mean([(v.hi - v.value) / 1.96 for v in values]) == pytest.approx(spread, rel=0.2)


def test_refuses_classes_that_one_side_hardly_has():
    labels = np.repeat([0, 1], [40, 30])
    sets = {"fake": normal(0, 70, 2), "real": normal(1, 70, 2), "real_labels": labels}
    with pytest.raises(CellFailure, match="class 1 has 10 generated and 30 real samples; needs at least 25 of each"):
        per_class_frechet_distance(**sets, fake_labels=np.repeat([0, 1], [60, 10]))
    with pytest.raises(CellFailure, match="class 2 has 3 generated and 0 real samples"):
        per_class_frechet_distance(**sets, fake_labels=np.repeat([0, 1, 2], [40, 27, 3]))


@pytest.mark.parametrize("labels", [np.zeros(69, int), np.zeros((70, 1), int), np.zeros(70)])
def test_refuses_labels_that_are_none(labels):
    with pytest.raises(GenbenchError, match=r"fake_labels: found .* labels of shape .*, allowed: integers \(70,\)"):
        per_class_frechet_distance(
            fake=normal(0, 70, 2), real=normal(1, 70, 2), fake_labels=labels, real_labels=np.zeros(70, int)
        )
