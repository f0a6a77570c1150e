"""Latent diffusion: published sizes and constants, its losses and guidance in closed form, texts that decide."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffusion_worlds import ExactDenoiser, denoiser, pixel
from torch import nn
from torch.distributions import Normal, kl_divergence

from genbench import data, features
from genbench.check import check_model
from genbench.contract import Batch, Condition, DataSpec
from genbench.draw.blocks import Conditions, draw
from genbench.errors import ModelError
from genbench.sources.build import load_model
from genbench.space import seeded
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training, fit
from zoo.ddim import ImplicitSampler, implicit, timesteps
from zoo.denoising import PREDICTIONS, Schedule, gaussian_noise, linear_betas, scaled_linear_betas, without_signal
from zoo.gan import hinge
from zoo.latent_diffusion import (
    GuidedSampler,
    LatentDiffusion,
    LatentDiffusionConfig,
    balance,
    feature_distance,
    guided,
    latent_sides,
    make_schedule,
)
from zoo.nets import kl_to_prior, posterior_draw

SMALL = DataSpec(1, 8, 8, 17, 10)
TINY = LatentDiffusionConfig(
    latent=2, width=4, depths=(1, 2), depth_blocks=1, critic_start=0, critic_width=4, critic_halvings=1, channels=8,
    multipliers=(1, 2), blocks=1, attention=(4,), heads=2, text_width=8, text_layers=1, text_length=20, groups=2,
)  # fmt: skip
LINEAR = Schedule(linear_betas(1000, 1e-4, 0.02))
STABLE = make_schedule(LatentDiffusionConfig())


def make(sampler=None, **config):
    """A small model whose weights are all random: layers that start at zero hide what is behind them."""
    model = LatentDiffusion(SMALL, replace(TINY, **config), sampler)
    gen = seeded(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=gen))
    return model


def make_batch(n=8, texts=("three", "seven")):
    x = 2 * torch.rand(n, 1, 8, 8, generator=seeded(1)) - 1
    return Batch(x, x, texts=tuple(texts[i % len(texts)] for i in range(n)) if texts else None)


def numbers(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


# ---- presets --------------------------------------------------------------------------------------------------------


def test_the_default_config_and_the_large_preset_are_stable_diffusions():
    assert LatentDiffusion.preset(DataSpec(3, 512, 512)) == LatentDiffusionConfig()


@pytest.mark.parametrize(
    ("spec", "latents"),
    [
        (DataSpec(1, 8, 8, 17), (4, 4)), (DataSpec(1, 28, 28), (7, 7)), (DataSpec(3, 32, 32), (8, 8)),
        (DataSpec(3, 9, 8), (9, 8)),
    ],
)  # fmt: skip
def test_presets_fit_any_shape(spec, latents):
    model = LatentDiffusion(spec)
    assert model.shape[1:] == latents
    z = model.encode(torch.zeros(2, *spec.shape))
    assert z.shape == (2, *model.shape)
    assert model.decode(z).shape == (2, *spec.shape)


# ---- schedule and predictions -----------------------------------------------------------------------------------


def test_stable_diffusions_schedule_constants():
    a = STABLE.alpha_bar
    assert float(a[0]) == pytest.approx(0.99915, abs=1e-12)
    assert float(a[-1]) == pytest.approx(0.0046600985, abs=1e-10)
    assert float(a[-1].sqrt()) == pytest.approx(0.06826491, abs=1e-8)
    assert float(a[-1] / (1 - a[-1])) == pytest.approx(0.0046819, abs=1e-7)


def test_its_roots_are_evenly_spaced_and_not_itself():
    beta = scaled_linear_betas(5, 0.01, 0.25)
    assert beta.tolist() == pytest.approx([0.01, 0.04, 0.09, 0.16, 0.25])


def test_without_signal_the_root_is_shifted_and_scaled():
    beta = scaled_linear_betas(1000, 0.00085, 0.012)
    found = Schedule(without_signal(beta)).signal
    assert float(found[-1]) == 0
    assert float(found[0]) == pytest.approx(math.sqrt(0.99915), abs=1e-12)
    before = STABLE.signal
    slope = (found[1:] - found[:-1]) / (before[1:] - before[:-1])
    assert torch.allclose(slope, slope[:1])


def test_without_signal_v_is_minus_the_image():
    z_0, noise = numbers(5), numbers(5, seed=1)
    v = PREDICTIONS["v"].target(z_0, noise, torch.zeros(()), torch.ones(()))
    assert torch.equal(v, -z_0)
    schedule = Schedule(without_signal(scaled_linear_betas(1000, 0.00085, 0.012)))
    found = denoiser(lambda z, t: v, schedule, "v")(noise, 999)
    assert torch.equal(found.x_0, z_0)
    assert torch.equal(found.noise, noise)


# ---- the chain --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_samples_end_a_chain_without_clipping_that_starts_at_the_last_time(steps):
    """Latents of N(0, 1): each step multiplies by the cosine of its change of angle, cos(angle) = signal."""
    model = make(GuidedSampler(steps, guidance=1.0))
    model.network.forward = lambda z, t, text: ExactDenoiser(model.schedule, [1.0])(z, t)
    model.decode = lambda z: z
    signal = model.schedule.signal[timesteps(1000, steps, "trailing")]
    expected = torch.cat([torch.zeros(1), signal.acos()]).diff().cos().prod()
    drawn, noise = model.sample(2, seeded(0)), torch.randn(2, *model.shape, generator=seeded(0))
    assert torch.allclose(drawn, noise * float(expected), atol=1e-4)


def test_chain_starts_from_pure_noise_when_no_signal_is_left():
    """E[v | z_t] of z_0 ~ N(0, 1) is 0, at signal 0 too: the spread is the product of cosines of the angles."""
    schedule = Schedule(without_signal(scaled_linear_betas(1000, 0.00085, 0.012)))
    times, nothing = timesteps(1000, 10, "trailing"), denoiser(lambda z, t: torch.zeros_like(z), schedule, "v")
    z = implicit(nothing, pixel(0, (1, 2)), times, ImplicitSampler(clip=False), seeded(0))
    angles = torch.cat([schedule.alpha_bar[times].sqrt().acos().flip(0), torch.zeros(1)])
    assert float(z[0, 0]) == pytest.approx(float((angles[:-1] - angles[1:]).cos().prod()), abs=1e-9)


# ---- guidance ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 2.0, 7.5])
def test_guidance_is_affine_between_without_and_with_text(guidance):
    a, b = numbers(5), numbers(5, seed=1)
    assert torch.allclose(guided(lambda: a, lambda: b, guidance), (1 - guidance) * b + guidance * a, atol=1e-12)


def test_guiding_v_guides_eps():
    z_t, a, b = numbers(5), numbers(5, seed=1), numbers(5, seed=2)
    whole, with_text, without = (
        denoiser(lambda z, t, v=v: v, STABLE, "v")(z_t, 500).noise for v in (guided(lambda: a, lambda: b, 3.0), a, b)
    )
    assert torch.allclose(whole, guided(lambda: with_text, lambda: without, 3.0), atol=1e-12)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5, 7.5])
def test_guidance_between_gaussians_moves_the_mean(guidance):
    """The noise of N(m, 1) is affine in m: guided from N(0, 1) to N(0.4, 1) it is that of N(0.4 guidance, 1)."""
    with_text, without = ExactDenoiser(LINEAR, [1.0], [0.4]), ExactDenoiser(LINEAR, [1.0], [0.0])

    def eps(z, t):
        return guided(lambda: with_text(z, t), lambda: without(z, t), guidance)

    start, times = LINEAR.signal[-1:] * guidance * 0.4, timesteps(1000, 10, "trailing")
    end = implicit(denoiser(eps, LINEAR), start, times, ImplicitSampler(clip=False), seeded(0))
    assert float(end) == pytest.approx(0.4 * guidance, abs=1e-12)


def sampled(texts, seed=0, **options):
    model = make(GuidedSampler(3, **options)).eval()
    with torch.no_grad():
        return model.sample(len(texts), seeded(seed), Condition(texts=tuple(texts)))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_prompts_change_images_and_their_letters_order_does(guidance):
    texts = ["three", "seven", "there"]
    rows = [sampled([text], guidance=guidance) for text in texts]
    assert not any(torch.equal(a, b) for i, a in enumerate(rows) for b in rows[:i])


def test_guidance_0_is_the_empty_prompt_and_that_is_guided_by_nothing():
    """The null token is what the encoder makes of "": an empty prompt is unconditional at every guidance."""
    expected = sampled(["", ""], guidance=1.0)
    assert torch.allclose(sampled(["three", "seven"], guidance=0.0), expected, atol=1e-6)
    assert torch.allclose(sampled(["", ""], guidance=5.0), expected, atol=1e-5)
    assert torch.equal(make(GuidedSampler(3)).eval().sample(2, seeded(0)), sampled(["", ""], guidance=1.5))


def test_without_the_outputs_of_cross_attention_prompts_change_nothing():
    model = make(GuidedSampler(3, guidance=2.0)).eval()
    silenced = [block.cross for block in model.network.modules() if getattr(block, "cross", None) is not None]
    assert silenced
    for attention in silenced:
        nn.init.zeros_(attention.out.weight)
    with torch.no_grad():
        one, two = (model.sample(1, seeded(0), Condition(texts=(text,))) for text in ("three", "seven"))
    assert torch.equal(one, two)


@pytest.mark.parametrize(("guidance", "evaluations"), [(0.0, 3), (1.0, 3), (2.0, 6), (0.5, 6)])
def test_evaluations_are_two_a_step_where_guided(guidance, evaluations):
    model = make(GuidedSampler(3, guidance=guidance)).eval()
    drawn = draw(model, 4, 0, block=2, conditions=Conditions(torch.arange(2), ("one", "two")))
    assert drawn.evaluations == model.evaluations == evaluations


# ---- first stage ------------------------------------------------------------------------------------------------


def test_kl_is_that_of_two_gaussians():
    mean, log_var = numbers(3, 2, 4, 4), numbers(3, 2, 4, 4, seed=1)
    standard = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), standard).sum((1, 2, 3))
    assert torch.allclose(kl_to_prior(mean, log_var), expected)


def test_posterior_draws_have_its_moments():
    mean, log_var = torch.full((1, 1, 400, 400), 0.7), torch.full((1, 1, 400, 400), math.log(0.25))
    z = posterior_draw(mean, log_var, gaussian_noise(mean.shape, seeded(0)))
    assert float(z.mean()) == pytest.approx(0.7, abs=0.005)
    assert float(z.std()) == pytest.approx(0.5, abs=0.004)


def test_log_variance_is_bounded():
    model = make()
    with torch.no_grad():
        model.encoder.layers[-1].bias.copy_(torch.tensor([0.0, 0.0, 1e4, -1e4]))
        _, log_var = model.encoder(make_batch().x)
    assert log_var[:, 0].eq(20).all()
    assert log_var[:, 1].eq(-30).all()


def test_features_differ_by_their_layers_means():
    x, y = [torch.zeros(2, 3), torch.zeros(2, 5)], [torch.full((2, 3), 1.0), torch.full((2, 5), -4.0)]
    assert float(feature_distance(x, y)) == 2.5
    assert float(feature_distance(x, x)) == 0


def test_balance_is_the_ratio_of_gradients():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    reconstruction, adversarial = weight @ torch.tensor([3.0, 4.0]), weight @ torch.tensor([0.0, 2.0])
    assert float(balance(reconstruction, adversarial, weight)) == pytest.approx(5 / (2 + 1e-4))
    assert float(balance(reconstruction, 0 * adversarial, weight)) == 1e4
    assert not balance(reconstruction, adversarial, weight).requires_grad


def autoencoder_loss(step=0, **config):
    model = make(**config)
    return model, model.loss(make_batch(), "autoencoder", step, seeded(3))


@torch.no_grad()
def test_autoencoder_loss_is_the_sum_of_its_terms():
    model, plain = autoencoder_loss(perceptual=0.0, adversarial=0.0, kl=0.0)
    x = make_batch().x
    mean, log_var = model.encoder(x)
    y = model.decoder(posterior_draw(mean, log_var, gaussian_noise(mean.shape, seeded(3))))
    assert float(plain.total) == pytest.approx(float((x - y).abs().sum() / len(x)), rel=1e-5)
    assert float(plain.terms["l1"]) == pytest.approx(float((x - y).abs().mean()), rel=1e-5)
    _, with_kl = autoencoder_loss(perceptual=0.0, adversarial=0.0, kl=0.1)
    kl = kl_to_prior(mean, log_var).mean()
    assert float(with_kl.total - plain.total) == pytest.approx(0.1 * float(kl), rel=1e-3)
    _, with_features = autoencoder_loss(perceptual=2.0, adversarial=0.0, kl=0.0)
    distance = feature_distance(model.critic(x)[:-1], model.critic(y)[:-1])
    assert float(with_features.total - plain.total) == pytest.approx(2 * 64 * float(distance), rel=1e-3)


def test_adversarial_term_waits_and_has_a_share_of_the_gradient():
    _, waiting = autoencoder_loss(step=4, critic_start=5)
    _, none = autoencoder_loss(step=4, adversarial=0.0)
    assert torch.equal(waiting.total, none.total)
    gradients = []
    for share in (0.0, 0.5):
        model, loss = autoencoder_loss(step=5, critic_start=5, kl=0.0, adversarial=share)
        gradients.append(torch.autograd.grad(loss.total, model.decoder.last.weight)[0])
    assert float((gradients[1] - gradients[0]).norm() / gradients[0].norm()) == pytest.approx(0.5, rel=0.01)


@torch.no_grad()
def test_critic_loss_is_the_hinge_of_its_patches():
    model = make()
    loss = model.loss(make_batch(), "critic", 0, seeded(3))
    x = make_batch().x
    mean, log_var = model.encoder(x)
    y = model.decoder(posterior_draw(mean, log_var, gaussian_noise(mean.shape, seeded(3))))
    real, fake = hinge(model.critic(x)[-1], model.critic(y)[-1])
    assert float(loss.total) == pytest.approx(0.5 * float(real + fake), rel=1e-5)


# ---- latents and their scale ------------------------------------------------------------------------------------


class Stretched(nn.Module):
    """An encoder with a known latent: the even pixels times a constant, twice, without spread."""

    def forward(self, x):
        z = 7.0 * x[:, :, ::2, ::2].expand(-1, 2, -1, -1)
        return z, torch.full_like(z, -30.0)


class Shrunk(nn.Module):
    """The decoder of such latents at those pixels."""

    def forward(self, z):
        return F.interpolate(z[:, :1] / 7.0, scale_factor=2.0)


class Blurred(nn.Module):
    """An encoder whose latents are all spread: N(0, 4) whatever the image."""

    def forward(self, x):
        mean = torch.zeros(len(x), 2, 4, 4)
        return mean, torch.full_like(mean, math.log(4))


def test_first_step_of_the_denoiser_scales_latents_to_unit_deviation():
    model = make()
    model.encoder = Stretched()
    batch = make_batch(200)
    model.loss(batch, "denoiser", 1, seeded(0))
    assert float(model.scale) == 1
    model.loss(batch, "denoiser", 0, seeded(0))
    assert float(model.encode(batch.x).std()) == pytest.approx(1, abs=0.05)
    before = float(model.scale)
    model.loss(Batch(3 * batch.x, batch.pixels), "denoiser", 1, seeded(0))
    model.eval().loss(Batch(3 * batch.x, batch.pixels), "denoiser", 0, seeded(0))
    assert float(model.scale) == before
    assert "scale" in model.state_dict()


def test_scale_is_that_of_draws_from_the_posterior_and_codes_are_its_means():
    model = make()
    model.encoder = Blurred()
    batch = make_batch(500)
    model.loss(batch, "denoiser", 0, seeded(0))
    assert float(model.scale) == pytest.approx(0.5, abs=0.012)  # 4 standard errors of 16,000 numbers
    assert model.encode(batch.x).eq(0).all()


def test_scale_is_undone_before_decoding():
    model = make()
    model.encoder, model.decoder = Stretched(), Shrunk()
    model.scale.fill_(0.18215)
    x = F.interpolate(make_batch().x[:, :, ::2, ::2], scale_factor=2.0)
    assert torch.allclose(model.decode(model.encode(x)), x, atol=1e-6)


def test_second_stage_leaves_the_first_alone():
    model = make()
    total = model.loss(make_batch(), "denoiser", 0, seeded(0)).total
    first = [*model.players()["autoencoder"], *model.players()["critic"]]
    assert all(g is None for g in torch.autograd.grad(total, first, allow_unused=True))


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_denoiser_loss_before_training_is_about_one(prediction):
    """The U-Net says 0, and eps and, of latents with unit deviation, v have mean square 1."""
    torch.manual_seed(0)  # an encoder whose latents are far from 0 on average has a larger v
    model = LatentDiffusion(SMALL, replace(TINY, prediction=prediction))
    found = float(model.loss(make_batch(500), "denoiser", 0, seeded(0)).total.detach())
    assert found == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_denoiser_loss_is_the_error_of_what_is_predicted(monkeypatch, prediction):
    """A network that returns z_t misses eps by sqrt(a) z_0 - (1 - sqrt(1 - a)) eps, and v likewise."""
    model = make(prediction=prediction)
    model.encoder = Stretched()
    monkeypatch.setattr(model.network, "forward", lambda z_t, t, text: z_t)
    a = model.schedule.alpha_bar
    signal, spread = a.sqrt(), (1 - a).sqrt()
    gap = (signal, spread - 1) if prediction == "eps" else (signal + spread, spread - signal)
    expected = float((gap[0] ** 2 + gap[1] ** 2).mean())
    found = float(model.loss(make_batch(4000), "denoiser", 0, seeded(0)).total)
    assert found == pytest.approx(expected, rel=0.05)


# ---- texts ------------------------------------------------------------------------------------------------------


def test_each_text_is_read_on_its_own():
    model = make()
    texts = ("three", "seven", "three", "")
    tokens = model.read(texts).each
    assert tokens.shape == (4, 20, 8)
    assert torch.allclose(tokens, torch.cat([model.read((text,)).each for text in texts]), atol=1e-6)


def test_a_tenth_of_the_training_texts_is_empty():
    model = make()
    with torch.no_grad():
        tokens, three, empty = model.read_dropped(("three",) * 5000, seeded(0)).each, *model.read(("three", "")).each
    of_three, of_empty = ((tokens - text).abs().amax((1, 2)) < 1e-5 for text in (three, empty))
    assert torch.equal(of_three, ~of_empty)
    assert of_empty.sum() / 5000 == pytest.approx(0.1, abs=4 * math.sqrt(0.09 / 5000))
    model = make(text_dropout=0.0)
    assert torch.equal(model.read_dropped(("three",) * 50, seeded(0)).each, model.read(("three",) * 50).each)


def test_fillers_are_attended_to():
    """As in Stable Diffusion: what stands at the end of a short text counts."""
    model = make()
    before = model.read(("a",)).each[0, 0].clone()
    with torch.no_grad():
        model.text.token.weight[256] *= -1
    assert (model.read(("a",)).each[0, 0] - before).abs().max() > 1e-4


@torch.no_grad()
def test_data_without_texts_trains_the_empty_one():
    model = make()
    with_none = model.loss(make_batch(texts=None), "denoiser", 0, seeded(0)).total
    assert float(with_none) == float(make().loss(make_batch(texts=("",)), "denoiser", 0, seeded(0)).total)


# ---- the model --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_conforms(prediction):
    config = {field: getattr(TINY, field) for field in TINY.__dataclass_fields__} | {"prediction": prediction}
    results = check_model(LatentDiffusion, SMALL, config, {"steps": 2})
    assert [r for r in results if not r.passed] == []


def test_training_cut_in_two_between_the_stages_is_the_same(tmp_path):
    """The scale is measured in the first step of the second stage and travels in the checkpoint."""
    pixels = torch.randint(17, (40, 1, 8, 8), generator=seeded(0), dtype=torch.uint8)
    recipe = replace(LatentDiffusion.recipe(SMALL), batch=8, warmup=2)

    def batches():
        return Batches(pixels, torch.arange(40) % 2, 17, 0, texts=("one", "two") * 20)

    whole, first = make(), make()
    fit(whole, batches(), recipe, FitOptions(96, 0))
    part = Training(first, batches(), recipe, FitOptions(96, 0))
    for _ in range(4):  # 3 steps of stage 1, 1 of stage 2
        part.step()
    part.checkpoint(tmp_path / "checkpoint.pt")
    rest = make()
    fit(rest, batches(), recipe, FitOptions(96, 0), tmp_path)
    assert float(rest.scale) == float(whole.scale) != 1
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), rest.parameters(), strict=True))


@pytest.mark.parametrize(
    ("make_it", "message"),
    [
        (
            lambda: replace(TINY, zero_terminal=True, prediction="eps"),
            "prediction: found 'eps', allowed: v with zero_terminal (without signal, a prediction of eps does not "
            "determine the image)",
        ),
        (
            lambda: LatentDiffusion(SMALL, TINY, GuidedSampler(1001)),
            "LatentDiffusion: sampler.steps: found 1001, allowed: at most config.steps, 1000",
        ),
        (
            lambda: LatentDiffusion(DataSpec(1, 9, 9), TINY),
            "LatentDiffusion: config.depths: found 2 numbers, allowed: at most 1 for 9x9 images",
        ),
    ],
)  # fmt: skip
def test_impossible_choices_are_refused(make_it, message):
    with pytest.raises((ModelError, ValueError)) as caught:
        make_it()
    assert str(caught.value) == message


# ---- quality ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_prompts_are_obeyed_on_digits():
    digits = data.load({"name": "digits"})
    model = load_model("latent_diffusion", source="zoo.latent_diffusion:LatentDiffusion", data=digits.spec)
    stream = Batches(digits.train.pixels, digits.train.labels, digits.spec.levels, 0, texts=digits.texts(digits.train))
    recipe = model.recipe(digits.spec)
    fit(model, stream, recipe, FitOptions(recipe.images, 0))
    drawn = draw(model, 1000, 0, block=500, conditions=Conditions(digits.train.labels, digits.captions))
    seen = features.load_extractor("classifier", "digits")(drawn.pixels, digits.spec.levels).probabilities.argmax(1)
    assert (seen == drawn.labels.numpy()).mean() > 0.9


def test_latents_may_be_a_single_pixel():
    config = replace(TINY, depths=(1, 1, 1, 1))
    assert latent_sides(DataSpec(1, 8, 24), config) == (1, 3)
    with pytest.raises(ModelError, match="found 5 numbers, allowed: at most 4 for 8x24 images"):
        latent_sides(DataSpec(1, 8, 24), replace(config, depths=(1, 1, 1, 1, 1)))
