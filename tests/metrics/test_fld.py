"""FLD against values of its released code, its order of good and bad models, and exact mixtures."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from genbench.errors import Degenerate, TooFewSamples
from genbench.metrics import feature_likelihood_divergence, fld
from genbench.metrics.fld import FLD


def sets(shift=0.0, copies=0):
    rng = np.random.default_rng(0)
    train, held_out = rng.normal(size=(400, 8)), rng.normal(size=(200, 8))
    fake = rng.normal(size=(300, 8)) + shift
    fake[:copies] = train[:copies]
    return {"train": train, "held_out": held_out, "fake": fake}


@pytest.mark.parametrize(("shift", "released"), [(0.0, 1.5262052), (0.7, 1.6524881)])
def test_the_mixtures_loss_is_that_of_the_released_code(shift, released):
    """The first term of FLD; marcojira/fld at ffbbf20, run on the same arrays. Its second term is a random split."""
    train, held_out, fake = fld.standardised(*sets(shift).values())
    found = fld.losses_per_dim(held_out, fake, fld.fitted_log_variances(fake, train)).mean()
    assert found == pytest.approx(released, rel=2e-6)


@pytest.mark.parametrize(("shift", "mean", "spread"), [(0.0, -0.258, 0.487), (0.7, 12.370, 0.487)])
def test_the_value_is_within_the_spread_of_the_released_codes_random_splits(shift, mean, spread):
    """Mean and standard deviation of the released code over five seeds of the split."""
    assert feature_likelihood_divergence(**sets(shift)) == pytest.approx(mean, abs=3 * spread)


def test_rows_in_parts_and_distances_made_anew_change_nothing(monkeypatch):
    train, _, fake = fld.standardised(*sets().values())
    whole = fld.fitted_log_variances(fake, train)
    monkeypatch.setattr(fld, "_BLOCK", 125)
    monkeypatch.setattr(fld, "_KEPT", 0)
    assert torch.allclose(fld.fitted_log_variances(fake, train), whole, atol=1e-4)


def test_loss_is_that_of_the_mixture():
    torch.manual_seed(0)
    centres, rows, log_s = torch.randn(7, 3), torch.randn(20, 3), torch.randn(7)
    parts = MultivariateNormal(centres.double(), log_s.double().exp()[:, None, None] * torch.eye(3).double())
    mixture = MixtureSameFamily(Categorical(torch.ones(7)), parts)
    found = fld.losses_per_dim(rows, centres, log_s)
    assert found == pytest.approx((-mixture.log_prob(rows.double()) / 3).numpy(), rel=1e-5)


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


def test_sets_that_have_no_value():
    with pytest.raises(TooFewSamples, match="fld: 39 train samples; needs at least 40"):
        FLD.compute(**{**sets(), "train": np.ones((39, 8))})
    with pytest.raises(Degenerate, match="fld: all held-out samples are the same"):
        FLD.compute(**{**sets(), "held_out": np.ones((30, 8))})
