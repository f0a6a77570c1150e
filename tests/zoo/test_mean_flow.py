"""MeanFlow: the identity and its Jacobian-vector product on flows whose average velocity is known in closed form."""

import math
from dataclasses import replace

import pytest
import torch
from torch.autograd.functional import jacobian

from genbench.contract import Batch, DataSpec
from genbench.errors import ModelError
from genbench.space import seeded
from zoo.flow_matching import FlowMatching
from zoo.mean_flow import (
    LINE,
    TIME_SCALE,
    MeanFlow,
    MeanFlowConfig,
    MeanFlowSampler,
    mean_velocity,
    two_times,
    weighted,
)
from zoo.nets import sinusoid
from zoo.portable import unet_part

DATA = DataSpec(1, 4, 4, 17)
TINY = MeanFlowConfig(channels=8, multipliers=(1, 2), blocks=1, attention=(), dropout=0.0, groups=2)
MEAN, STD = 0.3, 0.5


def spread(t):
    """Standard deviation of z_t for x ~ N(m, s^2)."""
    return ((1 - t) ** 2 * STD**2 + t**2).sqrt()


def average(z, times):
    """u(z, r, t) of that flow, which keeps (z_t - (1 - t) m) / spread(t); the velocity where r = t."""
    t, r = (times[:, i].view(-1, *[1] * (z.dim() - 1)) for i in (0, 1))
    unit = (z - (1 - t) * MEAN) / spread(t)
    end = (1 - r) * MEAN + spread(r) * unit
    velocity = -MEAN + (t - (1 - t) * STD**2) / spread(t) * unit
    length = torch.where(t == r, torch.ones_like(t), t - r)
    return torch.where(t == r, velocity, (z - end) / length)


def velocity(z, t):
    return average(z, torch.stack([t, t], dim=1))


def model(sampler=None, network=None, **config):
    """A small model with random weights, or its network replaced by a function of (z, times)."""
    made = MeanFlow(DATA, replace(TINY, **config), sampler).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=seeded(parameter.numel())))
    if network is not None:
        made.network.forward = lambda z, times, gen=None: network(z, times)
    return made


# ---- the identity ---------------------------------------------------------------------------------------------------


def test_target_at_the_true_velocity_is_the_true_average():
    """Eq. 6, u = v - (t - r) du / dt, for the flow of a Gaussian."""
    gen = seeded(0)
    z = torch.randn(50, 1, 2, 2, generator=gen, dtype=torch.float64)
    t, r = torch.rand(2, 50, generator=gen, dtype=torch.float64).sort(dim=0, descending=True).values
    u, target = mean_velocity(average, z, t, r, velocity(z, t))
    assert torch.allclose(u, target, atol=1e-10)
    assert not torch.allclose(u, velocity(z, t), atol=1e-2)


def test_target_is_on_average_right_for_the_velocity_of_single_pairs():
    """Data N(m, s^2): v = eps - x given z_t has the flow's velocity as its mean, and the target is linear in v."""
    gen, n = seeded(0), 200_000
    x, noise = (
        MEAN + STD * torch.randn(n, 1, generator=gen, dtype=torch.float64),
        torch.randn(n, 1, generator=gen, dtype=torch.float64),
    )
    t, r = torch.full((n,), 0.7, dtype=torch.float64), torch.full((n,), 0.2, dtype=torch.float64)
    z = 0.3 * x + 0.7 * noise
    u, target = mean_velocity(average, z, t, r, noise - x)
    for weight in (torch.ones_like(z), z):  # E (target - u) and E (target - u) z
        assert abs(float(((target - u) * weight).mean())) < 4 * float(((target - u) * weight).std()) / math.sqrt(n)


def test_derivative_along_the_flow_is_that_of_the_networks_whole_jacobian():
    """v du/dz + du/dt by autograd in reverse, r held fixed."""
    network = model().network
    z, v = torch.randn(2, 1, *DATA.shape, generator=seeded(0))
    t, r = torch.tensor([0.8]), torch.tensor([0.3])
    u, target = mean_velocity(network, z, t, r, v)
    of_z, of_t = jacobian(lambda z, t: network(z, torch.stack([t, r], dim=1)), (z, t))
    slope = (of_z.reshape(16, 16) @ v.flatten() + of_t.flatten()).view_as(z)
    assert torch.allclose(target, v - 0.5 * slope, atol=1e-4 * float(slope.abs().max()))
    assert torch.allclose(u, network(z, torch.tensor([[0.8, 0.3]])), atol=1e-5)
    assert u.requires_grad
    assert not target.requires_grad


def test_attention_has_the_derivative_too():
    """Against the difference of the network at two points of the flow's direction."""
    network = model(attention=(4, 2)).network
    network.embed.scale = 3.0
    z, v = torch.randn(2, 1, *DATA.shape, generator=seeded(0))
    t, r, h = torch.tensor([0.8]), torch.tensor([0.3]), 1e-2
    _, target = mean_velocity(network, z, t, r, v)
    with torch.no_grad():
        ends = [network(z + s * h * v, torch.stack([t + s * h, r], dim=1)) for s in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * h)
    assert torch.allclose(target, v - 0.5 * slope, atol=5e-3 * float(slope.abs().max()))


# ---- training -------------------------------------------------------------------------------------------------------


def test_times_are_ordered_and_a_quarter_of_them_are_equal():
    t, r = two_times(40_000, MeanFlowConfig(), seeded(0))
    assert (t >= r).all()
    assert (r > 0).all()
    assert (t < 1).all()
    assert float((t == r).float().mean()) == pytest.approx(0.25, abs=4 * math.sqrt(0.1875 / 40_000))
    logits = t[t == r].logit()
    assert (float(logits.mean()), float(logits.std())) == (pytest.approx(-2, abs=0.1), pytest.approx(2, abs=0.1))


def test_weight_of_an_error_has_no_gradient():
    error = torch.tensor([4.0, 0.0], requires_grad=True)
    found = weighted(error, 0.5, 0.25)
    assert found.tolist() == pytest.approx([4 / math.sqrt(4.25), 0])
    found.sum().backward()
    assert error.grad.tolist() == pytest.approx([1 / math.sqrt(4.25), 2])


def test_without_intervals_and_weight_the_loss_is_flow_matchings():
    """r = t: the target is the velocity, summed over pixels; a network that says nothing."""
    made = model(network=lambda z, times: torch.zeros_like(z), apart=0.0, power=0.0)
    x = torch.randn(5000, *DATA.shape, generator=seeded(0)).sign() / 2
    loss = made.loss(Batch(x, x), "all", 0, seeded(1))
    assert float(loss.total) == pytest.approx(16 * 1.25, rel=0.02)
    assert float(loss.terms["mse"]) == pytest.approx(1.25, rel=0.02)


def test_loss_trains_every_parameter_and_through_the_prediction_alone():
    """The gradient is that of |u - constant|^2 with the weight held fixed."""
    made = model(power=0.0, apart=1.0)
    x = torch.rand(3, *DATA.shape, generator=seeded(0)) * 2 - 1
    parameters = list(made.parameters())
    found = torch.autograd.grad(made.loss(Batch(x, x), "all", 0, seeded(1)).total, parameters)
    gen = seeded(1)
    t, r = two_times(3, made.config, gen)
    noise = torch.randn(x.shape, generator=gen)
    z = (1 - t).view(-1, 1, 1, 1) * x + t.view(-1, 1, 1, 1) * noise
    _, target = mean_velocity(made.network, z, t, r, noise - x)
    u = made.network(z, torch.stack([t, r], dim=1))
    expected = torch.autograd.grad((u - target).square().flatten(1).sum(1).mean(), parameters)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()) + 1e-7)


# ---- samples and density --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_samples_are_exact_whatever_the_number_of_steps(steps):
    made = model(MeanFlowSampler(steps), average)
    noise = torch.randn(9, *DATA.shape, generator=seeded(0))
    assert torch.allclose(made.sample(9, seeded(0)), (MEAN + STD * noise).clamp(-1, 1), atol=1e-5)
    assert made.evaluations == steps


def test_likelihood_is_flow_matchings_with_the_same_velocity():
    made, flow = model(network=average), FlowMatching(DATA).eval()
    flow.network.forward = lambda x, t: -velocity(x, 1 - t)  # time runs the other way there
    pixels = torch.randint(0, 17, (3, *DATA.shape), generator=seeded(4)).to(torch.uint8)
    found, expected = (m.log_prob_estimate(pixels, seeded(0), steps=8) for m in (made, flow))
    assert torch.allclose(found, expected, rtol=1e-4)


# ---- the model ------------------------------------------------------------------------------------------------------


def test_network_receives_both_times():
    network, z = model().network, torch.randn(1, *DATA.shape, generator=seeded(0))
    outputs = [network(z, torch.tensor([times])) for times in ([0.8, 0.3], [0.8, 0.5], [0.6, 0.3])]
    assert not any(torch.allclose(a, b, atol=1e-3) for a, b in ((outputs[0], outputs[1]), (outputs[0], outputs[2])))


def test_network_has_the_parameters_of_the_other_models_network():
    data = DataSpec(1, 8, 8, 17)
    assert MeanFlow(data).parameter_count == FlowMatching(data).parameter_count


def test_at_32_pixels_choices_and_recipe_are_the_papers():
    data = DataSpec(3, 32, 32)
    config, recipe = MeanFlow.preset(data), MeanFlow.recipe(data)
    assert (config.time_mean, config.time_std, config.apart, config.power) == (-2.0, 2.0, 0.75, 0.75)
    assert (recipe.lr, recipe.batch, recipe.warmup, recipe.ema, config.dropout) == (6e-4, 1024, 10_000, 0.99995, 0.2)
    assert recipe.images == 800_000 * 1024


def test_an_embedding_that_cannot_be_halved_is_refused():
    with pytest.raises(ModelError, match=r"MeanFlow: config.channels: found 6, allowed: a multiple of 4, at least 8"):
        MeanFlow(DATA, replace(TINY, channels=6))
    assert LINE.level(0.0)[1:3] == (1, 0)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_exported_embedding_is_that_of_steps_of_equal_length(steps):
    """As UNet2DModel computes it: sin, then cos of t 10,000^(-i / (half - freq_shift)) for i below half."""
    made = MeanFlow(DATA, TINY, MeanFlowSampler(steps))
    unet, t = made.for_diffusers().parts["unet"], torch.tensor([0.3, 0.8, 1.0])
    half = unet.settings["block_out_channels"][0] // 2
    powers = torch.arange(half) / (half - unet.settings["freq_shift"])
    angles = TIME_SCALE * t[:, None] * 10_000.0**-powers
    weight, bias = (unet.weights(f"time_embedding.linear_1.{name}") for name in ("weight", "bias"))
    theirs = torch.cat([angles.sin(), angles.cos()], dim=1) @ weight.T + bias
    embed, (t, interval) = made.network.embed, (TIME_SCALE * t, torch.full_like(t, TIME_SCALE / steps))
    sinusoids = torch.cat([sinusoid(t, half), sinusoid(interval, half)], dim=1)
    assert torch.allclose(theirs, embed.first(sinusoids), atol=1e-5)
    assert weight.shape == embed.first.weight.shape


def test_the_table_of_an_exported_network_has_its_times_multiplied_by_the_scale():
    network = MeanFlow(DATA, TINY).network
    unet = unet_part(network, DATA.shape, [0, 3])
    assert unet.settings["num_train_timesteps"] == 2
    angles = torch.tensor([0.0, 3 * TIME_SCALE])
    assert torch.allclose(unet.weights("time_proj.weight"), sinusoid(angles, network.embed.dims))
