"""EDM: factors of table 1, levels of eq. 5, its sampler and density against Gaussians and pairs of points."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from diffusion_worlds import Impulses, best_of_gaussian, best_of_points, pixel
from torch.distributions import Normal

from genbench.contract import Batch, DataSpec
from genbench.space import seeded
from zoo import edm
from zoo.denoising import Denoiser
from zoo.edm import EDM, EDMConfig, EDMSampler, NoiseLevels, Preconditioned, edm_nodes, edm_step, sigmas
from zoo.probability_flow import flow_log_density

DATA = DataSpec(1, 4, 4, 17)
TINY = EDMConfig(channels=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0, groups=2)
NOISE = NoiseLevels(Preconditioned(0.5))
SIGMAS = torch.logspace(-2.5, 2, 40, dtype=torch.float64)


class World(NoiseLevels):
    """The process together with the prediction, by the level's time c_noise."""

    def level(self, t):
        return super().level(math.exp(4 * t))


def unscaled(network, kind):
    """The network that computes network(x, c_noise) from c_in x."""
    return lambda x, t: network(x / kind.input_scale((4 * t).exp()).view(-1, *[1] * (x.dim() - 1)), t)


def exact(best, sigma_data=0.5, **data):
    """The denoiser of data known exactly."""
    world = World(Preconditioned(sigma_data))
    network = unscaled(lambda x, t: best(world, x, t, **data), world.kind)
    return Denoiser(network, NoiseLevels(world.kind), world.kind)


def model(sampler=None, best=best_of_gaussian, config=TINY, **data):
    """A small model whose F is exact for known data; F receives c_in x."""
    made = EDM(DATA, config, sampler).eval()
    world = World(Preconditioned(config.sigma_data))
    known = unscaled(lambda x, t: best(world, x, t, **data), world.kind)
    made.network.forward = lambda x, t, gen=None: known(x, t)
    return made


# ---- preconditioning and training -----------------------------------------------------------------------------------


def test_factors_are_those_of_table_1():
    kind, half = Preconditioned(0.5), 0.25
    c_skip, c_out = kind.x_0(1.0, SIGMAS)
    assert torch.allclose(c_skip, half / (SIGMAS**2 + half))
    assert torch.allclose(c_out, SIGMAS * 0.5 / (half + SIGMAS**2).sqrt())
    assert torch.allclose(kind.input_scale(SIGMAS), 1 / (half + SIGMAS**2).sqrt())
    assert torch.allclose(c_out**-2, (SIGMAS**2 + half) / (SIGMAS * 0.5) ** 2)  # lambda
    assert NoiseLevels(kind).level(0.3) == pytest.approx((math.log(0.3) / 4, 1, 0.3, 0.34**-0.5))


@pytest.mark.parametrize("sigma", [0.002, 0.5, 80.0])
def test_input_and_target_of_the_network_have_unit_variance(sigma):
    """Appendix B.6, for data of standard deviation sigma_data."""
    kind, spread = Preconditioned(0.7), torch.tensor(sigma, dtype=torch.float64)
    x_0, noise = torch.randn(2, 200_000, generator=seeded(0), dtype=torch.float64)
    x_0 = 0.7 * x_0
    assert float((kind.input_scale(spread) * (x_0 + spread * noise)).std()) == pytest.approx(1, abs=0.01)
    assert float(kind.target(x_0, noise, torch.ones(()), spread).std()) == pytest.approx(1, abs=0.01)


def test_the_networks_output_determines_image_and_noise():
    kind, (x_0, noise) = Preconditioned(0.5), torch.randn(2, 40, generator=seeded(0), dtype=torch.float64)
    x, output = x_0 + SIGMAS * noise, kind.target(x_0, noise, 1.0, SIGMAS)
    for (of_x, of_output), true in ((kind.x_0(1.0, SIGMAS), x_0), (kind.noise(1.0, SIGMAS), noise)):
        assert torch.allclose(of_x * x + of_output * output, true, atol=1e-9)


def test_loss_is_the_weighted_error_of_the_denoised_image(monkeypatch):
    """E lambda |D - y|^2 (eq. 2 with table 1) at the levels and the noise that the loss draws."""
    made, gen = EDM(DATA, TINY), seeded(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=seeded(parameter.numel())))
    y = torch.rand(6, *DATA.shape, generator=seeded(0)) * 2 - 1
    sigma = (-1.2 + 1.2 * torch.randn(6, generator=gen)).exp()
    x = y + sigma.view(-1, 1, 1, 1) * torch.randn(y.shape, generator=gen)
    with torch.no_grad():
        images = torch.cat([made.denoising(x[i : i + 1], float(s)).x_0 for i, s in enumerate(sigma)])
        found = made.loss(Batch(y, y), "all", 0, seeded(1)).total
    weights = (sigma**2 + 0.25) / (0.5 * sigma) ** 2
    assert float(found) == pytest.approx(float((weights.view(-1, 1, 1, 1) * (images - y) ** 2).mean()), rel=1e-4)


def test_loss_of_the_best_network_is_zero_for_one_image_and_one_for_data_of_unit_scale():
    """Of N(0, sigma_data^2), F learns nothing: D is c_skip x, and the target has variance 1."""
    x = torch.full((500, *DATA.shape), 0.4)
    one = model(best=best_of_points, points=(0.4,), weights=(1.0,))
    assert float(one.loss(Batch(x, x), "all", 0, seeded(1)).total) == pytest.approx(0, abs=1e-6)
    x = 0.5 * torch.randn(5000, *DATA.shape, generator=seeded(0))
    made = model(mean=0.0, std=0.5)
    assert float(made.network.forward(x, torch.full((5000,), -0.3)).abs().max()) < 1e-6
    assert float(made.loss(Batch(x, x), "all", 0, seeded(1)).total) == pytest.approx(1, rel=0.02)


# ---- sampling -------------------------------------------------------------------------------------------------------


def test_levels_are_those_of_eq_5():
    found = sigmas(EDMSampler())
    assert (found[0], found[17], found[18], len(found)) == (pytest.approx(80), pytest.approx(0.002), 0, 19)
    assert found[1] == pytest.approx((80 ** (1 / 7) + (0.002 ** (1 / 7) - 80 ** (1 / 7)) / 17) ** 7)
    roots = [sigma ** (1 / 7) for sigma in found[:-1]]
    assert [a - b for a, b in pairwise(roots)] == pytest.approx([(roots[0] - roots[-1]) / 17] * 17)
    assert sigmas(EDMSampler(steps=1)) == [pytest.approx(80), 0]


def test_a_step_of_heuns_method_by_hand():
    """D = x / 2 everywhere: the slope is x / (2 sigma); Algorithm 1 from sigma = 2 to 1 and from 1 to 0."""
    kind = Preconditioned(0.5)
    network = unscaled(lambda x, t: (x / 2 - 0.25 / (math.exp(8 * t[0]) + 0.25) * x) / out(t), kind)
    half = Denoiser(network, NoiseLevels(kind), kind)
    x, gen = torch.tensor([3.0], dtype=torch.float64), seeded(0)
    first = 3 / 4
    second = (3 - first) / 2
    assert float(edm_step(half, x, 2.0, 1.0, EDMSampler(), gen)) == pytest.approx(3 - (first + second) / 2)
    assert float(edm_step(half, x, 2.0, 1.0, EDMSampler(solver="euler"), gen)) == pytest.approx(3 - first)
    assert float(edm_step(half, x, 1.0, 0.0, EDMSampler(), gen)) == pytest.approx(1.5)


def out(t):
    """c_out at c_noise t for sigma_data 0.5."""
    sigma = math.exp(4 * float(t[0]))
    return 0.5 * sigma / math.sqrt(sigma**2 + 0.25)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("heun", 2)])
def test_error_of_the_flow_of_a_gaussian_falls_with_the_solvers_order(solver, order):
    """N(m, s^2): the flow keeps (x - m) / sqrt(s^2 + sigma^2)."""
    denoiser, x = exact(best_of_gaussian, mean=0.3, std=0.5), torch.tensor([40.0], dtype=torch.float64)
    true, errors = 0.3 + 39.7 * math.hypot(0.5, 0.1) / math.hypot(0.5, 80), []
    for steps in (100, 200):
        sampler = EDMSampler(steps, solver, sigma_min=0.1)
        y = x
        for pair in pairwise(sigmas(sampler)[:-1]):
            y = edm_step(denoiser, y, *pair, sampler, seeded(0))
        errors.append(abs(float(y) - true))
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


@pytest.mark.parametrize("churn", [0.0, 40.0])
def test_samples_have_the_datas_mean_and_spread(monkeypatch, churn):
    """The variance of the linear chain from impulses, and its mean; new noise leaves both where they were."""
    sampler = EDMSampler(200, churn=churn)
    monkeypatch.setattr(edm, "gaussian_noise", Impulses())
    x = 80 * pixel(0, (1, 201))
    for pair in pairwise(sigmas(sampler)):
        x = edm_step(exact(best_of_gaussian, mean=0.0, std=0.5), x, *pair, sampler, seeded(0))
    assert float(x.square().sum().sqrt()) == pytest.approx(0.5, rel=0.01)
    mean = torch.full((1,), 0.3, dtype=torch.float64)
    for pair in pairwise(sigmas(EDMSampler(200))):
        mean = edm_step(exact(best_of_gaussian, mean=0.3, std=0.5), mean, *pair, EDMSampler(200), seeded(0))
    assert float(mean) == pytest.approx(0.3, abs=1e-9)


def test_churn_raises_the_level_by_algorithm_2(monkeypatch):
    monkeypatch.setattr(edm, "gaussian_noise", lambda shape, gen: torch.ones(shape, dtype=torch.float64))
    x = torch.zeros(1, dtype=torch.float64)
    sampler = EDMSampler(10, churn=2.0, churn_from=0.1, churn_to=5.0, churn_noise=1.5)
    for sigma, gamma in ((1.0, 0.2), (6.0, 0.0), (0.05, 0.0)):
        found, raised = edm.churned(x, sigma, sampler, seeded(0))
        assert raised == pytest.approx(sigma * (1 + gamma))
        assert float(found) == pytest.approx(1.5 * math.sqrt(raised**2 - sigma**2))
    assert edm.churned(x, 1.0, replace(sampler, churn=100.0), seeded(0))[1] == pytest.approx(math.sqrt(2))


def test_samples_of_two_points_are_these_points_as_often_as_the_data():
    x = model(EDMSampler(30), best_of_points, points=(-0.6, 0.5), weights=(0.3, 0.7)).sample(400, seeded(0)).flatten()
    left = x < 0
    assert float(left.float().mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / len(x)))
    assert float((x - torch.where(left, -0.6, 0.5)).abs().max()) < 1e-3


@pytest.mark.parametrize(
    ("options", "evaluations"), [({}, 35), ({"steps": 1}, 1), ({"steps": 4, "solver": "euler"}, 4)]
)
def test_evaluations_are_those_of_the_solver(options, evaluations):
    made, calls = model(EDMSampler(**options), mean=0.0, std=0.5), []
    made.network.register_forward_hook(lambda *_: calls.append(1))
    made.sample(2, seeded(0))
    assert len(calls) == made.evaluations == evaluations


def test_levels_in_the_wrong_order_are_refused():
    with pytest.raises(ValueError, match=r"sigma_max: found 0.001, allowed: above sigma_min, 0.002"):
        EDMSampler(sigma_max=0.001)
    with pytest.raises(ValueError, match=r"churn_to: found 1.0, allowed: at least churn_from, 5.0"):
        EDMSampler(churn=1.0, churn_from=5.0, churn_to=1.0)


# ---- density --------------------------------------------------------------------------------------------------------


def test_density_of_a_gaussian_is_known():
    """0.01 of noise is in the density; N(0, 80^2) knows nothing of the mean, which costs up to 0.01 nats a pixel."""
    x = torch.linspace(-1, 1, 16, dtype=torch.float64).view(1, 1, 4, 4)
    true = Normal(0.3, math.hypot(0.5, 0.01)).log_prob(x).sum()
    found = flow_log_density(
        exact(best_of_gaussian, mean=0.3, std=0.5), x, edm_nodes(NOISE, 32, 80.0), torch.ones_like(x), 80.0
    )
    assert float(found) == pytest.approx(float(true), abs=0.1)
    true = Normal(0.0, math.hypot(0.5, 0.01)).log_prob(x).sum()
    found = flow_log_density(
        exact(best_of_gaussian, mean=0.0, std=0.5), x, edm_nodes(NOISE, 32, 80.0), torch.ones_like(x), 80.0
    )
    assert float(found) == pytest.approx(float(true), abs=5e-3)


def test_error_of_the_density_falls_with_the_fourth_power_of_the_steps():
    denoiser = exact(best_of_gaussian, mean=0.0, std=0.5)
    x = torch.linspace(-1, 1, 16, dtype=torch.float64).view(1, 1, 4, 4)
    found = {
        n: float(flow_log_density(denoiser, x, edm_nodes(NOISE, n, 80.0), torch.ones_like(x), 80.0))
        for n in (16, 32, 256)
    }
    assert 8 < (found[16] - found[256]) / (found[32] - found[256]) < 32


def test_estimate_counts_the_cells_of_the_grey_levels():
    """A wide Gaussian is flat on a cell of width 2 / 16: log P = log density + log width."""
    made = model(mean=0.0, std=3.0)
    pixels = torch.full((50, *DATA.shape), 8, dtype=torch.uint8)
    true = float(Normal(0.0, 3.0).log_prob(torch.tensor(0.0))) + math.log(2 / 16)
    assert float(made.log_prob_estimate(pixels).mean()) / 16 == pytest.approx(true, abs=2e-3)


# ---- the model ------------------------------------------------------------------------------------------------------


def test_at_32_pixels_sizes_and_recipe_are_the_papers():
    data = DataSpec(3, 32, 32)
    config, recipe = EDM.preset(data), EDM.recipe(data)
    assert (config.channels, config.multipliers, config.blocks, config.attention) == (128, (2, 2, 2), 4, (16,))
    assert (config.sigma_data, config.log_mean, config.log_std, config.dropout) == (0.5, -1.2, 1.2, 0.13)
    assert (recipe.lr, recipe.batch, recipe.images, recipe.flip) == (1e-3, 512, 200_000_000, True)
    assert recipe.warmup * 512 == pytest.approx(10_000_000, rel=1e-4)
    assert recipe.ema ** (500_000 / 512) == pytest.approx(0.5, rel=1e-2)


@pytest.mark.parametrize(
    ("side", "multipliers", "attention"),
    [(64, (1, 2, 2, 2), 16), (128, (1, 2, 2, 2), 16), (256, (1, 1, 2, 2, 4, 4), 16)],
)
def test_above_32_pixels_attention_is_at_16_and_the_recipe_is_that_for_faces(side, multipliers, attention):
    config, recipe = EDM.preset(DataSpec(3, side, side)), EDM.recipe(DataSpec(3, side, side))
    assert (config.multipliers, config.attention) == (multipliers, (attention,))
    assert attention in [side >> i for i in range(len(multipliers))]
    assert (recipe.lr, recipe.batch, recipe.images) == (2e-4, 256, 200_000_000)
    assert recipe.warmup * 256 == pytest.approx(10_000_000, rel=1e-4)
    assert recipe.ema ** (500_000 / 256) == pytest.approx(0.5, rel=1e-2)
