"""A likelihood estimated by a numerical method is refused when half of the steps give another mean."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genbench.contract import LikelihoodEstimate
from genbench.errors import CellFailure
from genbench.halving import AtOnce
from genbench.metrics.likelihood import BITS_PER_DIM_ODE
from genbench.progress import silent
from genbench.sources.likelihoods import compute_log_probs, refuse_unconverged

PIXELS = torch.zeros(5, 1, 2, 2, dtype=torch.uint8)


class Estimates(LikelihoodEstimate):
    """Two bits/dim and an error that falls as 1 / steps, with noise that both numbers of steps must share."""

    def __init__(self, error):
        self.error = error

    def log_prob_estimate(self, pixels, gen, steps):
        noise = 100 * torch.randn(len(pixels), generator=gen, dtype=torch.float64)
        return -4 * math.log(2) * (2 - self.error * 16 / steps) + noise


def check(model):
    opened = SimpleNamespace(model=model, device=torch.device("cpu"), drawing=SimpleNamespace(seed=0), report=silent)
    at_once = AtOnce(lambda text: None)

    def whole(pixels, gen):
        return model.log_prob_estimate(pixels, gen, BITS_PER_DIM_ODE.protocol["steps"])

    values = compute_log_probs(opened, PIXELS, whole, at_once)
    refuse_unconverged(opened, BITS_PER_DIM_ODE, PIXELS, values, at_once)


def test_a_difference_within_the_protocols_bound_is_accepted():
    """The error of 16 steps is the difference to 8 steps."""
    check(Estimates(0.09))


@pytest.mark.parametrize("error", [0.11, -0.11, 11.9])
def test_a_larger_difference_is_refused_with_both_values(error):
    with pytest.raises(CellFailure, match=r"bits/dim: .* with 16 steps of the numerical method, .* with 8; allowed"):
        check(Estimates(error))


def test_a_value_that_half_of_the_steps_do_not_give_is_refused():
    class Diverges(Estimates):
        def log_prob_estimate(self, pixels, gen, steps):
            return torch.full((len(pixels),), np.inf if steps < 16 else -1.0, dtype=torch.float64)

    with pytest.raises(CellFailure):
        check(Diverges(0.0))
