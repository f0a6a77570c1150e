"""DDIM: subsequences, and the spread, determinism and inversion of its chain against exactly known answers."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusion_worlds import ExactCovarianceDenoiser, ExactDenoiser, Impulses, denoiser, pixel, turned

from genbench.contract import DataSpec, LikelihoodBound
from genbench.errors import ModelError
from genbench.space import seeded
from zoo import ddim
from zoo.ddim import DDIM, ImplicitSampler, implicit, inverted, timesteps
from zoo.ddpm import DDPM, AncestralSampler, Config, ancestral
from zoo.denoising import Schedule, cosine_betas, linear_betas

LINEAR = Schedule(linear_betas(1000, 1e-4, 0.02))
TINY = Config(steps=20, schedule="cosine", channels=4, multipliers=(1,), blocks=1, attention=(), dropout=0.0, groups=2)
DATA = DataSpec(1, 4, 4, 17)
STEPS = [10, 20, 50, 100, 1000]

SPREADS = {  # (spacing, eta, std of the data): std of the samples at each of STEPS, T = 1000 linear, exact denoiser
    ("uniform", 0.0, 1.0): [0.83170, 0.91253, 0.96408, 0.98185, 0.99812],
    ("quadratic", 0.0, 1.0): [0.85506, 0.92851, 0.97158, 0.98577, 0.99799],
    ("trailing", 0.0, 1.0): [0.82937, 0.91129, 0.96355, 0.98158, 0.99812],
    ("uniform", 1.0, 1.0): [0.74041, 0.84305, 0.92598, 0.96000, 0.99552],
    ("uniform", 0.0, 0.5): [0.37413, 0.43373, 0.47244, 0.48598, 0.49850],
    ("uniform", 1.0, 0.5): [0.33326, 0.39146, 0.44412, 0.46826, 0.49611],
    ("uniform", 0.0, 2.0): [1.71988, 1.85496, 1.94063, 1.97002, 1.99685],
}


def unclipped(eta=0.0):
    return ImplicitSampler(eta=eta, clip=False)


@pytest.mark.parametrize(("spacing", "eta", "std"), SPREADS)
def test_chain_with_the_exact_denoiser_has_the_known_spread(monkeypatch, spacing, eta, std):
    found = []
    for steps in STEPS:
        monkeypatch.setattr(ddim, "gaussian_noise", Impulses())
        times = timesteps(1000, steps, spacing)
        x = implicit(
            denoiser(ExactDenoiser(LINEAR, [std]), LINEAR), pixel(0, (1, steps)), times, unclipped(eta), seeded(0)
        )
        found.append(float(x.square().sum().sqrt()))
    assert found == pytest.approx(SPREADS[spacing, eta, std], abs=6e-6)


def test_map_from_noise_to_samples_has_the_datas_directions_and_the_known_spread_in_each():
    eps, start = ExactCovarianceDenoiser(LINEAR, turned([1.0, 0.25, 4.0])), torch.eye(3, dtype=torch.float64)
    for i, steps in enumerate(STEPS):
        found = implicit(denoiser(eps, LINEAR), start, timesteps(1000, steps, "uniform"), unclipped(), seeded(0))
        expected = turned([SPREADS["uniform", 0.0, std][i] for std in (1.0, 0.5, 2.0)])
        assert torch.allclose(found, expected, rtol=0, atol=1e-5)


def test_spread_is_the_product_of_cosines():
    """For x_0 ~ N(0, 1) each step multiplies by cos of its change of angle, cos(angle) = sqrt(alpha)."""
    times = timesteps(1000, 7, "uniform")
    angles = torch.cat([torch.zeros(1, dtype=torch.float64), LINEAR.alpha_bar[times].sqrt().acos()])
    x = implicit(denoiser(ExactDenoiser(LINEAR, [1.0]), LINEAR), pixel(0, (1, 1)), times, unclipped(), seeded(0))
    assert float(x) == pytest.approx(float(angles.diff().cos().prod()), abs=1e-12)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_mean_arrives_exactly(steps):
    times = timesteps(1000, steps, "trailing")
    start = LINEAR.alpha_bar[-1:].sqrt() * 0.3
    x = implicit(denoiser(ExactDenoiser(LINEAR, [0.5], [0.3]), LINEAR), start, times, unclipped(), seeded(0))
    assert float(x) == pytest.approx(0.3, abs=1e-12)


def mean_drawn(spacing, steps=5, mean=-0.8):
    """The mean that a chain reaches from the mean of N(0, I), for N(mean, 0.3^2) under the cosine schedule, T = 100."""
    schedule, start = Schedule(cosine_betas(100)), torch.zeros(1, dtype=torch.float64)
    exact = ExactDenoiser(schedule, [0.3], [mean])
    return float(implicit(denoiser(exact, schedule), start, timesteps(100, steps, spacing), unclipped(), seeded(0)))


def test_uniform_times_lose_part_of_the_mean_under_the_cosine_schedule():
    assert mean_drawn("trailing") == pytest.approx(-0.8, abs=1e-4)
    assert mean_drawn("uniform") == pytest.approx(-0.752, abs=1e-3)


@pytest.mark.parametrize(("schedule", "spacing"), [("cosine", "trailing"), ("linear", "uniform")])
def test_spacing_that_nobody_chose(schedule, spacing):
    config = replace(TINY, schedule=schedule)
    assert DDIM(DATA, config, ImplicitSampler(steps=10)).sampler.spacing == spacing
    assert DDIM(DATA, config, ImplicitSampler(steps=10, spacing="quadratic")).sampler.spacing == "quadratic"


def test_chain_with_the_exact_denoiser_finds_both_modes():
    eps = ExactDenoiser(LINEAR, [0.05, 0.1], [-0.6, 0.5], [0.3, 0.7])
    noise = torch.randn(4000, generator=seeded(0))
    x = implicit(denoiser(eps, LINEAR), noise, timesteps(1000, 200, "uniform"), unclipped(), seeded(1))
    left = x < 0
    assert float(left.float().mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 4000))
    assert (float(x[left].mean()), float(x[~left].mean())) == (
        pytest.approx(-0.6, abs=0.01),
        pytest.approx(0.5, abs=0.01),
    )


@pytest.mark.parametrize("schedule", [LINEAR, Schedule(cosine_betas(100))], ids=["linear", "cosine"])
def test_eta_1_with_every_step_is_ddpm_with_the_small_variance(schedule):
    total = len(schedule.beta)
    eps = ExactDenoiser(schedule, [0.2, 0.3], [-0.5, 0.4], [0.5, 0.5])
    x = torch.randn(50, generator=seeded(0), dtype=torch.float64)
    one = implicit(denoiser(eps, schedule), x.clone(), timesteps(total, total, "uniform"), unclipped(1.0), seeded(1))
    other = ancestral(denoiser(eps, schedule), x.clone(), AncestralSampler("small", clip=False), seeded(1))
    assert torch.allclose(one, other, atol=1e-7)


def test_eta_0_draws_no_noise(monkeypatch):
    noise = Impulses()
    monkeypatch.setattr(ddim, "gaussian_noise", noise)
    x = torch.randn(5, generator=seeded(0))
    eps, times = ExactDenoiser(LINEAR, [0.5]), timesteps(1000, 30, "uniform")
    first = implicit(denoiser(eps, LINEAR), x, times, unclipped(), seeded(1))
    assert noise.draws == 0
    assert torch.equal(first, implicit(denoiser(eps, LINEAR), x, times, unclipped(), seeded(2)))


def test_noise_left_after_the_last_step_is_none():
    """With a denoiser that knows x_0 the chain ends in x_0 itself: the last alpha is 1."""
    x_0 = 0.25

    def eps(x, t):
        a = LINEAR.alpha_bar[t]
        return (x - a.sqrt() * x_0) / (1 - a).sqrt()

    x = torch.randn(9, generator=seeded(0), dtype=torch.float64)
    for eta in (0.0, 1.0):
        end = implicit(denoiser(eps, LINEAR), x, timesteps(1000, 9, "uniform"), unclipped(eta), seeded(0))
        assert torch.allclose(end, torch.full_like(end, x_0), atol=1e-9)


@pytest.mark.parametrize(("clip", "x_0"), [(True, 1.0), (False, 3.0)])
def test_clipping_moves_the_noise_too(clip, x_0):
    """A denoiser that always sees x_0 = 3: the step goes to the x_0 in force along the noise that x_t implies."""
    seen = []

    def eps(x, t):
        seen.append(x.clone())
        a = LINEAR.alpha_bar[t]
        return (x - a.sqrt() * 3) / (1 - a).sqrt()

    start = torch.full((1,), 0.7, dtype=torch.float64)
    end = implicit(denoiser(eps, LINEAR), start, [400, 900], ImplicitSampler(clip=clip), seeded(0))
    late, early = LINEAR.alpha_bar[[900, 400]].tolist()
    noise = (0.7 - math.sqrt(late) * x_0) / math.sqrt(1 - late)
    assert float(seen[1]) == pytest.approx(math.sqrt(early) * x_0 + math.sqrt(1 - early) * noise, rel=1e-12)
    assert float(end) == pytest.approx(x_0, rel=1e-12)


def test_uniform_times_divide_evenly():
    assert timesteps(1000, 10, "uniform") == list(range(0, 1000, 100))


@pytest.mark.parametrize("steps", [1, 7, 300, 999])
def test_steps_that_do_not_divide_are_still_that_many(steps):
    for spacing in ("uniform", "trailing"):
        times = timesteps(1000, steps, spacing)
        assert len(set(times)) == steps
        assert times == sorted(times)
        assert min(times) >= 0
        assert max(times) <= 999


def test_trailing_times_end_at_the_last_step():
    assert timesteps(1000, 4, "trailing") == [249, 499, 749, 999]
    assert timesteps(1000, 3, "trailing")[-1] == 999


def test_quadratic_times_are_those_of_the_released_code_once():
    released = (np.linspace(0, np.sqrt(0.8 * 1000), 50) ** 2).astype(int)
    assert timesteps(1000, 50, "quadratic") == sorted(set(released.tolist()))
    assert [len(timesteps(1000, s, "quadratic")) for s in (50, 100, 1000)] == [49, 96, 688]


@pytest.mark.parametrize("spacing", ["uniform", "quadratic", "trailing"])
def test_each_step_starts_where_the_one_before_ended(spacing):
    """A denoiser that answers 0 only rescales, so x at each call tells the alpha it was left with."""
    seen = []

    def eps(x, t):
        seen.append((float(x), float(LINEAR.alpha_bar[t])))
        return torch.zeros_like(x)

    times = timesteps(1000, 13, spacing)
    start = LINEAR.alpha_bar[times[-1:]].sqrt()
    implicit(denoiser(eps, LINEAR), start, times, unclipped(), seeded(0))
    assert [x for x, _ in seen] == pytest.approx([math.sqrt(a) for _, a in seen], rel=1e-12)


def test_inversion_error_falls_as_one_over_steps():
    eps = ExactDenoiser(LINEAR, [0.1, 0.2], [-0.5, 0.4], [0.4, 0.6])
    x = torch.linspace(-0.7, 0.7, 40, dtype=torch.float64)
    errors = []
    for steps in (125, 250, 500):
        times = timesteps(1000, steps, "uniform")
        back = implicit(denoiser(eps, LINEAR), inverted(denoiser(eps, LINEAR), x, times), times, unclipped(), seeded(0))
        errors.append(float((back - x).abs().mean()))
    assert errors[0] < 0.05
    assert [errors[0] / errors[1], errors[1] / errors[2]] == pytest.approx([2, 2], abs=0.6)


# ---- the model --------------------------------------------------------------------------------------------------


def woken(model):
    """The model in eval mode with random weights throughout."""
    gen = seeded(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=gen))
    return model.eval()


def test_draws_from_the_weights_of_a_ddpm():
    source, model = woken(DDPM(DATA, TINY)), DDIM(DATA, TINY, ImplicitSampler(steps=20, eta=1.0))
    model.load_state_dict(source.state_dict())
    x = torch.randn(2, 1, 4, 4, generator=seeded(0))
    times = torch.tensor([3, 19])
    assert torch.equal(model.eval().denoiser(x, times), source.denoiser(x, times))


def test_invert_is_undone_by_sample(monkeypatch):
    model = woken(DDIM(DATA, replace(TINY, steps=1000, schedule="linear"), ImplicitSampler(steps=1000, clip=False)))
    model.network.forward = lambda x, t: ExactDenoiser(model.schedule, [0.3])(x, t)
    x = 0.2 * torch.randn(5, 1, 4, 4, generator=seeded(0))
    z = model.invert(x)
    monkeypatch.setattr(ddim, "gaussian_noise", lambda shape, gen: z)
    assert torch.allclose(model.sample(5, seeded(0)), x, atol=0.02)


@pytest.mark.parametrize(("options", "count"), [({"steps": 7}, 7), ({"steps": 20, "spacing": "quadratic"}, 14)])
def test_evaluations_are_the_steps_really_taken(options, count):
    model = woken(DDIM(DATA, TINY, ImplicitSampler(**options)))
    calls = []
    model.denoiser.register_forward_hook(lambda *_: calls.append(1))
    model.sample(2, seeded(0))
    assert len(calls) == model.evaluations == count


def test_exports_the_network_without_a_learned_variance():
    model = woken(DDIM(DATA, replace(TINY, variance="learned"), ImplicitSampler(steps=5)))
    unet, last = model.for_diffusers().parts["unet"], model.network.last
    assert unet.settings["out_channels"] == 1
    assert len(last.weight) == 2
    assert torch.equal(unet.weights("conv_out.weight"), last.weight[:1])
    assert torch.equal(unet.weights("conv_out.bias"), last.bias[:1])


def test_claims_no_bound():
    assert not issubclass(DDIM, LikelihoodBound)


def test_more_steps_than_the_process_has_are_refused():
    with pytest.raises(ModelError, match=r"DDIM: sampler.steps: found 21, allowed: at most config.steps, 20"):
        DDIM(DATA, TINY, ImplicitSampler(steps=21))
