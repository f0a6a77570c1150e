"""Bits per dimension against known entropies."""

import inspect
import math

import numpy as np
import pytest
import torch

from genbench.contract import ImportanceBound, LikelihoodEstimate
from genbench.errors import CellFailure, GenbenchError
from genbench.evaluate.cell_inputs import likelihood_of
from genbench.metrics import METRICS
from genbench.metrics.likelihood import BITS_PER_DIM_IWAE, BITS_PER_DIM_ODE, LIKELIHOODS
from genbench.space import seeded

compute = METRICS["bits_per_dim"].compute


@pytest.mark.parametrize("levels", [2, 17, 32, 256])
def test_uniform_model_costs_log2_of_the_levels(levels):
    log_probs = np.full(5, -64 * math.log(levels))
    value = compute(log_probs=log_probs, dims=64, kind="mass")
    assert value.value == pytest.approx(math.log2(levels), rel=1e-14)
    assert value.lo == pytest.approx(value.hi, rel=1e-14)


@pytest.mark.parametrize(("pmf", "entropy"), [((1 / 2, 1 / 4, 1 / 8, 1 / 8), 1.75), ((0.3, 0.7), 0.881290899)])
def test_true_model_of_independent_pixels_attains_the_entropy(pmf, entropy):
    pixels = np.random.default_rng(0).choice(len(pmf), size=(4000, 36), p=pmf)
    value = compute(log_probs=np.log(pmf)[pixels].sum(axis=1), dims=36, kind="mass")
    assert value.lo < entropy < value.hi
    assert value.value == pytest.approx(entropy, rel=5e-3)


def test_interval_of_few_images_is_students():
    bits = np.array([1.0, 2.0, 4.0])
    value = compute(log_probs=-bits * 8 * math.log(2), dims=8, kind="bound")
    half = 4.302653 * bits.std(ddof=1) / math.sqrt(3)
    assert (value.value, value.lo, value.hi) == pytest.approx((7 / 3, 7 / 3 - half, 7 / 3 + half), rel=1e-6)
    assert value.kind == "bound"
    assert "over images" in value.interval


def test_one_image_has_no_interval():
    value = compute(log_probs=torch.tensor([-8.0]), dims=8, kind="estimate")
    assert (value.lo, value.hi, value.interval, value.kind) == (None, None, "", "estimate")


def test_items_that_are_not_finite_fail_the_value_and_are_counted():
    log_probs = np.array([-1.0, np.nan, -np.inf, -2.0])
    with pytest.raises(CellFailure, match="2 of 4 images is not finite"):
        compute(log_probs=log_probs, dims=4, kind="mass")


def test_refuses_anything_but_one_number_an_image():
    with pytest.raises(GenbenchError, match=r"found shape \(2, 3\), allowed: \(N,\)"):
        compute(log_probs=np.zeros((2, 3)), dims=4, kind="mass")


def test_every_kind_of_likelihood_is_the_same_number_of_its_log_probs():
    log_probs = -math.log(2) * np.array([8.0, 16.0, 24.0])
    for metric in LIKELIHOODS:
        assert metric.compute(log_probs=log_probs, dims=8, kind="estimate").value == pytest.approx(2)
    assert len({metric.abilities for metric in LIKELIHOODS}) == len({m.name for m in LIKELIHOODS}) == 3


class CountsDraws(ImportanceBound):
    """Its bound is the number of draws that it was asked for."""

    def log_prob_importance(self, pixels, k, gen=None):
        return torch.full((len(pixels),), float(k))


def test_the_importance_bound_has_the_draws_that_its_protocol_names():
    kind, ask = likelihood_of(CountsDraws(), BITS_PER_DIM_IWAE)
    assert kind == "bound"
    assert ask(torch.zeros(2, 1, 2, 2), seeded(0)).tolist() == [BITS_PER_DIM_IWAE.protocol["k"]] * 2


def test_protocol_of_the_estimate_has_the_steps_that_models_take():
    """The harness asks for the contract's default."""
    default = inspect.signature(LikelihoodEstimate.log_prob_estimate).parameters["steps"].default
    assert BITS_PER_DIM_ODE.protocol["steps"] == default
