"""Flow matching: its loss, pairing, solvers and density against Gaussians and pairs of points, whose flow is known."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from diffusion_worlds import best_of_gaussian, best_of_points
from scipy.integrate import solve_ivp
from torch.distributions import Normal

from genbench.contract import Batch, DataSpec
from genbench.draw.counting import EvaluationCount, verify_evaluations
from genbench.space import seeded
from zoo.flow_matching import FlowMatching, FlowMatchingConfig, FlowSampler, closest_noise
from zoo.probability_flow import flow_log_density, line_nodes
from zoo.solvers import SHORTEST_STEP, SOLVERS, adaptive, euler, heun, midpoint

DATA = DataSpec(1, 4, 4, 17)
TINY = FlowMatchingConfig(channels=8, multipliers=(1,), blocks=1, attention=(), dropout=0.0, groups=2)


def model(sampler=None, best=None, **config):
    """A small model, its network replaced by a function of (x, t)."""
    made = FlowMatching(DATA, replace(TINY, **config), sampler).eval()
    if best is not None:
        made.network.forward = lambda x, t, gen=None: best(made.line, x, t)
    return made


def gaussian(line, x, t):
    return best_of_gaussian(line, x, t, mean=0.3, std=0.5)


# ---- training -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma_min", [0.0, 0.1])
def test_paths_run_straight_from_noise_to_the_image(sigma_min):
    """Eq. 22 and 23: psi_0 is the noise, psi_1 the image with noise of sigma_min, the slope is the same everywhere."""
    line = model(sigma_min=sigma_min).line
    assert line.level(0.0)[1:3] == (0, 1)
    assert line.level(1.0)[1:3] == pytest.approx((1, sigma_min))
    image, noise = torch.tensor(0.7), torch.tensor(-1.2)
    x = [line.level(t).signal * image + line.level(t).spread * noise for t in (0.25, 0.75)]
    slope = line.kind.target(image, noise, None, None)
    assert float(slope) == pytest.approx(0.7 + (1 - sigma_min) * 1.2)
    assert float((x[1] - x[0]) / 0.5) == pytest.approx(float(slope))


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_a_velocity_determines_image_and_noise(t):
    line = model(sigma_min=0.05).line
    image, noise = torch.randn(2, 3, 1, 2, 2, generator=seeded(0), dtype=torch.float64)
    _, signal, spread, _ = line.level(t)
    x, velocity = signal * image + spread * noise, line.kind.target(image, noise, None, None)
    for (of_x, of_velocity), true in ((line.kind.x_0(signal, spread), image), (line.kind.noise(signal, spread), noise)):
        assert torch.allclose(of_x * x + of_velocity * velocity, true, atol=1e-12)


def test_loss_of_a_network_that_says_nothing_is_the_velocitys_size():
    made = model(best=lambda line, x, t: torch.zeros_like(x), sigma_min=0.2)
    x = torch.randn(5000, *DATA.shape, generator=seeded(0)).sign() / 2
    assert float(made.loss(Batch(x, x), "all", 0, seeded(1)).total) == pytest.approx(0.25 + 0.8**2, rel=0.02)


def test_loss_of_the_best_network_is_what_the_point_and_time_leave_open():
    """Data N(m, s^2): Var(x_1 - x_0 | x_t) = s^2 / (t^2 s^2 + (1 - t)^2), as both have a jointly normal law."""
    x = 0.3 + 0.5 * torch.randn(5000, *DATA.shape, generator=seeded(0))
    t = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    true = float((0.25 / (t**2 * 0.25 + (1 - t) ** 2)).mean())
    assert float(model(best=gaussian).loss(Batch(x, x), "all", 0, seeded(1)).total) == pytest.approx(true, rel=0.02)


def test_optimal_pairing_is_the_best_of_all_permutations():
    x, noise = torch.randn(2, 5, 1, 2, 2, generator=seeded(0))
    costs = [float((x - noise[list(p)]).square().sum()) for p in itertools.permutations(range(5))]
    found = closest_noise(x, noise)
    assert float((x - found).square().sum()) == pytest.approx(min(costs))
    assert sorted(found.flatten().tolist()) == sorted(noise.flatten().tolist())


def test_optimally_paired_pixels_have_the_same_order():
    x, noise = torch.randn(2, 50, 1, 1, 1, generator=seeded(0))
    assert torch.equal(x.flatten().argsort(), closest_noise(x, noise).flatten().argsort())


def test_pairing_straightens_the_paths_and_keeps_the_ends():
    x = torch.randn(256, *DataSpec(1, 1, 2, 17).shape, generator=seeded(0))
    found = {}
    for pairing in ("independent", "optimal"):
        made = FlowMatching(DataSpec(1, 1, 2, 17), replace(TINY, pairing=pairing))
        made.network.forward = lambda x, t, gen=None: torch.zeros_like(x)
        found[pairing] = float(made.loss(Batch(x, x), "all", 0, seeded(1)).total)
    assert found["independent"] == pytest.approx(2, rel=0.15)
    assert found["optimal"] < 0.1


# ---- solvers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("step", "order"), [(euler, 1), (midpoint, 2), (heun, 2)])
def test_error_of_a_solver_falls_with_its_order_in_both_directions(step, order):
    """dx / dt = 2 t x: x(1) = e x(0)."""
    for start, end, true in ((0.0, 1.0, math.e), (1.0, 0.0, 1 / math.e)):
        errors = []
        for steps in (50, 100):
            x, times = torch.ones(1, dtype=torch.float64), torch.linspace(start, end, steps + 1).tolist()
            for pair in itertools.pairwise(times):
                x = step(lambda x, t: 2 * t * x, x, *pair)
            errors.append(abs(float(x) - true))
        assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.1)


def test_solvers_of_second_order_are_exact_for_a_slope_linear_in_time():
    for step in (midpoint, heun):
        assert float(step(lambda x, t: torch.tensor([3 * t]), torch.zeros(1), 0.5, 2.0)) == pytest.approx(5.625)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("sigma_min", [0.0, 0.1])
def test_samples_of_the_best_network_have_the_datas_mean_and_spread(solver, sigma_min):
    """The flow of N(m, s^2) moves z to m + sqrt(s^2 + sigma_min^2) z."""
    made = model(FlowSampler(100, solver), gaussian, sigma_min=sigma_min)
    drawn, noise = made.sample(9, seeded(0)).double(), torch.randn(9, *DATA.shape, generator=seeded(0)).double()
    true = (0.3 + math.sqrt(0.25 + sigma_min**2) * noise).clamp(-1, 1)
    assert torch.allclose(drawn, true, atol=0.03 if solver == "euler" else 2e-3)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
@pytest.mark.parametrize(("start", "end"), [(0.0, 1.0), (1.0, 0.0)])
def test_the_adaptive_solver_keeps_its_tolerance_and_takes_more_steps_for_stiffer_images(tolerance, start, end):
    """dx / dt = -r (x - cos t) has x = particular + exp(-r (t - t_0)) of the rest; scipy's method is the same pair."""
    rates, rows = torch.tensor([1.0, 8.0, 64.0], dtype=torch.float64), []
    rates = rates if end > start else -rates  # decaying in both directions

    def slope(x, t):
        mine = rates[torch.tensor([int(r) for r in x[:, 1]])]
        rows.extend(int(r) for r in x[:, 1])
        return torch.stack([-mine * (x[:, 0] - t.cos()), torch.zeros_like(t)], 1)

    x = torch.tensor([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0]], dtype=torch.float64)
    solved = adaptive(slope, x, start, end, tolerance)[:, 0]
    for i, rate in enumerate(rates.tolist()):
        peer = solve_ivp(lambda t, x, r=rate: -r * (x - math.cos(t)), (start, end), [0.0], rtol=1e-12, atol=1e-12)
        assert float(solved[i]) == pytest.approx(peer.y[0, -1], abs=20 * tolerance)
    assert rows.count(0) < rows.count(1) < rows.count(2) < 7 / SHORTEST_STEP


def test_images_of_the_adaptive_solver_do_not_depend_on_each_other():
    rate = torch.tensor([0.5, 30.0])
    whole = adaptive(lambda x, t: -x[:, 1:] * x, torch.stack([torch.ones(2), rate], 1), 0.0, 1.0, 1e-4)
    alone = [adaptive(lambda x, t: -x[:, 1:] * x, torch.tensor([[1.0, r]]), 0.0, 1.0, 1e-4)[0] for r in rate.tolist()]
    assert torch.equal(whole, torch.stack(alone))


def test_the_adaptive_solver_ends_where_the_slope_is_infinite_or_not_a_number():
    for bad in (math.inf, math.nan):
        assert not adaptive(lambda x, t, bad=bad: x * bad, torch.ones(2, 3), 0.0, 1.0, 1e-3).isfinite().any()


def test_adaptive_samples_of_the_best_network_are_the_flows_and_their_evaluations_are_counted():
    made = model(FlowSampler(solver="adaptive", tolerance=1e-4), gaussian)
    noise = torch.randn(9, *DATA.shape, generator=seeded(0))
    with EvaluationCount(made) as count:
        drawn = made.sample(9, seeded(0))
    assert torch.allclose(drawn, (0.3 + 0.5 * noise).clamp(-1, 1), atol=2e-3)
    assert made.evaluations is None
    assert 1 + 6 <= count.per_image(9) < 100
    verify_evaluations(made, count.per_image(9))


def test_samples_of_two_points_are_these_points_as_often_as_the_data():
    made = model(FlowSampler(50), lambda line, x, t: best_of_points(line, x, t, (-0.6, 0.5), (0.3, 0.7)))
    x = made.sample(400, seeded(0)).flatten()
    left = x < 0
    assert float(left.float().mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / len(x)))
    assert float((x - torch.where(left, -0.6, 0.5)).abs().max()) < 1e-3


@pytest.mark.parametrize(("solver", "evaluations"), [("euler", 7), ("midpoint", 14), ("heun", 14)])
def test_evaluations_are_those_of_the_solver(solver, evaluations):
    made, calls = model(FlowSampler(7, solver)), []
    made.network.register_forward_hook(lambda *_: calls.append(1))
    made.sample(2, seeded(0))
    assert len(calls) == made.evaluations == evaluations


# ---- density --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma_min", [0.0, 0.1])
def test_density_of_a_gaussian_is_known(sigma_min):
    made = model(best=gaussian, sigma_min=sigma_min)
    x = torch.randn(5, *DATA.shape, generator=seeded(0), dtype=torch.float64)
    nodes = line_nodes(made.line, 1.0, 0.0, 16)
    _, signal, spread, _ = nodes[0].level
    assert signal == 0.99
    true = Normal(0.3 * signal, math.hypot(0.5 * signal, spread)).log_prob(x).flatten(1).sum(1)
    probe = 2.0 * torch.randint(2, x.shape, generator=seeded(1)) - 1
    assert torch.allclose(flow_log_density(made.denoising, x, nodes, probe), true, atol=2e-3)


def test_error_of_the_density_falls_with_the_fourth_power_of_the_steps():
    made = model(best=lambda line, x, t: best_of_points(line, x, t, (-0.6, 0.5), (0.3, 0.7), width=0.2))
    x = torch.rand(5, *DATA.shape, generator=seeded(0), dtype=torch.float64) * 2 - 1
    found = {
        n: flow_log_density(made.denoising, x, line_nodes(made.line, 1.0, 0.0, n), torch.ones_like(x))
        for n in (16, 32, 256)
    }
    errors = [float((found[n] - found[256]).abs().max()) for n in (16, 32)]
    assert 8 < errors[0] / errors[1] < 32


def test_estimate_counts_the_cells_of_the_grey_levels():
    """A wide Gaussian is flat on a cell of width 2 / 16: log P = log density + log width."""
    made = model(best=lambda line, x, t: best_of_gaussian(line, x, t, mean=0.0, std=3.0))
    pixels = torch.full((50, *DATA.shape), 8, dtype=torch.uint8)
    true = float(Normal(0.0, 3.0).log_prob(torch.tensor(0.0))) + math.log(2 / 16)
    assert float(made.log_prob_estimate(pixels).mean()) / 16 == pytest.approx(true, abs=1e-3)


# ---- the model ------------------------------------------------------------------------------------------------------


def test_at_32_pixels_the_network_is_ho_et_als_and_the_recipe_tong_et_als():
    data = DataSpec(3, 32, 32)
    assert FlowMatching.preset(data) == FlowMatchingConfig()
    assert sum(p.numel() for p in FlowMatching(data).parameters()) == 35_746_307
    recipe = FlowMatching.recipe(data)
    assert (recipe.lr, recipe.batch, recipe.warmup, recipe.ema, recipe.clip) == (2e-4, 128, 5_000, 0.9999, 1.0)
    assert recipe.images == 400_000 * 128
