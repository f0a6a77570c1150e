"""Networks that predict x_0 or v, and variances that are learned: each chain, bound and flow against known answers."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from diffusion_worlds import ExactDenoiser, Impulses, denoiser, pixel

from genbench.check import check_model
from genbench.contract import Batch, DataSpec
from genbench.space import seeded
from zoo import ddpm
from zoo.ddim import DDIM, ImplicitSampler, implicit, inverted, timesteps
from zoo.ddpm import DDPM, AncestralSampler, Config, ancestral, bound_terms
from zoo.denoising import Schedule, cosine_betas, linear_betas
from zoo.probability_flow import flow_log_density, schedule_nodes

LINEAR = Schedule(linear_betas(1000, 1e-4, 0.02))
SHORT = Schedule(cosine_betas(50))
TINY = Config(steps=10, schedule="cosine", channels=4, multipliers=(1,), blocks=1, attention=(), dropout=0.0, groups=2)
DATA = DataSpec(1, 4, 4, 17)
LEARNED = AncestralSampler("learned", clip=False)


def at(schedule, t, x):
    """alpha_bar of times (B,), whole or not, to broadcast with x."""
    angles = torch.atan2(schedule.spread, schedule.signal)
    before = t.long().clamp_max(len(angles) - 2)
    angle = torch.lerp(angles[before], angles[before + 1], t.double() - before)
    return angle.cos().square().view(-1, *[1] * (x.dim() - 1))


class Gaussian:
    """What the best network says of x_0 ~ N(0.3, std^2): `kind` of the exact x_0 and noise."""

    def __init__(self, schedule, std, kind):
        self.schedule, self.std, self.kind = schedule, std, kind

    def __call__(self, x, t):
        a = at(self.schedule, t, x)
        x_0 = 0.3 + a.sqrt() * self.std**2 / (a * self.std**2 + 1 - a) * (x - a.sqrt() * 0.3)
        noise = (x - a.sqrt() * x_0) / (1 - a).sqrt()
        return {"eps": noise, "x0": x_0, "v": a.sqrt() * noise - (1 - a).sqrt() * x_0}[self.kind].to(x.dtype)


class WithVariance:
    """The exact denoiser of N(0, std^2), and as more channels 2 v - 1 for the exact variance of the reverse step.

    p(x_{t-1} | x_t) has the variance beta_tilde_t + c^2 Var(x_0 | x_t), c the factor of x_0 in its mean.
    """

    def __init__(self, schedule, std):
        a = schedule.alpha_bar
        rest = std**2 * (1 - a) / (a * std**2 + 1 - a)
        exact = schedule.posterior_variance + schedule.posterior_mean[0].square() * rest
        middle, half = schedule.learned_range
        self.place, self.eps = (exact.log() - middle) / half, ExactDenoiser(schedule, [std])

    def __call__(self, x, t):
        place = self.place[t].view(-1, *[1] * (x.dim() - 1)).expand(x.shape).to(x)
        return torch.cat([self.eps(x, t), place], dim=1)


# ---- predictions ------------------------------------------------------------------------------------------------


def chains(schedule, kind, x):
    """What each function makes of x with the best network of the kind."""
    said, times = Gaussian(schedule, 0.5, kind), timesteps(len(schedule.beta), 9, "trailing")
    bare = AncestralSampler("small", clip=False)
    levels = torch.randint(0, 17, x.shape, generator=seeded(5)).double() / 8 - 1
    return {
        "ancestral": ancestral(denoiser(said, schedule, kind), x.clone(), bare, seeded(1)),
        "implicit": implicit(
            denoiser(said, schedule, kind), x.clone(), times, ImplicitSampler(eta=0.5, clip=False), seeded(1)
        ),
        "inverted": inverted(denoiser(said, schedule, kind), x.clone(), times[1:]),
        "bound": bound_terms(denoiser(said, schedule, kind), levels, 17, bare, seeded(1)),
        "flow": flow_log_density(denoiser(said, schedule, kind), x, schedule_nodes(schedule, 4), torch.ones_like(x)),
    }


@pytest.mark.parametrize("schedule", [LINEAR, SHORT], ids=["linear", "cosine"])
@pytest.mark.parametrize("kind", ["x0", "v"])
def test_every_function_is_the_same_whatever_the_network_predicts(kind, schedule):
    """But for the first step of the inversion: there an image is taken for one with the first time's noise."""
    x = torch.randn(3, 1, 2, 2, generator=seeded(0), dtype=torch.float64)
    expected, found = chains(schedule, "eps", x), chains(schedule, kind, x)
    for name, value in expected.items():
        assert torch.allclose(found[name], value, rtol=1e-6, atol=1e-6), name


@pytest.mark.parametrize(("kind", "of_image", "of_noise"), [("eps", 0, 1), ("x0", 1, 0), ("v", None, None)])
def test_loss_of_a_network_that_says_nothing_is_the_size_of_its_target(kind, of_image, of_noise):
    """Images of +-1/2: E[x_0^2] = 1/4, E[eps^2] = 1, E[v^2] = alpha_bar + (1 - alpha_bar) / 4, mean over t."""
    model = DDPM(DATA, replace(TINY, prediction=kind))
    x = torch.randn(2000, *DATA.shape, generator=seeded(0)).sign() / 2
    share = float(model.schedule.alpha_bar.mean())
    expected = (1 - share) / 4 + share if of_image is None else of_image / 4 + of_noise
    loss = model.loss(Batch(x, x), "all", 0, seeded(1))
    assert float(loss.total.detach()) == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("kind", ["x0", "v"])
def test_models_draw_invert_and_weigh_by_their_prediction(kind):
    """A model whose network is the best one has, whatever it predicts, the samples of the one that predicts eps."""
    x = torch.rand(2, *DATA.shape, generator=seeded(3)) - 0.5
    pixels = torch.randint(0, 17, (2, *DATA.shape), generator=seeded(4)).to(torch.uint8)
    found = {}
    for prediction in ("eps", kind):
        config = replace(TINY, prediction=prediction)
        one, other = DDPM(DATA, config), DDIM(DATA, config, ImplicitSampler(steps=5))
        for model in (one, other):
            said = Gaussian(model.schedule, 0.2, prediction)
            model.network.forward = lambda x, t, said=said: said(x.double(), t).to(x)
        made = [one.sample(2, seeded(0)), other.sample(2, seeded(0)), one.log_prob_bound(pixels)]
        found[prediction] = [*made, other.log_prob_estimate(pixels, steps=4), inverse(other, x)]
    for ours, expected in zip(found[kind], found["eps"], strict=True):
        assert torch.allclose(ours, expected, rtol=2e-3, atol=2e-3)


def inverse(model, x):
    """The inversion but for its first step."""
    return inverted(model.denoising, x, model.times[1:])


# ---- learned variances ------------------------------------------------------------------------------------------


def test_learned_variance_runs_from_beta_tilde_to_beta():
    middle, half = LINEAR.learned_range
    assert torch.allclose((middle - half).exp()[1:], LINEAR.posterior_variance[1:], rtol=1e-12)
    assert torch.allclose((middle + half).exp(), LINEAR.beta, rtol=1e-12)
    assert float((middle - half)[0]) == pytest.approx(-9.816725135, abs=1e-8)  # log beta_tilde_1, as beta_tilde_0 is 0
    assert float((middle + half / 2)[7].exp()) == pytest.approx(  # v = 3 / 4
        float(LINEAR.beta[7] ** 0.75 * LINEAR.posterior_variance[7] ** 0.25), rel=1e-12
    )


@pytest.mark.parametrize(("place", "kind"), [(-1.0, "small"), (1.0, "large")])
def test_ends_of_the_range_are_the_fixed_variances(place, kind):
    eps = ExactDenoiser(SHORT, [0.2, 0.3], [-0.5, 0.4], [0.5, 0.5])
    x = torch.randn(3, 2, 2, 2, generator=seeded(0), dtype=torch.float64)

    def both(x, t):
        return torch.cat([eps(x, t), torch.full_like(x, place)], dim=1)

    fixed = AncestralSampler(kind, clip=False)
    one, other = (
        ancestral(denoiser(both, SHORT), x.clone(), LEARNED, seeded(1)),
        ancestral(denoiser(eps, SHORT), x, fixed, seeded(1)),
    )
    assert torch.allclose(one, other, atol=1e-12)
    levels = torch.randint(0, 17, x.shape, generator=seeded(2)).double() / 8 - 1
    rows = [bound_terms(denoiser(said, SHORT), levels, 17, s, seeded(1)) for said, s in ((both, LEARNED), (eps, fixed))]
    assert torch.allclose(rows[0][1:], rows[1][1:], rtol=1e-9)  # row 0: a fixed "large" variance is beta_tilde_1 there


@pytest.mark.parametrize("std", [0.5, 1.0, 2.0])
def test_chain_with_the_exact_variance_has_the_spread_of_the_data(monkeypatch, std):
    """Every step then draws from the true p(x_{t-1} | x_t); the last, without noise, leaves out Var(x_0 | x_1)."""
    monkeypatch.setattr(ddpm, "gaussian_noise", Impulses())
    x = ancestral(denoiser(WithVariance(LINEAR, std), LINEAR), pixel(0, (1, 1, 1000)), LEARNED, seeded(0))
    rest = std**2 * 1e-4 / (0.9999 * std**2 + 1e-4)
    assert float(x.square().sum()) == pytest.approx(std**2 - rest, rel=1e-6)


def test_bound_with_the_exact_variance_is_the_entropy(monkeypatch):
    """As test_ddpm's for the fixed variances, which cost 0.17 and 0.82 bits more."""
    levels = 2**16 + 1
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(4, 1, 1, 1)
    monkeypatch.setattr(ddpm, "gaussian_noise", lambda shape, gen: signs.expand(shape))
    x_0 = torch.tensor([0.5, 0.5, -0.5, -0.5]).view(4, 1, 1, 1)
    terms = bound_terms(denoiser(WithVariance(LINEAR, 0.5), LINEAR), x_0, levels, LEARNED, seeded(0))
    nats = float(terms.sum(0).mean()) + math.log(2 / (levels - 1))
    entropy = 0.5 * math.log(2 * math.pi * math.e / 4)
    assert nats == pytest.approx(entropy, abs=2e-5)


def learning(**config):
    """A small model that learns its variance, with random weights throughout, and grey images."""
    model = DDPM(DATA, replace(TINY, variance="learned", **config), LEARNED).eval()
    gen = seeded(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=gen))
    pixels = torch.randint(0, 17, (3, *DATA.shape), generator=gen)
    pixels[0] = torch.tensor([0, 16]).repeat(8).view(1, 4, 4)
    return model, pixels / 8 - 1


@pytest.mark.parametrize("kind", ["eps", "x0", "v"])
def test_loss_of_the_variance_is_the_bound(monkeypatch, kind):
    """The mean of L_vlb over t = 0 .. T-1 on the bound's own x_t is the sum of its rows, without L_T, in bits/dim."""
    model, x_0 = learning(prediction=kind)
    monkeypatch.setattr(ddpm, "gaussian_noise", lambda shape, gen: torch.full(shape, 0.5))
    rows = bound_terms(denoiser(model.network, model.schedule, kind), x_0, 17, LEARNED, seeded(0))
    t = torch.arange(10).repeat_interleave(3)
    x = x_0.repeat(10, 1, 1, 1)
    signal, spread = model.constants[:2, t, None, None, None]
    with torch.no_grad():
        x_t = signal * x + spread * 0.5
        prediction, place = model.network(x_t, t).chunk(2, dim=1)
        found = model.variance_loss(x, x_t, t, prediction, place)
    assert float(found) == pytest.approx(float(rows[:-1].sum(0).mean()) / 16 / math.log(2), rel=1e-4)


@pytest.mark.parametrize("variance", ["fixed", "learned"])
def test_l_simple_is_of_the_implied_noise_whatever_the_network_says(variance):
    """Networks of each kind that imply the noise 0.3 x_t: the same mse, computed by hand, from any of them."""
    x = torch.rand(6, *DATA.shape, generator=seeded(0)) * 2 - 1
    found = {}
    for kind in ("eps", "x0", "v"):
        model = DDPM(DATA, replace(TINY, prediction=kind, error="eps", variance=variance, schedule="linear"))
        signal, spread = (values.view(-1, 1, 1, 1) for values in model.constants[:2])

        def says(x_t, t, gen=None, kind=kind, signal=signal, spread=spread):
            noise = 0.3 * x_t
            x_0 = (x_t - spread[t] * noise) / signal[t]
            said = {"eps": noise, "x0": x_0, "v": signal[t] * noise - spread[t] * x_0}[kind]
            return said if variance == "fixed" else torch.cat([said, torch.zeros_like(said)], 1)

        model.network.forward = says
        found[kind] = float(model.loss(Batch(x, x), "all", 0, seeded(1)).terms["mse"])
    gen = seeded(1)
    t, noise = torch.randint(TINY.steps, (6,), generator=gen), torch.randn(x.shape, generator=gen)
    expected = float((0.3 * (signal[t] * x + spread[t] * noise) - noise).square().mean())
    assert list(found.values()) == pytest.approx([expected] * 3, rel=1e-4)


def test_own_error_of_v_weighs_late_steps_more_than_l_simple():
    """A v that is off by 1 everywhere: 1 by its own measure, alpha_bar_t by L_simple's."""
    x, found = torch.zeros(512, *DATA.shape), {}
    for error in ("own", "eps"):
        model = DDPM(DATA, replace(TINY, prediction="v", error=error))
        signal = model.constants[0].view(-1, 1, 1, 1)
        model.network.forward = lambda x_t, t, gen=None, signal=signal, model=model: (
            signal[t] * x_t / model.constants[1].view(-1, 1, 1, 1)[t] + 1  # x is 0: v is signal times noise
        )
        found[error] = float(model.loss(Batch(x, x), "all", 0, seeded(1)).total)
    t = torch.randint(TINY.steps, (512,), generator=seeded(1))
    expected = [1, float(model.schedule.alpha_bar[t].mean())]
    assert list(found.values()) == pytest.approx(expected, rel=1e-4)


def test_hybrid_loss_teaches_the_mean_by_the_noise_alone_and_the_variance_by_the_bound_alone():
    """The last convolution's gradients: the mean's rows those of L_simple, the variance's lambda times L_vlb's."""
    rows = {}
    for weight in (0.0, 1e-3, 2e-3):
        model, x = learning(bound_weight=weight)
        loss = model.loss(Batch(x, x), "all", 0, seeded(1))
        assert float(loss.total.detach()) == pytest.approx(float(loss.terms["mse"] + weight * loss.terms["bound"]))
        loss.total.backward()
        rows[weight] = model.network.last.weight.grad
    assert torch.equal(rows[0.0][1:], torch.zeros_like(rows[0.0][1:]))
    assert torch.equal(rows[1e-3][:1], rows[0.0][:1])
    assert torch.allclose(rows[2e-3][1:], 2 * rows[1e-3][1:], rtol=1e-5)
    assert float(rows[1e-3][1:].abs().max()) > 0


def test_variance_has_a_finite_gradient_at_both_ends_of_the_grey_levels():
    model, _ = learning()
    for value in (-1.0, 1.0):
        for far in (0.0, 0.05, 1e3):  # how wrong the prediction is
            x = torch.full((1, *DATA.shape), value)
            for t in (0, 9):
                place = torch.zeros(1, *DATA.shape, requires_grad=True)
                model.variance_loss(x, x, torch.tensor([t]), torch.full_like(x, far), place).backward()
                assert torch.isfinite(place.grad).all()


def test_slope_of_the_bound_is_zero_at_the_exact_variance():
    """x_0 ~ N(0, 1/4), t > 0, the four pairs of signs for the expectation: the best place is where the bound rests."""
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(4, 1, 1, 1)
    model = DDPM(DataSpec(1, 1, 1), replace(TINY, steps=1000, schedule="linear", variance="learned"), LEARNED)
    said, x = WithVariance(LINEAR, 0.5), torch.tensor([0.5, 0.5, -0.5, -0.5]).view(4, 1, 1, 1)
    for t in (1, 3, 10):
        times = torch.full((4,), t)
        signal, spread = model.constants[:2, times, None, None, None]
        x_t = signal * x + spread * signs
        prediction, best = said(x_t, times).chunk(2, dim=1)
        slopes = []
        for shift in (-0.01, 0.0, 0.01):
            place = (best + shift).requires_grad_()
            model.variance_loss(x, x_t, times, prediction, place).backward()
            slopes.append(float(place.grad.sum()))
        assert slopes[0] < 0 < slopes[2]
        assert abs(slopes[1]) < 0.02 * slopes[2]


def test_a_network_that_learns_its_variance_draws_with_it_unless_told_otherwise():
    models = {}
    for variance in (None, "learned", "small"):
        models[variance] = DDPM(DATA, learning()[0].config, AncestralSampler(variance)).eval()
        models[variance].load_state_dict(learning()[0].state_dict())
    drawn = {variance: model.sample(2, seeded(0)) for variance, model in models.items()}
    assert torch.equal(drawn[None], drawn["learned"])
    assert not torch.equal(drawn["small"], drawn["learned"])
    small = DDPM(DATA, TINY, AncestralSampler("small"))
    small.network.forward = lambda x, t: models["small"].denoising.predict(x, t)[0]
    assert torch.equal(drawn["small"], small.sample(2, seeded(0)))
    assert DDPM(DATA, TINY).sampler.variance == "large"


@pytest.mark.parametrize("kind", ["eps", "v"])
def test_ddim_draws_from_the_weights_of_a_ddpm_that_learned_its_variance(kind):
    source, _ = learning(prediction=kind)
    model = DDIM(DATA, source.config, ImplicitSampler(steps=5)).eval()
    model.load_state_dict(source.state_dict())
    x, t = torch.randn(2, *DATA.shape, generator=seeded(0)), torch.tensor([3, 9])
    assert torch.equal(model.denoising.predict(x, t)[0], source.network(x, t)[:, :1])
    assert model.sample(2, seeded(0)).shape == model.invert(x).shape == x.shape
    assert math.isfinite(float(source.log_prob_bound((4 * x).clamp(0, 16).to(torch.uint8)).sum()))


@pytest.mark.parametrize("kind", [DDPM, DDIM])
@pytest.mark.parametrize(
    "config",
    [{"prediction": "x0"}, {"prediction": "v"}, {"variance": "learned", "schedule": "cosine", "padding": "after"}],
)
def test_conformance(kind, config):
    sampler = {DDPM: {}, DDIM: {"steps": 4}}[kind]
    sizes = {"steps": 10, "channels": 4, "multipliers": [1, 2], "groups": 2}
    results = check_model(kind, DATA, {**sizes, **config}, sampler)
    assert [r for r in results if not r.passed] == []


# ---- inversion --------------------------------------------------------------------------------------------------


def test_inversion_finds_the_noise_that_the_gaussians_flow_knows():
    """x_0 ~ N(m, s^2): the flow keeps (x_t - sqrt(a) m) / sqrt(a s^2 + 1 - a); the error falls as 1 / S without end."""
    mean, std, x = 0.3, 0.5, torch.linspace(-1, 1.2, 23, dtype=torch.float64)
    errors = []
    for steps in (500, 1000, 2000, 4000):
        schedule = Schedule(linear_betas(steps, 0.1 / steps, 20 / steps))  # one process, told ever more finely
        a = schedule.alpha_bar[-1]
        true = a.sqrt() * mean + (a * std**2 + 1 - a).sqrt() * (x - mean) / std
        found = inverted(denoiser(ExactDenoiser(schedule, [std], [mean]), schedule), x, list(range(steps)))
        errors.append(float((found - true).abs().max()))
    assert errors[-1] < 0.01
    assert [before / after for before, after in pairwise(errors)] == pytest.approx([2] * 3, abs=0.2)
