"""EDM and flow matching take diffusers' steps, from the same network outputs."""

import math
from itertools import pairwise

import pytest
import torch

from genbench.contract import DataSpec
from genbench.space import seeded
from zoo.denoising import Denoiser
from zoo.edm import EDMSampler, NoiseLevels, Preconditioned, edm_step, sigmas
from zoo.flow_matching import FlowMatching, FlowMatchingConfig, FlowSampler

diffusers = pytest.importorskip("diffusers", reason="an optional peer")


def says(x, t):
    """An arbitrary smooth function of x and the time that the network receives."""
    return (1.5 * x).tanh() + 0.1 * torch.cos(3 * t).view(-1, *[1] * (x.dim() - 1))


@pytest.mark.parametrize("steps", [5, 18])
def test_edms_euler_steps_are_diffusers(steps):
    """Their scheduler scales the network's input and output itself, as NoiseLevels and Preconditioned do."""
    scheduler = diffusers.EDMEulerScheduler(0.002, 80.0, sigma_data=0.5)
    scheduler.set_timesteps(steps)
    kind, sampler = Preconditioned(0.5), EDMSampler(steps, "euler")
    assert torch.allclose(scheduler.sigmas.double(), torch.tensor(sigmas(sampler)).double(), rtol=1e-5, atol=1e-7)

    denoiser = Denoiser(says, NoiseLevels(kind), kind)
    x = 80 * torch.randn(3, 5, generator=seeded(0))
    theirs = x.clone()
    for (sigma, to), t in zip(pairwise(sigmas(sampler)), scheduler.timesteps, strict=True):
        assert float(t) == pytest.approx(math.log(sigma) / 4, rel=1e-4, abs=1e-6)
        x = edm_step(denoiser, x, sigma, to, sampler, seeded(0))
        output = says(scheduler.scale_model_input(theirs, t), t.expand(3))
        theirs = scheduler.step(output, t, theirs).prev_sample
        assert torch.allclose(x, theirs, rtol=1e-4, atol=1e-4)


def test_flow_matchings_euler_steps_are_diffusers():
    """Their time is the noise's share, ours the image's, and their velocity has the opposite sign."""
    scheduler, steps = diffusers.FlowMatchEulerDiscreteScheduler(), 8
    shares = [1 - i / steps for i in range(steps)]
    scheduler.set_timesteps(sigmas=shares)
    config = FlowMatchingConfig(channels=4, multipliers=(1,), blocks=1, attention=(), groups=2)
    model = FlowMatching(DataSpec(1, 4, 4, 17), config, FlowSampler(steps)).eval()
    model.network.forward = lambda x, t, gen=None: 0.1 * says(x, t)
    theirs = torch.randn(2, 1, 4, 4, generator=seeded(0))
    for share, t in zip(shares, scheduler.timesteps, strict=True):
        velocity = -0.1 * says(theirs, torch.full((2,), 1 - share))
        theirs = scheduler.step(velocity, t, theirs).prev_sample
    assert torch.allclose(model.sample(2, seeded(0)), theirs.clamp(-1, 1), atol=1e-5)
