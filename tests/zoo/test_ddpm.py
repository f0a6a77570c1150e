"""DDPM: constants of the schedules, the decoder, the reverse chain and the bound against exactly known answers."""

import math
from dataclasses import replace

import pytest
import torch
from diffusion_worlds import ExactCovarianceDenoiser, ExactDenoiser, Impulses, denoiser, pixel, turned, unit_rows
from scipy.stats import norm
from torch.distributions import Normal, kl_divergence

from genbench.contract import Batch, DataSpec
from genbench.errors import ModelError
from genbench.space import seeded, to_unit_range
from zoo import ddpm
from zoo.ddpm import DDPM, AncestralSampler, Config, ancestral, bound_terms, discretised_gaussian, gaussian_kl, prior_kl
from zoo.denoising import PREDICTIONS, Schedule, cosine_betas, linear_betas, q_sample
from zoo.nets import require_sizes

LINEAR = Schedule(linear_betas(1000, 1e-4, 0.02))
TINY = Config(steps=10, schedule="cosine", channels=4, multipliers=(1,), blocks=1, attention=(), dropout=0.0, groups=2)
LN2 = math.log(2)


# ---- schedules --------------------------------------------------------------------------------------------------


def test_linear_schedule_constants():
    a = LINEAR.alpha_bar
    assert a.dtype == torch.float64
    assert float(a[0]) == pytest.approx(0.9999, abs=1e-15)
    assert float(a[499]) == pytest.approx(0.0785872429, abs=1e-10)
    assert float(a[999]) == pytest.approx(4.03582977e-5, abs=1e-13)
    assert float(a[999].sqrt()) == pytest.approx(0.00635282, abs=1e-8)


def test_cosine_schedule_constants():
    schedule = Schedule(cosine_betas(1000))
    assert float(schedule.beta[0]) == pytest.approx(4.12842248e-5, rel=1e-8)
    assert float(schedule.beta[-1]) == 0.999
    assert float(schedule.alpha_bar[499]) == pytest.approx(0.49384359, abs=1e-8)
    assert float(schedule.alpha_bar[-1]) == pytest.approx(2.4288e-9, rel=1e-4)


def test_posterior_variance_constants():
    v = LINEAR.posterior_variance
    assert float(v[0]) == 0
    assert v[1:3].tolist() == pytest.approx([5.4531877e-5, 8.5489115e-5], rel=1e-7)


@pytest.mark.parametrize("schedule", [LINEAR, Schedule(cosine_betas(50))], ids=["linear", "cosine"])
def test_posterior_is_bayes_rule(schedule):
    """q(x_{t-1} | x_t, x_0) is the product of N(x_{t-1}; sqrt(a') x_0, 1 - a') and N(x_t; sqrt(1 - b) x_{t-1}, b)."""
    t, x_0, x_t = 7, 0.3, -0.8
    a, b = float(schedule.alpha_bar[t - 1]), float(schedule.beta[t])
    precision = 1 / (1 - a) + (1 - b) / b
    mean = (math.sqrt(a) * x_0 / (1 - a) + math.sqrt(1 - b) * x_t / b) / precision
    of_x_0, of_x_t = schedule.posterior_mean
    assert float(schedule.posterior_variance[t]) == pytest.approx(1 / precision, rel=1e-12)
    assert float(of_x_0[t] * x_0 + of_x_t[t] * x_t) == pytest.approx(mean, rel=1e-12)


def test_posterior_mean_at_the_first_step_is_x_0():
    of_x_0, of_x_t = LINEAR.posterior_mean
    assert (float(of_x_0[0]), float(of_x_t[0])) == (pytest.approx(1, abs=1e-12), 0)


@pytest.mark.parametrize("kind", ["small", "large"])
def test_log_variance_at_t_0_is_that_of_beta_tilde_1(kind):
    found = LINEAR.log_variance(kind)
    assert float(found[0]) == pytest.approx(-9.816725135, abs=1e-8)
    expected = LINEAR.posterior_variance if kind == "small" else LINEAR.beta
    assert torch.allclose(found[1:], expected[1:].log())


def test_q_sample_has_one_step_of_noise_at_t_0_and_keeps_variance():
    one, zero = torch.ones(1), torch.zeros(1)
    signal, spread = LINEAR.signal, LINEAR.spread
    assert float(q_sample(zero, one, signal, spread)[0]) == pytest.approx(1e-2)
    assert float(q_sample(one, zero, signal, spread)[999]) == pytest.approx(0.00635282, abs=1e-8)
    squares = q_sample(one, zero, signal, spread) ** 2 + q_sample(zero, one, signal, spread) ** 2
    assert torch.allclose(squares, torch.ones(1000, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_x_0_and_noise_are_recovered_from_each_kind_of_prediction(kind):
    x_0, noise = torch.randn(2, 1000, generator=seeded(0), dtype=torch.float64)
    scales = (LINEAR.signal, LINEAR.spread)
    of_x_t, of_prediction = PREDICTIONS[kind].x_0(*scales)
    x_t, prediction = q_sample(x_0, noise, *scales), PREDICTIONS[kind].target(x_0, noise, *scales)
    assert torch.allclose(of_x_t * x_t + of_prediction * prediction, x_0, atol=1e-11)
    of_x_t, of_prediction = PREDICTIONS[kind].noise(*scales)
    assert torch.allclose(of_x_t * x_t + of_prediction * prediction, noise, atol=1e-11)


def test_v_has_a_constant_size_and_is_the_noise_at_first_and_minus_the_image_at_last():
    """|v|^2 + |x_t|^2 = |x_0|^2 + |eps|^2: (x_t, v) is (x_0, eps) turned by the angle of the time."""
    x_0, noise = torch.randn(2, 1000, generator=seeded(0), dtype=torch.float64)
    scales = (LINEAR.signal, LINEAR.spread)
    x_t, v = q_sample(x_0, noise, *scales), PREDICTIONS["v"].target(x_0, noise, *scales)
    assert torch.allclose(v**2 + x_t**2, x_0**2 + noise**2)
    ends = [torch.tensor(values) for values in ([1.0, 0.0], [0.0, 1.0])]  # signal, spread of no noise and of no signal
    assert PREDICTIONS["v"].target(torch.full((2,), 2.0), torch.full((2,), 3.0), *ends).tolist() == [3, -2]


def test_first_noise_keeps_its_digits_in_float32():
    """1 - alpha_bar_0 = 1e-4 taken in float32 would be 3e-4 off."""
    constants = DDPM(DataSpec(1, 4, 4), replace(TINY, steps=1000, schedule="linear")).constants
    assert float(constants[1, 0]) == pytest.approx(1e-2, rel=1e-7)


# ---- the decoder and the divergences ----------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(("mean", "std"), [(0.1, 0.02), (-1.2, 0.3), (0.9999, 1e-3)])
def test_decoder_sums_to_one_over_the_levels(levels, mean, std):
    x = to_unit_range(torch.arange(levels), levels).double()
    total = discretised_gaussian(x, torch.tensor(mean, dtype=torch.float64), std, levels).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-12)


def test_decoder_is_the_mass_between_half_levels():
    x = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0], dtype=torch.float64)  # 5 levels: half-bin 1 / 4
    found = discretised_gaussian(x, torch.tensor(0.2, dtype=torch.float64), 0.4, 5).exp()
    edges = norm.cdf([-math.inf, -0.75, -0.25, 0.25, 0.75, math.inf], 0.2, 0.4)
    assert found.tolist() == pytest.approx((edges[1:] - edges[:-1]).tolist(), rel=1e-12)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_decoder_keeps_its_digits_far_in_the_tails(side):
    """At 3 standard deviations a bin and 30 of them away, the mass is that of the nearer edge."""
    mean = torch.tensor(side * 0.35, dtype=torch.float64)
    found = discretised_gaussian(torch.tensor(-side * 0.5, dtype=torch.float64), mean, 0.02, 17)
    assert float(found) == pytest.approx(norm.logcdf(-(0.85 - 1 / 16) / 0.02), rel=1e-6)
    assert math.isfinite(discretised_gaussian(torch.tensor(-side), torch.tensor(side), 1e-3, 256))


def test_kl_is_that_of_two_gaussians():
    q, p = Normal(torch.tensor(0.3).double(), 0.5), Normal(torch.tensor(-0.4).double(), 0.8)
    found = gaussian_kl(2 * q.scale.log(), 2 * p.scale.log(), (q.loc - p.loc) ** 2)
    assert float(found) == pytest.approx(float(kl_divergence(q, p)), rel=1e-12)


def test_prior_kl_is_that_of_the_last_step():
    a, x_0 = torch.tensor(0.3, dtype=torch.float64), torch.tensor(-0.7, dtype=torch.float64)
    q = Normal(a.sqrt() * x_0, (1 - a).sqrt())
    expected = kl_divergence(q, Normal(torch.zeros_like(a), torch.ones_like(a)))
    assert float(prior_kl(x_0, a)) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize(("second_moment", "bits"), [(1.0, 2.9113e-5), (0.25, 7.2787e-6)])
def test_prior_kl_of_the_linear_schedule(second_moment, bits):
    x_0 = torch.tensor(math.sqrt(second_moment), dtype=torch.float64)
    assert float(prior_kl(x_0, LINEAR.alpha_bar[-1])) / LN2 == pytest.approx(bits, rel=1e-4)


# ---- the reverse chain ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("std", "variance", "expected"),
    [
        (1.0, "large", 0.99995000), (1.0, "small", 0.99552367), (0.5, "large", 0.50075151),
        (0.5, "small", 0.49611008), (2.0, "large", 1.99764093), (2.0, "small", 1.99368417),
    ],
)  # fmt: skip
def test_chain_with_the_exact_denoiser_has_the_known_spread(monkeypatch, std, variance, expected):
    noise = Impulses()
    monkeypatch.setattr(ddpm, "gaussian_noise", noise)
    x = ancestral(denoiser(ExactDenoiser(LINEAR, [std]), LINEAR), pixel(0, (1, 1000)), sampler(variance), seeded(0))
    assert float(x.square().sum().sqrt()) == pytest.approx(expected, abs=1e-8)
    assert noise.draws == 999  # none in the last step


@pytest.mark.parametrize(
    ("variance", "stds"),
    [("large", (0.99995000, 0.50075151, 1.99764093)), ("small", (0.99552367, 0.49611008, 1.99368417))],
)
def test_samples_have_the_datas_directions_and_the_known_spread_in_each(monkeypatch, variance, stds):
    monkeypatch.setattr(ddpm, "gaussian_noise", Impulses(unit_rows))
    eps = ExactCovarianceDenoiser(LINEAR, turned([1.0, 0.25, 4.0]))
    x = ancestral(denoiser(eps, LINEAR), unit_rows(0, (3000, 3)), sampler(variance), seeded(0))
    assert torch.allclose(x.T @ x, turned([s**2 for s in stds]), rtol=0, atol=1e-7)


def test_chain_with_the_exact_denoiser_finds_both_modes():
    eps = ExactDenoiser(LINEAR, [0.05, 0.1], [-0.6, 0.5], [0.3, 0.7])
    x = ancestral(denoiser(eps, LINEAR), torch.randn(4000, generator=seeded(0)), sampler("small"), seeded(1))
    left = x < 0
    assert float(left.float().mean()) == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / 4000))
    assert (float(x[left].mean()), float(x[~left].mean())) == (
        pytest.approx(-0.6, abs=0.01),
        pytest.approx(0.5, abs=0.01),
    )
    assert (float(x[left].std()), float(x[~left].std())) == (pytest.approx(0.05, rel=0.1), pytest.approx(0.1, rel=0.1))


@pytest.mark.parametrize(("clip", "x_0"), [(True, 1.0), (False, 3.0)])
def test_clipping_moves_the_mean_and_not_only_the_prediction(monkeypatch, clip, x_0):
    """A denoiser that always sees x_0 = 3: the mean after t = 1 is that of the posterior at the x_0 in force."""
    schedule = Schedule(linear_betas(2, 0.1, 0.3))
    monkeypatch.setattr(ddpm, "gaussian_noise", lambda shape, gen: torch.zeros(shape))
    seen = []

    def eps(x, t):
        seen.append(x.clone())
        a = schedule.alpha_bar[t].float()
        return (x - a.sqrt() * 3) / (1 - a).sqrt()

    start = torch.full((1,), 0.7)
    end = ancestral(denoiser(eps, schedule), start.clone(), AncestralSampler("small", clip), seeded(0))
    of_x_0, of_x_t = schedule.posterior_mean
    assert float(seen[1]) == pytest.approx(float(of_x_0[1] * x_0 + of_x_t[1] * 0.7), rel=1e-5)
    assert float(end) == pytest.approx(x_0, rel=1e-5)


def test_chain_goes_through_every_step_once():
    eps = ExactDenoiser(LINEAR, [1.0])
    ancestral(denoiser(eps, LINEAR), torch.zeros(2), sampler("large"), seeded(0))
    assert [t.tolist() for _, t in eps.seen] == [[t, t] for t in reversed(range(1000))]


# ---- the bound --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("std", "sizes", "variance", "bits"),
    [
        (0.5, (0.5,), "large", 1.212529), (0.5, (0.5,), "small", 1.869325),
        (1.0, (2.0, 0.0, 0.0, 0.0), "large", 2.211134), (1.0, (2.0, 0.0, 0.0, 0.0), "small", 2.881831),
    ],
)  # fmt: skip
def test_bound_of_the_exact_denoiser_is_known(monkeypatch, std, sizes, variance, bits):
    """x_0 ~ N(0, std^2): terms are quadratic in (x_0, noise), so sizes of x_0 whose mean square is std^2, with the four
    pairs of signs, give their expectation. No size is 1, as the bins at -1 and 1 are open.
    """
    levels = 2**16 + 1  # bins so fine that mass / width is the density of the table
    count = 4 * len(sizes)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0]).repeat(len(sizes)).view(count, 1, 1, 1)
    monkeypatch.setattr(ddpm, "gaussian_noise", lambda shape, gen: signs.expand(shape))
    x_0 = torch.tensor([[size, size, -size, -size] for size in sizes]).view(count, 1, 1, 1)
    terms = bound_terms(denoiser(ExactDenoiser(LINEAR, [std]), LINEAR), x_0, levels, sampler(variance), seeded(0))
    assert terms.shape == (1001, count)
    nats = float(terms.sum(0).mean()) + math.log(2 / (levels - 1))
    assert nats / LN2 == pytest.approx(bits, abs=2e-5)


def test_bound_is_above_the_entropy_and_needs_the_prior():
    """Five grey levels with known frequencies and their exact denoiser, a chain too short to forget x_0."""
    p = torch.tensor([0.4, 0.1, 0.05, 0.15, 0.3], dtype=torch.float64)
    entropy = -float((p * p.log()).sum())
    schedule = Schedule(linear_betas(200, 0.001, 0.011))
    x = to_unit_range(torch.arange(5), 5).double()
    eps = ExactDenoiser(schedule, [1e-6] * 5, x.tolist(), p.tolist())
    x_0 = x.float().repeat_interleave(1000).view(-1, 1, 1, 1)
    terms = bound_terms(denoiser(eps, schedule), x_0, 5, sampler("small"), seeded(0)).view(-1, 5, 1000).mean(2) @ p
    assert entropy < float(terms.sum()) < entropy + 0.05
    assert float(terms[:-1].sum()) < entropy
    assert float(terms.min()) >= 0


def test_bound_is_of_the_samplers_chain():
    pixels = torch.randint(0, 17, (3, 1, 4, 4), generator=seeded(0)).to(torch.uint8)
    values = {s: tiny(s).log_prob_bound(pixels).sum() for s in (sampler("large"), sampler("small"), AncestralSampler())}
    assert len(set(values.values())) == 3
    assert torch.equal(tiny().log_prob_bound(pixels), tiny().log_prob_bound(pixels, seeded(0)))


@pytest.mark.parametrize("pairs", [1, 7, 10_000])
def test_bound_is_the_same_however_the_steps_are_batched(monkeypatch, pairs):
    monkeypatch.setattr(ddpm, "gaussian_noise", lambda shape, gen: torch.full(shape, 0.5))
    pixels = torch.randint(0, 17, (3, 1, 4, 4), generator=seeded(0)).to(torch.uint8)
    expected = tiny().log_prob_bound(pixels)
    monkeypatch.setattr(ddpm, "PAIRS_PER_CALL", pairs)
    assert tiny().log_prob_bound(pixels).tolist() == pytest.approx(expected.tolist(), rel=1e-4)


# ---- the model --------------------------------------------------------------------------------------------------


def sampler(variance):
    return AncestralSampler(variance, clip=False)


def tiny(options=None, **config):
    """A small model with random weights throughout."""
    model = DDPM(DataSpec(1, 4, 4, 17), replace(TINY, **config), options).eval()
    gen = seeded(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=gen))
    return model


def test_loss_before_training_is_about_one():
    model = DDPM(DataSpec(1, 4, 4, 17), TINY)
    x = torch.rand(2000, 1, 4, 4, generator=seeded(0)) * 2 - 1
    loss = model.loss(Batch(x, x), "all", 0, seeded(0))
    assert float(loss.total.detach()) == pytest.approx(1, abs=4 * math.sqrt(2 / x.numel()))


def test_loss_is_the_error_of_the_predicted_noise(monkeypatch):
    """A network that returns x_t: E|x_t - eps|^2 = mean over t of a_t E[x_0^2] + (1 - sqrt(1 - a_t))^2."""
    model = DDPM(DataSpec(1, 1, 1, 17), TINY)
    monkeypatch.setattr(model, "network", torch.nn.ReLU())
    model.network.forward = lambda x, t, gen: x
    x = torch.randn(200_000, 1, 1, 1, generator=seeded(0)).sign() * 0.5
    a = model.schedule.alpha_bar
    expected = float((a * 0.25 + (1 - (1 - a).sqrt()) ** 2).mean())
    assert float(model.loss(Batch(x, x), "all", 0, seeded(1)).total) == pytest.approx(expected, rel=0.02)


def test_network_sees_times_of_a_thousand_steps():
    assert DDPM(DataSpec(1, 4, 4), replace(TINY, steps=50)).network.embed.scale == 20


def test_dropout_only_in_training_mode():
    model = tiny(dropout=0.5)
    x = torch.zeros(4, 1, 4, 4)
    resting = [float(model.eval().loss(Batch(x, x), "all", 0, seeded(0)).total.detach()) for _ in range(2)]
    assert resting[0] == resting[1]
    assert resting[0] != float(model.train().loss(Batch(x, x), "all", 0, seeded(0)).total.detach())


def test_state_is_the_network_alone():
    assert all(name.startswith("network.") for name in tiny().state_dict())


@pytest.mark.parametrize(
    ("data", "steps", "multipliers"),
    [
        (DataSpec(1, 8, 8, 17), 100, (1, 2)), (DataSpec(1, 28, 28), 100, (1, 2, 4)),
        (DataSpec(3, 32, 32), 1000, (1, 2, 2, 2)), (DataSpec(1, 36, 36), 1000, (1, 2, 2)),
        (DataSpec(3, 9, 8), 100, (1,)),
    ],
)  # fmt: skip
def test_presets_fit_any_shape(data, steps, multipliers):
    config = DDPM.preset(data)
    require_sizes(data.shape, config.channels, len(config.multipliers))
    assert (config.steps, config.multipliers) == (steps, multipliers)
    assert DDPM.recipe(data).ema > 0


def test_at_32_pixels_config_and_recipe_are_the_papers():
    """Section 4 and appendix B: 800,000 steps of 128 images; the U-Net has 35.7 million parameters (test_nets)."""
    data = DataSpec(3, 32, 32)
    config, recipe = DDPM.preset(data), DDPM.recipe(data)
    assert config == Config()
    assert (config.channels, config.multipliers, config.blocks, config.attention) == (128, (1, 2, 2, 2), 2, (16,))
    assert (config.steps, config.beta_first, config.beta_last, config.dropout) == (1000, 1e-4, 0.02, 0.1)
    assert (config.schedule, config.prediction, config.variance) == ("linear", "eps", "fixed")
    assert DDPM(data, replace(config, channels=4)).sampler == AncestralSampler("large", clip=True)
    assert (recipe.lr, recipe.batch, recipe.warmup, recipe.clip, recipe.ema) == (2e-4, 128, 5_000, 1.0, 0.9999)
    assert (recipe.betas, recipe.decay, recipe.flip) == ((0.9, 0.999), "constant", True)
    assert recipe.images == 800_000 * 128


def test_at_256_pixels_config_and_recipe_are_the_papers_for_celeba_hq():
    """Appendix B: six resolutions with attention at 16x16, no dropout, half the batch and a tenth of the step size."""
    data = DataSpec(3, 256, 256)
    config, recipe = DDPM.preset(data), DDPM.recipe(data)
    assert (config.multipliers, config.attention, config.dropout) == ((1, 1, 2, 2, 4, 4), (16,), 0.0)
    assert (recipe.lr, recipe.batch, recipe.images) == (2e-5, 64, 500_000 * 64)


@pytest.mark.parametrize(("height", "attention"), [(32, (16,)), (64, (16,)), (36, (9,)), (48, (12,)), (33, ())])
def test_attention_is_where_few_tokens_are(height, attention):
    assert DDPM.preset(DataSpec(3, height, height)).attention == attention


def test_a_learned_variance_cannot_be_sampled_from_a_fixed_one():
    with pytest.raises(ModelError, match=r"DDPM: sampler.variance: found 'learned', allowed: large, small with"):
        tiny(AncestralSampler("learned"))
