"""Likelihood by the probability-flow ODE against Gaussians and mixtures, whose flow is known, and exact traces."""

import math

import pytest
import torch
from diffusion_worlds import ExactDenoiser, denoiser
from torch.autograd.functional import jacobian
from torch.distributions import Categorical, MixtureSameFamily, Normal

from genbench.contract import DataSpec
from genbench.space import seeded
from zoo.ddim import DDIM, ImplicitSampler
from zoo.ddpm import DDPM, AncestralSampler, Config
from zoo.denoising import Schedule, cosine_betas, linear_betas
from zoo.probability_flow import angle_node, flow_estimate, flow_grid, flow_log_density, flow_slope, schedule_nodes

LINEAR = Schedule(linear_betas(1000, 1e-4, 0.02))
COSINE = Schedule(cosine_betas(100))
TINY = Config(steps=10, schedule="cosine", channels=4, multipliers=(1,), blocks=1, attention=(), dropout=0.0, groups=2)
IMAGES = DataSpec(1, 4, 4, 17)


class Between:
    """The alpha_bar of a schedule at fractional times: the angle is linear between two steps."""

    def __init__(self, schedule):
        self.angles = torch.atan2(schedule.spread, schedule.signal)
        self.alpha_bar = self

    def __getitem__(self, t):
        t = t.double()
        before = t.long().clamp_max(len(self.angles) - 2)
        return torch.lerp(self.angles[before], self.angles[before + 1], t - before).cos().square()


def signs(shape, seed=0):
    return 2.0 * torch.randint(2, shape, generator=seeded(seed)).double() - 1


def exact(schedule, *mixture):
    return ExactDenoiser(Between(schedule), *mixture)


def column(values):
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1, 1)


def continuous(least_time=1e-5):
    """The process of Song et al. 2021 (appendix C), beta from 0.1 to 20 over a time of 1, seen from least_time on."""
    t = torch.linspace(least_time, 1, 1000, dtype=torch.float64)
    log_alpha_bar = -0.1 * t - 9.95 * t.square()
    return Schedule(1 - torch.diff(log_alpha_bar, prepend=torch.zeros(1, dtype=torch.float64)).exp())


# ---- the flow ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("schedule", "last"), [(LINEAR, 999), (COSINE, 98)], ids=["linear", "cosine"])
def test_grid_runs_from_the_first_step_to_the_last_with_signal(schedule, last):
    angles, times = flow_grid(schedule, 16)
    assert (float(times[0]), float(times[-1])) == (pytest.approx(0, abs=1e-9), pytest.approx(last))
    assert torch.diff(times).min() > 0
    assert torch.allclose(Between(schedule)[times], angles.cos().square(), atol=1e-12)
    assert torch.allclose(angles[1::2], (angles[:-1:2] + angles[2::2]) / 2)
    ends = ((angles[::2] - angles[0]) / (angles[-1] - angles[0])).sqrt()
    assert torch.allclose(ends, torch.linspace(0, 1, 17, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize(("variance", "known"), [(1.0, -1.163938533), (0.25, -1.205774), (4.0, -1.673279)])
def test_density_of_a_gaussian_is_known(variance, known):
    """At x = 0.7; the known values are off the exact ones only by starting at 1e-5 and taking x_T as N(0, 1)."""
    schedule, x = continuous(), column([0.7])
    assert float(schedule.signal[-1]) == pytest.approx(0.0065715865, abs=1e-9)
    found = flow_log_density(
        denoiser(exact(schedule, [variance**0.5]), schedule), x, schedule_nodes(schedule, 64), signs(x.shape)
    )
    assert float(found) == pytest.approx(known, abs=2e-6)
    assert float(found) == pytest.approx(float(Normal(0.0, variance**0.5).log_prob(torch.tensor(0.7))), abs=6e-5)


def test_error_falls_with_the_fourth_power_of_the_steps():
    eps, x = exact(LINEAR, [0.3]), column([0.2, -0.5])
    found = {
        n: flow_log_density(denoiser(eps, LINEAR), x, schedule_nodes(LINEAR, n), signs(x.shape)) for n in (4, 8, 64)
    }
    errors = [float((found[n] - found[64]).abs().max()) for n in (4, 8)]
    assert 10 < errors[0] / errors[1] < 30


@pytest.mark.parametrize(("schedule", "left"), [(LINEAR, 0.0064), (COSINE, 0.0156)], ids=["linear", "cosine"])
def test_density_of_a_mixture_is_its_own(schedule, left):
    """Two modes in every pixel of four, three images: a flow that is not linear, its Jacobian diagonal.

    left: the signal that the flow ends with and N(0, I) does not know of, a difference of left x_T E[x_0] a pixel.
    """
    means, stds, weights = [-0.6, 0.5], [0.1, 0.2], [0.3, 0.7]
    x = torch.rand(3, 1, 2, 2, generator=seeded(0), dtype=torch.float64) * 2 - 1
    found = flow_log_density(
        denoiser(exact(schedule, stds, means, weights), schedule), x, schedule_nodes(schedule, 32), signs(x.shape)
    )
    a = float(schedule.alpha_bar[0])
    at_first = (
        a**0.5 * torch.tensor(means).double(),
        (a * torch.tensor(stds).double() ** 2 + 1 - a).sqrt(),
    )
    true = MixtureSameFamily(Categorical(torch.tensor(weights).double()), Normal(*at_first)).log_prob(x)
    assert torch.allclose(found, true.flatten(1).sum(1), atol=left)


# ---- the trace --------------------------------------------------------------------------------------------------


def test_trace_of_a_diagonal_jacobian_is_exact_whatever_the_signs():
    eps, x = exact(LINEAR, [0.1, 0.2], [-0.6, 0.5], [0.3, 0.7]), torch.linspace(-1, 1, 6, dtype=torch.float64)
    angle, time = (float(v[5]) for v in flow_grid(LINEAR, 16))

    def slope(v):
        return flow_slope(denoiser(eps, None), v.view(1, 1, 2, 3), angle_node(angle, time), signs((1, 1, 2, 3)))[
            0
        ].flatten()

    step = 1e-5 * torch.eye(6, dtype=torch.float64)
    true = sum(float(slope(x + h) @ h - slope(x - h) @ h) / 2e-10 for h in step)
    for seed in range(3):
        found = flow_slope(denoiser(eps, None), x.view(1, 1, 2, 3), angle_node(angle, time), signs((1, 1, 2, 3), seed))[
            1
        ]
        assert float(found) == pytest.approx(true, rel=1e-6)


def test_trace_of_a_full_jacobian_is_right_on_average():
    """Hutchinson's estimator has the variance 2 sum over i < j of (A_ij + A_ji)^2 / 2 with random signs."""
    matrix = torch.randn(5, 5, generator=seeded(0), dtype=torch.float64)

    def eps(x, t):
        return (x.flatten(1) @ matrix.T).view_as(x).tanh()

    x = torch.full((20_000, 1, 1, 5), 0.1, dtype=torch.float64)
    slope, trace = flow_slope(denoiser(eps, None), x, angle_node(0.4, 3.0), signs(x.shape))
    full = jacobian(lambda v: eps(v.view(1, 1, 1, 5), None).flatten(), x[0].flatten())
    expected = (float(full.trace()) - 5 * math.sin(0.4)) / math.cos(0.4)
    assert torch.allclose(slope[0], (eps(x[:1], None)[0] - math.sin(0.4) * x[0]) / math.cos(0.4))
    both = (full + full.T).tril(-1)
    assert float(trace.var()) == pytest.approx(float(both.square().sum()) / math.cos(0.4) ** 2, rel=0.05)
    assert float(trace.mean()) == pytest.approx(expected, abs=4 * float(trace.std()) / math.sqrt(20_000))


# ---- discrete pixels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("levels", "tolerance"), [(17, 0.02), (256, 2e-4)])
@pytest.mark.parametrize("std", [0.25, 0.5])
def test_discretised_gaussian_costs_its_entropy(levels, tolerance, std):
    """One pixel of every level, weighed by its mass under N(0, std^2) with the first step's noise.

    What the uniform dequantisation of 17 coarse levels costs, the density not being flat on a cell, is the tolerance.
    """
    pixels = torch.arange(levels, dtype=torch.uint8).repeat(20).view(-1, 1, 1, 1)
    found = (
        flow_estimate(denoiser(exact(LINEAR, [std]), LINEAR), pixels, levels, schedule_nodes(LINEAR, 16), seeded(0))
        .double()
        .view(20, levels)
        .mean(0)
    )
    edges = (torch.arange(levels + 1, dtype=torch.float64) * 2 - levels) / (levels - 1)
    spread = math.sqrt(std**2 + float(LINEAR.spread[0] / LINEAR.signal[0]) ** 2)
    mass = torch.diff(torch.special.ndtr(edges / spread))
    entropy = -float((mass * mass.log2()).sum())
    assert -float((mass * found).sum()) / math.log(2) == pytest.approx(entropy, abs=tolerance)
    assert float(found.exp().sum()) == pytest.approx(float(mass.sum()), abs=tolerance)


# ---- the model --------------------------------------------------------------------------------------------------


def tiny(kind=DDPM, options=None):
    """A small model with random weights throughout."""
    model = kind(IMAGES, TINY, options).eval()
    gen = seeded(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=gen))
    return model


PIXELS = torch.randint(0, 17, (3, 1, 4, 4), generator=seeded(0)).to(torch.uint8)


def test_estimate_differentiates_in_inference_mode_and_leaves_nothing_behind():
    model = tiny()
    plain = model.log_prob_estimate(PIXELS, seeded(1), steps=3)
    with torch.inference_mode():
        inside = model.log_prob_estimate(PIXELS.clone(), seeded(1), steps=3)
    assert (plain.dtype, plain.shape, plain.requires_grad) == (torch.float64, (3,), False)
    assert torch.equal(plain, inside)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_estimate_costs_four_evaluations_a_step():
    model, calls = tiny(), []
    model.network.register_forward_hook(lambda *_: calls.append(1))
    model.log_prob_estimate(PIXELS, steps=5)
    assert len(calls) == 20


def test_estimate_is_the_weights_and_not_the_samplers():
    estimates = [
        model.log_prob_estimate(PIXELS, seeded(1), steps=2)
        for model in (tiny(), tiny(options=AncestralSampler("small", clip=False)), tiny(DDIM, ImplicitSampler(steps=5)))
    ]
    assert torch.equal(estimates[0], estimates[1])
    assert torch.equal(estimates[0], estimates[2])
    assert estimates[0].dtype == torch.float64


def test_density_of_an_image_does_not_depend_on_its_batch():
    model = tiny()
    x = torch.randn(3, 1, 4, 4, generator=seeded(0))
    probe = signs(x.shape).float()
    together = flow_log_density(denoiser(model.network, model.schedule), x, schedule_nodes(model.schedule, 3), probe)
    alone = flow_log_density(
        denoiser(model.network, model.schedule), x[:1], schedule_nodes(model.schedule, 3), probe[:1]
    )
    assert float(alone) == pytest.approx(float(together[0]), rel=1e-5)


def test_trace_is_that_of_the_networks_whole_jacobian():
    """All 2^4 signs of four pixels: their mean is the trace, with nothing left to chance."""
    model = DDPM(DataSpec(1, 2, 2, 17), TINY).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=seeded(parameter.numel())))
    x = torch.randn(1, 1, 2, 2, generator=seeded(0))
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 4).view(16, 1, 2, 2)
    _, traces = flow_slope(denoiser(model.network, None), x.expand(16, -1, -1, -1), angle_node(0.0, 2.5), every)
    time = torch.full((1,), 2.5)
    full = jacobian(lambda v: model.network(v.view(1, 1, 2, 2), time).flatten(), x.flatten())
    assert float(traces.mean()) == pytest.approx(float(full.trace()), rel=1e-4)
