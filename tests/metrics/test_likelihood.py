"""Bits per dimension against known entropies."""

import inspect
import math

import numpy as np
import pytest
import torch

from genbench.contract import (
    DequantisedDensity,
    ExactLikelihood,
    ImportanceBound,
    LikelihoodBound,
    LikelihoodEstimate,
)
from genbench.errors import CellFailure, GenbenchError
from genbench.metrics.likelihood import BITS_PER_DIM_IWAE, BITS_PER_DIM_ODE, LIKELIHOOD_METRICS
from genbench.registry import METRICS
from genbench.sources.likelihoods import likelihood_of
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
    bits = np.array([1.0, 2.0, 3.0])
    value = compute(log_probs=-bits * 8 * math.log(2), dims=8, kind="bound")
    half = 4.302653 * bits.std(ddof=1) / math.sqrt(3)
    assert (value.value, value.lo, value.hi) == pytest.approx((2.0, 2.0 - half, 2.0 + half), rel=1e-6)
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
    for metric in LIKELIHOOD_METRICS:
        assert metric.compute(log_probs=log_probs, dims=8, kind="estimate").value == pytest.approx(2)
    assert len({metric.abilities for metric in LIKELIHOOD_METRICS}) == len({m.name for m in LIKELIHOOD_METRICS}) == 3


@pytest.mark.parametrize(
    ("kind", "cause"),
    [
        ("mass", "-D ln"),
        ("density", "-D ln"),
        ("bound", "-D ln"),
        ("estimate", "the numerical method has not converged"),
    ],
)
def test_less_than_0_bits_is_impossible_for_discrete_pixels(kind, cause):
    log_probs = math.log(2) * 8 * np.array([1.0, 2.0, -1.0])
    with pytest.raises(CellFailure, match=rf"found -\S+ \({kind}, the \w+.*\), allowed: 0 or more.*{cause}"):
        compute(log_probs=log_probs, dims=8, kind=kind)


def test_single_images_may_be_below_0_bits_only_where_the_value_is_random():
    log_probs = math.log(2) * 8 * np.array([1.0, -3.0, -1.0])
    assert compute(log_probs=log_probs, dims=8, kind="density").value == pytest.approx(1)
    with pytest.raises(CellFailure, match=r"found -1 .mass, the lowest image."):
        compute(log_probs=log_probs, dims=8, kind="mass")


def test_a_certain_image_may_be_rounded_to_just_above_probability_1():
    assert compute(log_probs=np.array([1e-6, 0.0]), dims=8, kind="mass").value == pytest.approx(0, abs=1e-6)


def test_a_kind_is_one_of_four():
    with pytest.raises(GenbenchError, match="kind: found '=', allowed: mass, density, bound, estimate"):
        compute(log_probs=np.array([-1.0]), dims=8, kind="=")


class Both(ExactLikelihood, LikelihoodBound):
    """An exact mass of 1 and a bound of 2."""

    def log_prob(self, pixels, gen=None):
        return torch.full((len(pixels),), -1.0)

    def log_prob_bound(self, pixels, gen=None):
        return torch.full((len(pixels),), -2.0)


class Dequantised(DequantisedDensity):
    def log_prob(self, pixels, gen=None):
        return torch.full((len(pixels),), -3.0)


@pytest.mark.parametrize(("model", "kind", "value"), [(Both(), "mass", -1.0), (Dequantised(), "density", -3.0)])
def test_the_kind_is_that_of_the_strongest_ability(model, kind, value):
    found, ask = likelihood_of(model, METRICS["bits_per_dim"])
    assert (found, ask(torch.zeros(1, 1, 2, 2), seeded(0)).tolist()) == (kind, [value])


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
