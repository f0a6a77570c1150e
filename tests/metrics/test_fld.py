"""FLD against values of its released code, its order of good and bad models, and exact mixtures."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from genbench.errors import Degenerate, TooFewSamples
from genbench.metrics import feature_likelihood_divergence, mixture
from genbench.metrics.computing import computing_on
from genbench.metrics.fld import FLD, Standard


def sets(shift=0.0, copies=0):
    rng = np.random.default_rng(0)
    train, held_out = rng.normal(size=(400, 8)), rng.normal(size=(200, 8))
    fake = rng.normal(size=(300, 8)) + shift
    fake[:copies] = train[:copies]
    return {"train": train, "held_out": held_out, "fake": fake}


def standardised(sets):
    scaled = Standard(sets["held_out"])
    return [scaled(rows) for rows in sets.values()]


@pytest.mark.parametrize(("shift", "released"), [(0.0, 1.5262052), (0.7, 1.6524881)])
def test_the_mixtures_loss_is_that_of_the_released_code(shift, released):
    """The first term of FLD; marcojira/fld at ffbbf20, run on the same arrays. Its second term is a random split."""
    train, held_out, fake = standardised(sets(shift))
    found = mixture.losses_per_dim(held_out, fake, mixture.fitted_log_variances(fake, train)).mean()
    assert found == pytest.approx(released, rel=2e-6)


@pytest.mark.parametrize(("shift", "mean", "spread"), [(0.0, -0.258, 0.487), (0.7, 12.370, 0.487)])
def test_the_value_is_within_the_spread_of_the_released_codes_random_splits(shift, mean, spread):
    """Mean and standard deviation of the released code over five seeds of the split."""
    assert feature_likelihood_divergence(**sets(shift)) == pytest.approx(mean, abs=3 * spread)


def test_rows_in_parts_and_distances_made_anew_change_nothing(monkeypatch):
    train, _, fake = standardised(sets())
    whole = mixture.fitted_log_variances(fake, train)
    monkeypatch.setattr(mixture, "_ROWS", 125)
    monkeypatch.setattr(mixture, "_PAIRS", 900)
    monkeypatch.setattr(mixture, "kept_type", lambda rows, centres: None)
    assert torch.allclose(mixture.fitted_log_variances(fake, train), whole, atol=1e-4)


@pytest.mark.parametrize(("memory", "kept"), [(2**31, torch.float32), (500_000, torch.float16), (300_000, None)])
def test_what_fits_into_memory_changes_the_value_by_less_than_a_thousandth(memory, kept):
    with computing_on("cpu", memory):
        assert mixture.kept_type(400, 300) is kept
        value = feature_likelihood_divergence(**sets(0.7))
    assert value == pytest.approx(feature_likelihood_divergence(**sets(0.7)), rel=1e-3)


@pytest.mark.parametrize("copies", [0, 30])
def test_the_gradient_is_that_of_autograd(copies):
    torch.manual_seed(0)
    centres, rows, log_s = torch.randn(30, 3), torch.randn(50, 3), torch.randn(31, requires_grad=True)
    rows[:copies] = centres[:copies]
    near, far = mixture.Distances(rows, centres), mixture.distances_of(rows, rows.mean(0)[None])
    parts = mixture.log_normal(mixture.distances_of(rows, centres), log_s[:-1], 3) - np.log(30)
    log_p = torch.cat([parts, mixture.log_normal(far, log_s[-1:], 3)], dim=1).logsumexp(1)
    (-log_p.mean() / 3).backward()
    total, gradient = mixture._of_batch(near, far, log_s.detach(), 3, 0, 50)
    assert total == pytest.approx(log_p.sum().item(), rel=1e-6)
    assert torch.allclose(gradient, log_s.grad, rtol=1e-4, atol=1e-7)


def test_loss_is_that_of_the_mixture():
    torch.manual_seed(0)
    centres, rows, log_s = torch.randn(7, 3), torch.randn(20, 3), torch.randn(7)
    parts = MultivariateNormal(centres.double(), log_s.double().exp()[:, None, None] * torch.eye(3).double())
    exact = MixtureSameFamily(Categorical(torch.ones(7)), parts)
    found = mixture.losses_per_dim(rows, centres, log_s)
    assert found == pytest.approx((-exact.log_prob(rows.double()) / 3).numpy(), rel=1e-5)


def test_loss_of_a_row_far_from_all_centres_is_finite():
    """One centre of variance 1: -log p(x) is |x - c|^2 / 2 plus the normalisation, although p(x) itself is 0."""
    rows = torch.tensor([[0.0, 0.0], [3000.0, 4000.0]])
    found = mixture.losses_per_dim(rows, torch.zeros(1, 2), torch.zeros(1))
    assert found - found[0] == pytest.approx([0.0, 5000.0**2 / 4])


def test_fitting_ends_after_seven_passes_when_the_loss_is_settled(monkeypatch):
    starts, of_batch = [], mixture._of_batch
    monkeypatch.setattr(mixture, "_SETTLED", np.inf)
    monkeypatch.setattr(mixture, "_of_batch", lambda *args: starts.append(args[4]) or of_batch(*args))
    train, _, fake = standardised(sets())
    mixture.fitted_log_variances(fake, train)
    assert starts.count(0) == 7


def test_bad_samples_missing_modes_and_copies_all_raise_it():
    good = FLD.compute(**sets())
    two_modes = {name: x + 6 * (np.arange(len(x)) % 2)[:, None] for name, x in sets().items()}
    one_mode = {**two_modes, "fake": sets()["fake"]}
    assert good.lo < 0.5
    assert good.hi < FLD.compute(**sets(shift=0.7)).lo
    assert FLD.compute(**two_modes).hi < FLD.compute(**one_mode).lo
    assert FLD.compute(**sets(copies=300)).lo > 1000


def test_too_little_spread_within_a_mode_does_not_raise_it():
    """What the metric says that it cannot detect: the fitted variances replace the spread."""
    narrow = sets()
    narrow["fake"] *= 0.2
    assert FLD.compute(**narrow).hi < FLD.compute(**sets()).value


def test_a_feature_that_never_changes_is_left_out():
    plain, wider = sets(), sets()
    wider = {name: np.concatenate([x, np.full((len(x), 1), 3.0)], axis=1) for name, x in wider.items()}
    assert feature_likelihood_divergence(**wider) == pytest.approx(feature_likelihood_divergence(**plain), rel=1e-5)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_constant_whose_mean_is_rounded_is_left_out_too(dtype):
    """0.1 has no exact binary value: the mean of many differs from it."""
    plain, wider = sets(), {}
    for i, (name, x) in enumerate(plain.items()):
        wider[name] = np.concatenate([x, np.full((len(x), 1), 0.1 + i)], axis=1).astype(dtype)
    assert Standard(wider["held_out"]).varies.tolist() == [True] * 8 + [False]
    assert feature_likelihood_divergence(**wider) == pytest.approx(feature_likelihood_divergence(**plain), rel=1e-4)


def test_sets_that_have_no_value():
    with pytest.raises(TooFewSamples, match="fld: 39 train samples; needs at least 40"):
        FLD.compute(**{**sets(), "train": np.ones((39, 8))})
    with pytest.raises(Degenerate, match="fld: all held-out samples are the same"):
        FLD.compute(**{**sets(), "held_out": np.ones((30, 8))})
