"""Kernel distance against its population value, a plain double sum, and torch-fidelity's subsets."""

import numpy as np
import pytest
import torch

from genbench.errors import GenbenchError
from genbench.metrics import gram, kernel, kernel_distance
from genbench.metrics.kernel import KID_SUBSETS
from genbench.registry import METRICS


def normal(seed, n, d):
    return np.random.default_rng(seed).standard_normal((n, d))


def expected_kernel(m1, m2):
    """E k(x, y) of independent x ~ N(m1, I), y ~ N(m2, I), from the moments of s = x'y."""
    d, c, squares = len(m1), m1 @ m2, m1 @ m1 + m2 @ m2
    second, third = c**2 + squares + d, c**3 + 3 * c * (squares + d) + 6 * c
    return third / d**3 + 3 * second / d**2 + 3 * c / d + 1


def test_population_value_of_two_gaussians():
    d = 8
    origin, moved = np.zeros(d), np.full(d, 0.5)
    population = expected_kernel(origin, origin) + expected_kernel(moved, moved) - 2 * expected_kernel(origin, moved)
    assert population == pytest.approx(1.1171875, rel=1e-12)
    found = [kernel_distance(fake=normal(2 * s, 500, d) + moved, real=normal(2 * s + 1, 400, d)) for s in range(60)]
    assert np.mean(found) == pytest.approx(population, abs=4 * np.std(found) / np.sqrt(len(found)))


def test_unbiased_at_equal_distributions():
    found = np.array([kernel_distance(fake=normal(2 * s, 40, 4), real=normal(2 * s + 1, 30, 4)) for s in range(400)])
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))
    assert (found < 0).any()


def test_identical_arrays_give_the_known_negative_value():
    """KD(X, X) = 2 / m (mean of k off the diagonal - mean of k on it)."""
    x = normal(0, 50, 8)
    k = (x @ x.T / 8 + 1) ** 3
    off = (k.sum() - np.trace(k)) / (50 * 49)
    found = kernel_distance(fake=x, real=x)
    assert found == pytest.approx(2 / 50 * (off - np.trace(k) / 50), rel=1e-6)
    assert found <= 0


def test_equals_the_double_sum_for_any_block_size(monkeypatch):
    fake, real = normal(0, 23, 5), normal(1, 17, 5) + 0.5
    within = [
        np.mean([(a @ b / 5 + 1) ** 3 for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
        for x in (fake, real)
    ]
    across = np.mean([(a @ b / 5 + 1) ** 3 for a in fake for b in real])
    monkeypatch.setattr(gram, "BLOCK", 7)
    assert kernel_distance(fake=fake, real=real) == pytest.approx(sum(within) - 2 * across, rel=1e-6)


def test_subsets_by_the_products_of_all_rows_are_those_by_the_products_of_each(monkeypatch):
    fake, real = normal(0, 90, 5).astype("f4"), normal(1, 70, 5).astype("f4") + 0.5
    drawn = kernel.subset_rows(90, 70, 40, 30, seed=1)
    monkeypatch.setattr(gram, "BLOCK", 32)
    by_all = kernel.subset_estimates(fake, real, drawn)
    each = [kernel.unbiased(fake[a], real[b]) for a, b in zip(*drawn, strict=True)]
    assert by_all.values == pytest.approx([e.value for e in each], rel=1e-5)
    assert by_all.effects == pytest.approx(np.array([e.effects for e in each]), abs=1e-5)


@pytest.mark.parametrize(("n", "m", "of_all"), [(90, 40, False), (40, 90, False), (90, 20, True), (20, 90, True)])
def test_subsets_are_estimated_by_the_fewer_products(n, m, of_all, monkeypatch):
    """9 pairs of subsets of 20 rows have 2 * 9 * 20^2 = 7,200 products, all rows n^2 / 2 + m^2 / 2 + n m."""
    fake, real = normal(0, n, 5).astype("f4"), normal(1, m, 5).astype("f4") + 0.5
    drawn, calls = kernel.subset_rows(n, m, 9, 20, seed=1), []
    compute = kernel._estimates_of_all_products
    monkeypatch.setattr(kernel, "_estimates_of_all_products", lambda *a: calls.append(a) or compute(*a))
    found, expected = kernel.subset_estimates(fake, real, drawn), compute(fake, real, drawn)
    assert bool(calls) == of_all
    assert found.values == pytest.approx(expected.values, rel=1e-4)
    assert found.effects == pytest.approx(expected.effects, abs=1e-5)


def test_products_are_computed_in_float32():
    assert gram.single(normal(0, 5, 2)).dtype == np.float32


def test_second_order_variance_is_that_of_the_centred_kernel():
    x = normal(0, 60, 5) + 0.3
    k = (x @ x.T / 5 + 1) ** 3
    np.fill_diagonal(k, 0)
    means = k.sum(axis=1) / 59
    rest = k - means[:, None] - means + means.mean()
    np.fill_diagonal(rest, 0)
    expected = 2 * np.square(rest).sum() / (60 * 57) / (60 * 59)
    assert kernel.interaction(kernel.other_means(gram.single(x))) == pytest.approx(expected, rel=1e-5)


def test_float32_products_of_large_sets_move_the_value_by_less_than_a_millionth_of_the_kernel():
    """Features as of Inception: positive, 0.4 on average; the distance is a ten-thousandth of the kernel."""
    rng = np.random.default_rng(0)
    fake, real = (np.abs(rng.normal(size=(1500, 64)) * 0.5 + shift) for shift in (0.01, 0.0))
    k = [(x @ y.T / 64 + 1) ** 3 for x, y in ((fake, fake), (real, real), (fake, real))]
    within = [(m.sum() - np.trace(m)) / (1500 * 1499) for m in k[:2]]
    exact = sum(within) - 2 * k[2].mean()
    assert abs(exact) < 1e-3
    assert kernel_distance(fake=fake, real=real) == pytest.approx(exact, abs=1e-8)


def test_subsets_agree_with_torch_fidelity():
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    fake, real = normal(0, 700, 64) * 1.1, normal(1, 500, 64)
    options = {"kid_subsets": 12, "kid_subset_size": 200, "rng_seed": 2020, "verbose": False}
    theirs = kid_features_to_metric(torch.from_numpy(fake), torch.from_numpy(real), **options)[KEY_METRIC_KID_MEAN]
    ours = kernel_distance(fake=fake, real=real, subsets=12, subset_size=200, seed=2020)
    assert ours == pytest.approx(theirs, rel=1e-6)


def test_full_estimate_agrees_with_torch_fidelity_on_whole_sets():
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    fake, real = normal(0, 400, 64) + 0.1, normal(1, 400, 64)
    options = {"kid_subsets": 1, "kid_subset_size": 400, "verbose": False}
    theirs = kid_features_to_metric(torch.from_numpy(fake), torch.from_numpy(real), **options)[KEY_METRIC_KID_MEAN]
    assert kernel_distance(fake=fake, real=real) == pytest.approx(theirs, rel=1e-6)


def test_metric_of_subsets_agrees_with_torch_fidelity_on_its_defaults():
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric

    fake, real = normal(0, 320, 32) * 1.1, normal(1, 250, 32)
    options = {"kid_subset_size": 250, "verbose": False}  # 100 subsets and seed 2020 unless told otherwise
    theirs = kid_features_to_metric(torch.from_numpy(fake), torch.from_numpy(real), **options)
    value = KID_SUBSETS.compute(fake=fake, real=real)
    assert value.value == pytest.approx(theirs[KEY_METRIC_KID_MEAN], rel=1e-6)
    assert f"100 subsets of 250, {theirs[KEY_METRIC_KID_STD]:.3g}, is no confidence interval" in value.interval


def test_subsets_hold_at_most_a_thousand_rows(monkeypatch):
    monkeypatch.setattr(kernel, "_SUBSETS", 2)
    value = KID_SUBSETS.compute(fake=normal(0, 1100, 4) + 0.2, real=normal(1, 1200, 4))
    assert "2 subsets of 1000" in value.interval
    whole = kernel_distance(fake=normal(0, 1100, 4) + 0.2, real=normal(1, 1200, 4), subsets=2, seed=2020)
    assert value.value == pytest.approx(whole, rel=1e-12)


def test_interval_of_subsets_has_the_spread_of_repeated_draws(monkeypatch):
    """20 subsets of 100, so that both parts of the standard error count."""
    monkeypatch.setattr(kernel, "_SUBSETS", 20)
    monkeypatch.setattr(kernel, "_SUBSET_SIZE", 100)
    real = normal(0, 400, 8)
    values = [KID_SUBSETS.compute(fake=normal(s, 300, 8) + 0.3, real=real) for s in range(1, 121)]
    spread = np.std([v.value for v in values])
    assert np.mean([(v.hi - v.value) / 1.96 for v in values]) == pytest.approx(spread, rel=0.2)


def test_interval_has_the_spread_of_repeated_draws():
    real = normal(0, 400, 8)
    values = [METRICS["kid"].compute(fake=normal(s, 300, 8) + 0.3, real=real) for s in range(1, 121)]
    assert np.mean([(v.hi - v.value) / 1.96 for v in values]) == pytest.approx(
        np.std([v.value for v in values]), rel=0.2
    )


@pytest.mark.parametrize("options", [{"subset_size": 31}, {"subset_size": 1}, {"subsets": 0, "subset_size": 5}])
def test_refuses_subsets_that_cannot_be_drawn(options):
    with pytest.raises(GenbenchError, match=r"allowed: subsets of at least 1, subset_size 2\.\.30"):
        kernel_distance(fake=normal(0, 30, 2), real=normal(1, 40, 2), **{"subsets": 3, **options})


def test_a_reference_that_is_known_is_not_compared_with_itself(monkeypatch):
    gen = np.random.default_rng(0)
    fake, real = gen.normal(size=(40, 3)), gen.normal(size=(50, 3))
    metric = METRICS["kid"]
    expected, known = metric.compute(fake=fake, real=real), metric.of_reference.compute(real)
    other_means = kernel.other_means
    monkeypatch.setattr(kernel, "other_means", lambda x: other_means(x) if len(x) == 40 else 1 / 0)
    assert metric.compute(fake=fake, real=real, known=known) == expected
