"""The VAE against what is known: linear-Gaussian evidence, sums over all images, Monte Carlo, quadrature."""

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from genbench.check import check_model
from genbench.contract import Batch, DataSpec
from genbench.errors import ModelError
from genbench.evaluate.cell import evaluate
from genbench.evaluate.cell_inputs import CellInputs
from genbench.keys import stream_seed
from genbench.plan.planner import make_plan
from genbench.progress import silent
from genbench.space import bits_per_dim, seeded, to_pixels, to_unit_range
from genbench.store import Store
from genbench.suite.schema import Suite
from zoo.vae import VAE, Prior, VAEConfig, VAESampler, kl_to_prior, log_mean_exp
from zoo.vae_likelihoods import (
    FIRST_LOG_SCALE,
    LIKELIHOODS,
    SMALLEST_LOG_SCALE,
    Bernoulli,
    Likelihood,
    logistic_log_interval,
    normal_log_interval,
)

TINY = VAEConfig(latent=1, channels=4, halvings=1, hidden=8)
DETAILED = VAEConfig(latent=2, channels=4, halvings=1, hidden=8, details=(1, 2), couplings=2)
LOG_2PI = math.log(2 * math.pi)


@pytest.fixture(autouse=True)
def _same_initial_weights():
    torch.manual_seed(0)


def all_images(data):
    """Every image of a tiny dataset: (levels^D, C, H, W)."""
    values = torch.tensor(list(product(range(data.levels), repeat=data.dims)), dtype=torch.uint8)
    return values.view(-1, *data.shape)


def shaken(model, seed, size=0.5):
    """The model with all weights moved by noise, in eval mode."""
    gen = seeded(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn(parameter.shape, generator=gen, dtype=parameter.dtype))
    return model.eval()


def output_of(location, log_scale, count):
    """What a decoder says of one pixel of `count` images: (count, 2, 1, 1)."""
    return torch.tensor([location, log_scale], dtype=torch.float64).view(1, 2, 1, 1).expand(count, -1, -1, -1)


def batch_of(pixels, levels):
    return Batch(to_unit_range(pixels, levels), pixels)


# --- KL ---------------------------------------------------------------------------------------------------------------


def test_kl_is_zero_at_the_prior_and_sums_over_latents():
    assert kl_to_prior(torch.zeros(2, 5), torch.zeros(2, 5)).tolist() == [0, 0]
    one = kl_to_prior(torch.full((1, 1), 0.7), torch.full((1, 1), -1.0))
    assert one.item() == pytest.approx(0.5 * (0.49 + math.exp(-1) - 1 + 1))
    assert torch.allclose(kl_to_prior(torch.full((1, 6), 0.7), torch.full((1, 6), -1.0)), 6 * one)


def test_kl_agrees_with_monte_carlo():
    mean, log_var = torch.tensor([[0.5, -1.0, 0.0]]), torch.tensor([[-1.0, 0.5, 0.3]])
    q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    z = mean + (0.5 * log_var).exp() * torch.randn(200_000, 3, generator=seeded(0))
    gaps = (q.log_prob(z) - torch.distributions.Normal(0.0, 1.0).log_prob(z)).sum(1)
    assert gaps.mean().item() == pytest.approx(kl_to_prior(mean, log_var).item(), abs=4 * gaps.std().item() / 447)


# --- likelihoods ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["logistic", "gaussian"])
@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(
    ("location", "log_scale"), [(0.1, -1.5), (-1.3, -3.0), (0.9999, -7.0), (5.0, -7.0), (0.0, 3.0)]
)
def test_discretised_mass_sums_to_one(name, levels, location, log_scale):
    likelihood = LIKELIHOODS[name](DataSpec(1, 1, 1, levels))
    pixels = torch.arange(levels, dtype=torch.uint8).view(-1, 1, 1, 1)
    log_mass = likelihood.log_prob(pixels, output_of(location, log_scale, levels).double())
    assert torch.isfinite(log_mass).all()
    assert log_mass.exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    ("log_interval", "cdf"), [(logistic_log_interval, torch.sigmoid), (normal_log_interval, torch.special.ndtr)]
)
def test_log_interval_is_the_difference_of_cdfs_and_survives_the_tails(log_interval, cdf):
    low = torch.linspace(-4, 4, 33, dtype=torch.float64)
    assert torch.allclose(log_interval(low, low + 0.3), (cdf(low + 0.3) - cdf(low)).log(), rtol=1e-9, atol=0)
    far = torch.tensor([-1000.0, -30.0, 30.0, 1000.0], requires_grad=True)
    values = log_interval(far, far + 0.3)
    values.sum().backward()
    assert torch.isfinite(values).all()
    assert torch.isfinite(far.grad).all()


@pytest.mark.parametrize("name", ["logistic", "gaussian"])
def test_draws_have_the_frequencies_of_the_mass(name):
    data = DataSpec(1, 1, 1, 5)
    likelihood = LIKELIHOODS[name](data)
    n, output = 40_000, output_of(0.6, -0.7, 40_000).float()
    drawn = to_pixels(likelihood.draw(output, seeded(0)), 5).flatten().bincount(minlength=5) / n
    mass = likelihood.log_prob(torch.arange(5, dtype=torch.uint8).view(-1, 1, 1, 1), output[:5]).exp()
    assert torch.allclose(drawn, mass, atol=4 * 0.5 / math.sqrt(n))


def test_bernoulli_sums_to_one_over_all_images_and_draws_its_mean():
    data = DataSpec(1, 2, 3, 2)
    likelihood = LIKELIHOODS["bernoulli"](data)
    output = torch.randn(1, 1, 2, 3, generator=seeded(0))
    total = likelihood.log_prob(all_images(data), output.expand(64, -1, -1, -1)).exp().sum()
    assert total.item() == pytest.approx(1, abs=1e-6)
    drawn = likelihood.draw(output.expand(40_000, -1, -1, -1), seeded(1))
    assert set(drawn.unique().tolist()) == {-1.0, 1.0}
    assert torch.allclose(drawn.mean(0, keepdim=True), likelihood.mean(output), atol=0.02)
    assert torch.allclose(likelihood.mean(likelihood.output_for(torch.tensor(0.3))), torch.tensor(0.3))


def test_log_prob_is_a_sum_over_pixels():
    one, two = DataSpec(1, 2, 2, 17), DataSpec(1, 2, 4, 17)
    pixels = torch.randint(0, 17, (3, 1, 2, 2), generator=seeded(0)).to(torch.uint8)
    output = torch.randn(3, 2, 2, 2, generator=seeded(1))
    single = LIKELIHOODS["logistic"](one).log_prob(pixels, output)
    tiled = LIKELIHOODS["logistic"](two).log_prob(pixels.repeat(1, 1, 1, 2), output.repeat(1, 1, 1, 2))
    assert torch.allclose(tiled, 2 * single)


def test_bernoulli_refuses_grey_levels():
    with pytest.raises(ModelError) as error:
        VAE(DataSpec(1, 8, 8, 17), VAEConfig(likelihood="bernoulli"))
    assert str(error.value) == (
        "VAE: config.likelihood: found 'bernoulli', allowed: logistic, gaussian for 17 grey levels"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VAEConfig(latent=1, couplings=2), "latent: found 1, allowed: at least 2 with couplings"),
        (
            lambda: VAEConfig(halvings=1, details=(1, 1, 1)),
            "details: found 3 numbers, allowed: at most 2 with halvings 1",
        ),
    ],
)
def test_bad_options_name_what_is_allowed(make, message):
    with pytest.raises(ValueError, match="found") as error:
        make()
    assert str(error.value) == message


# --- linear-Gaussian world: z ~ N(0, I), x | z ~ N(Wz + mu, s^2 I) ----------------------------------------------------


class Density(Likelihood):
    """N(output, s^2 I) as a density of to_unit_range(pixels)."""

    def __init__(self, std):
        self.std = std

    def log_prob(self, pixels, output):
        x = to_unit_range(pixels, 256).double()
        return (-0.5 * ((x - output) / self.std) ** 2 - math.log(self.std) - 0.5 * LOG_2PI).flatten(1).sum(1)


class LinearDecoder(nn.Module):
    def __init__(self, weight, mu):
        super().__init__()
        self.weight, self.mu = weight, mu

    def forward(self, z, details):
        return (z.double() @ self.weight.T + self.mu).view(-1, 1, 2, 2)


class GaussianEncoder(nn.Module):
    """N(gain (x - mu), variances), the mean-field posterior of the linear world when the gain is its own."""

    def __init__(self, gain, mu, variances):
        super().__init__()
        self.gain, self.mu, self.log_var = gain, mu, variances.log()

    def forward(self, x):
        mean = (x.double().flatten(1) - self.mu) @ self.gain.T
        return mean, self.log_var.expand_as(mean), []


class LinearWorld:
    """A VAE with exact linear parts, its evidence and its true posterior, float64."""

    def __init__(self, weight, std=0.2):
        self.weight, self.std = weight.double(), std
        self.mu = torch.tensor([0.1, -0.2, 0.0, 0.3], dtype=torch.float64)
        precision = torch.eye(2, dtype=torch.float64) + self.weight.T @ self.weight / std**2
        self.cov = torch.linalg.inv(precision)
        self.gain = self.cov @ self.weight.T / std**2
        self.model = VAE(DataSpec(1, 2, 2, 256), VAEConfig(latent=2, channels=1, halvings=0, hidden=1)).double()
        self.model.decoder, self.model.likelihood = LinearDecoder(self.weight, self.mu), Density(std)
        self.encode_with(self.cov.diagonal())
        self.pixels = torch.tensor([[90, 140, 130, 170], [150, 60, 120, 200]], dtype=torch.uint8).view(2, 1, 2, 2)

    def encode_with(self, variances, gain=None):
        self.model.encoder = GaussianEncoder(self.gain if gain is None else gain, self.mu, variances)

    def evidence(self):
        cov = self.weight @ self.weight.T + self.std**2 * torch.eye(4, dtype=torch.float64)
        return MultivariateNormal(self.mu, cov).log_prob(to_unit_range(self.pixels, 256).double().flatten(1))


ORTHOGONAL = torch.tensor([[0.5, 0.3], [0.5, -0.3], [-0.2, 0.4], [-0.2, -0.4]])
SKEWED = torch.tensor([[0.5, 0.4], [0.3, 0.6], [-0.2, 0.1], [0.1, 0.2]])


def test_bound_at_the_exact_posterior_is_the_evidence_whatever_k_and_z():
    world = LinearWorld(ORTHOGONAL)
    assert abs(world.cov[0, 1].item()) < 1e-15
    for k, seed in [(1, 0), (1, 1), (7, 2)]:
        assert torch.allclose(
            world.model.log_prob_importance(world.pixels, k, seeded(seed)), world.evidence(), atol=1e-10
        )


def test_evidence_on_average_is_minus_the_entropy_of_data_that_have_the_models_covariance():
    """x = mu +- sqrt(D) times the columns of a root of C have mean mu and covariance C, so that the mean of log p(x) is
    -log det(2 pi e C) / 2, C = W W' + s^2 I.
    """
    world = LinearWorld(ORTHOGONAL)
    cov = world.weight @ world.weight.T + world.std**2 * torch.eye(4, dtype=torch.float64)
    steps = 2 * torch.linalg.cholesky(cov).T
    x = world.mu + torch.cat([steps, -steps])
    pixels = ((x + 1) * 127.5).view(8, 1, 2, 2)  # between the grey levels too, as the likelihood is a density
    found = world.model.log_prob_importance(pixels, 1, seeded(0)).mean().item()
    assert found == pytest.approx(-0.5 * torch.logdet(2 * math.pi * math.e * cov).item(), abs=1e-4)


def test_bound_on_average_is_the_evidence_at_the_exact_posterior():
    world = LinearWorld(ORTHOGONAL)
    draws = world.model.log_prob_bound(world.pixels[:1].expand(50_000, -1, -1, -1), seeded(0))
    assert draws.mean().item() == pytest.approx(world.evidence()[0].item(), abs=4 * draws.std().item() / 223)


def test_gap_of_the_best_mean_field_is_its_kl_to_the_posterior():
    world = LinearWorld(SKEWED)
    variances = 1 / torch.linalg.inv(world.cov).diagonal()
    world.encode_with(variances)
    q = MultivariateNormal(torch.zeros(2, dtype=torch.float64), torch.diag(variances))
    gap = torch.distributions.kl_divergence(q, MultivariateNormal(torch.zeros(2, dtype=torch.float64), world.cov))
    assert gap.item() > 0.05
    draws = world.model.log_prob_bound(world.pixels[:1].expand(50_000, -1, -1, -1), seeded(0))
    assert (world.evidence()[0] - draws.mean()).item() == pytest.approx(gap.item(), abs=4 * draws.std().item() / 223)


def test_both_bounds_of_one_draw_are_the_same_where_the_encoder_gives_the_prior():
    world = LinearWorld(SKEWED, std=0.5)
    world.encode_with(torch.ones(2, dtype=torch.float64), gain=torch.zeros(2, 4, dtype=torch.float64))
    one = world.model.log_prob_importance(world.pixels, 1, seeded(3))
    assert torch.allclose(one, world.model.log_prob_bound(world.pixels, seeded(3)), rtol=0, atol=1e-10)


def test_iwae_rises_with_k_towards_the_evidence():
    world = LinearWorld(SKEWED, std=0.5)
    world.encode_with(torch.ones(2, dtype=torch.float64), gain=torch.zeros(2, 4, dtype=torch.float64))  # the prior
    pixels = world.pixels[:1].expand(2_000, -1, -1, -1)
    averages = [world.model.log_prob_importance(pixels, k, seeded(k)).mean().item() for k in (1, 5, 50, 300)]
    evidence = world.evidence()[0].item()
    assert averages == sorted(averages)
    assert averages[-1] == pytest.approx(evidence, abs=0.02)
    assert averages[0] < evidence - 0.3


def test_iwae_decodes_one_draw_at_a_time_and_keeps_no_graph():
    world, decoded = LinearWorld(SKEWED), []
    world.model.decoder.register_forward_hook(lambda module, inputs, output: decoded.append(len(output)))
    assert not world.model.log_prob_importance(world.pixels, 9, seeded(0)).requires_grad
    assert decoded == [2] * 9


def test_iwae_is_the_log_of_the_mean_of_weights():
    assert torch.allclose(log_mean_exp(torch.full((50, 3), -2.5)), torch.full((3,), -2.5))
    assert log_mean_exp(torch.tensor([[0.0], [math.log(3)]])).item() == pytest.approx(math.log(2))


# --- the learned prior ------------------------------------------------------------------------------------------------


def learned_prior(latent=3, couplings=4):
    """A prior whose couplings all do something, float64."""
    return shaken(Prior(VAEConfig(latent=latent, hidden=8, couplings=couplings)).double(), seed=0, size=0.2)


def test_a_prior_starts_as_the_standard_normal():
    z = torch.randn(5, 4, generator=seeded(0))
    for couplings in (0, 4):
        prior = Prior(VAEConfig(latent=4, hidden=8, couplings=couplings))
        assert torch.allclose(prior.log_prob(z), torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1))
        assert torch.equal(prior.from_noise(z), z)


def test_a_learned_prior_integrates_to_one():
    prior, axis = learned_prior(latent=2), torch.linspace(-20, 20, 1001, dtype=torch.float64)
    with torch.no_grad():
        mass = prior.log_prob(torch.cartesian_prod(axis, axis)).exp().sum() * (axis[1] - axis[0]) ** 2
    assert mass.item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(("latent", "couplings"), [(2, 1), (3, 4), (4, 3)])
def test_a_drawn_latent_has_the_density_of_its_noise_over_the_jacobian(latent, couplings):
    """log p(z) = log N(u; 0, I) - log |det dz/du|, by autograd's Jacobian of the draw."""
    prior = learned_prior(latent, couplings)
    u = torch.randn(1, latent, generator=seeded(3), dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda u: prior.from_noise(u[None])[0], u[0])
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(u).sum() - torch.linalg.slogdet(jacobian).logabsdet
    assert prior.log_prob(prior.from_noise(u)).item() == pytest.approx(expected.item(), abs=1e-10)
    assert jacobian.fill_diagonal_(0).abs().max() > 0.1


def test_a_learned_prior_learns_a_density_that_no_gaussian_has():
    """Two Gaussians 4 apart, which the best Gaussian, of variances 4.25 and 0.25, misses by 0.72 nats."""
    gen, prior = seeded(0), Prior(VAEConfig(latent=2, hidden=32, couplings=4))
    centres = torch.tensor([[-2.0, 0.0], [2.0, 0.0]])
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.ones(2)),
        torch.distributions.Independent(torch.distributions.Normal(centres, 0.5), 1),
    )

    def drawn(n):
        return centres[torch.randint(2, (n,), generator=gen)] + 0.5 * torch.randn(n, 2, generator=gen)

    optimiser = torch.optim.Adam(prior.parameters(), 5e-3)
    for _ in range(600):
        optimiser.zero_grad()
        (-prior.log_prob(drawn(256)).mean()).backward()
        optimiser.step()
    z = drawn(20_000)
    with torch.no_grad():
        gap = (mixture.log_prob(z) - prior.log_prob(z)).mean().item()
    assert 0 <= gap < 0.1


def test_kl_to_a_learned_prior_is_that_to_the_normal_on_average_while_it_is_one():
    config = VAEConfig(latent=3, channels=4, halvings=1, hidden=8)
    plain, learned = (VAE(DataSpec(1, 8, 8, 17), replace(config, couplings=c)) for c in (0, 2))
    mean, log_var = (
        torch.tensor([[0.5, -1.0, 0.0]]).expand(50_000, -1),
        torch.tensor([-1.0, 0.5, 0.3]).expand(50_000, -1),
    )
    z = mean + (0.5 * log_var).exp() * torch.randn(mean.shape, generator=seeded(0))
    estimates = learned.kl(z, mean, log_var)
    exact = plain.kl(z, mean, log_var)[0].item()
    assert estimates.mean().item() == pytest.approx(exact, abs=4 * estimates.std().item() / math.sqrt(50_000))


# --- details ----------------------------------------------------------------------------------------------------------


def detailed(data, seed=0, size=0.2):
    return shaken(VAE(data, DETAILED), seed=seed, size=size)


@pytest.mark.parametrize("options", [{"latent": 2, "couplings": 3}, {"latent": 1, "details": (1,)}], ids=str)
def test_evidence_with_each_choice_sums_to_one_and_bounds_stay_below(options):
    """Two latents on a grid: a learned prior of both, or one of them a detail whose posterior hangs on the other."""
    data = DataSpec(1, 1, 2, 2)
    config = VAEConfig(channels=4, halvings=1, hidden=8, likelihood="bernoulli", **options)
    model = shaken(VAE(data, config), seed=0, size=0.3)
    pixels, axis = all_images(data), torch.linspace(-12, 12, 601)
    z = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        prior, outputs = model.log_prior(z).double(), model.output(z)
        log_joint = torch.stack([model.likelihood.log_prob(p.expand(len(z), -1, -1, -1), outputs) for p in pixels])
        log_p = (log_joint.double() + prior).logsumexp(1) + 2 * math.log(24 / 600)
        copies = pixels.repeat(50, 1, 1, 1)
        bounds = model.log_prob_bound(copies, seeded(0), samples=50).view(50, -1).mean(0)
        tight = model.log_prob_importance(copies, 50, seeded(1)).view(50, -1).mean(0)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-3)
    evidence, lower, tighter = ((log_p.exp() * v).sum().item() for v in (log_p, bounds, tight))
    assert lower < tighter < evidence + 0.01
    assert tighter == pytest.approx(evidence, abs=0.05)


def test_details_start_at_the_prior_and_cost_nothing():
    model = VAE(DataSpec(1, 8, 8, 17), DETAILED)
    z, mean, log_var, _ = model.infer(torch.rand(3, 1, 8, 8, generator=seeded(0)), torch.ones(3, 146))
    assert z.shape == (3, 2 + 1 * 4 * 4 + 2 * 8 * 8)
    assert torch.equal(mean[:, 2:], torch.zeros(3, 144))
    assert torch.equal(log_var[:, 2:], torch.zeros(3, 144))


def test_a_detail_is_inferred_from_what_was_drawn_above_it():
    model, x = detailed(DataSpec(1, 8, 8, 17)), torch.rand(2, 1, 8, 8, generator=seeded(0))
    low, high = (model.infer(x, torch.full((2, 146), noise))[1] for noise in (0.0, 1.0))
    assert torch.equal(low[:, :2], high[:, :2])
    assert (low[:, 2:18] - high[:, 2:18]).abs().max() > 0.01
    assert (low[:, 18:] - high[:, 18:]).abs().max() > 0.01


def test_the_output_that_comes_with_inferred_latents_is_that_of_the_latents():
    model, x = detailed(DataSpec(1, 8, 8, 17)), torch.rand(3, 1, 8, 8, generator=seeded(0))
    z, mean, log_var, output = model.infer(x, torch.ones(3, 146))
    assert torch.allclose(model.output(z), output, atol=1e-5)
    assert torch.allclose(z, mean + (0.5 * log_var).exp(), atol=1e-5)
    assert torch.allclose(model.encode(x), model.infer(x, torch.zeros(3, 146))[1], atol=1e-6)


def test_the_weight_of_one_draw_is_the_bound_of_that_draw_up_to_its_noise():
    """Over many draws log p(x, z) - log q(z|x) and the fit minus the KL term, closed where it is, have one mean."""
    model = detailed(DataSpec(1, 8, 8, 17), size=0.05)
    pixels = torch.randint(0, 17, (1, 1, 8, 8), generator=seeded(0)).to(torch.uint8).expand(20_000, -1, -1, -1)
    with torch.no_grad():
        bounds, weights = model.log_prob_bound(pixels, seeded(1)), model.log_prob_importance(pixels, 1, seeded(1))
    gaps = weights - bounds
    assert gaps.abs().max() > 0.1
    assert gaps.mean().item() == pytest.approx(0, abs=4 * gaps.std().item() / math.sqrt(20_000))


def test_latents_are_drawn_from_the_prior():
    model = detailed(DataSpec(1, 8, 8, 17))
    with torch.no_grad():
        z = model.noise(20_000, seeded(0))
        expected = model.log_prior(z).mean().item()
        u = torch.randn(z.shape, generator=seeded(1))
        entropy = -0.5 * (1 + LOG_2PI) * 144  # of the details; the top's through its own noise
        top = model.prior.log_prob(model.prior.from_noise(u[:, :2])).mean().item()
    assert expected == pytest.approx(entropy + top, abs=0.3)
    assert z[:, 2:].mean().abs() < 0.01
    assert z[:, 2:].std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    "options", [{"details": [2, 1]}, {"details": [2, 1], "couplings": 2}, {"likelihood": "gaussian"}]
)
def test_conformance_of_each_choice(options):
    sizes = {"latent": 4, "channels": 4, "halvings": 1, "hidden": 8}
    assert [r for r in check_model(VAE, DataSpec(1, 8, 8, 17), {**sizes, **options}) if not r.passed] == []


# --- the model --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("likelihood", "levels"), [("bernoulli", 2), ("logistic", 3), ("gaussian", 3)])
def test_evidence_of_all_images_sums_to_one_and_bounds_stay_below(likelihood, levels):
    data = DataSpec(1, 2, 2, levels)
    model = shaken(
        VAE(data, VAEConfig(latent=1, channels=4, halvings=1, hidden=8, likelihood=likelihood)), seed=0, size=0.2
    )
    pixels = all_images(data)
    z = torch.linspace(-8, 8, 801)
    with torch.no_grad():
        outputs = model.output(z[:, None])
        log_joint = torch.stack([model.likelihood.log_prob(p.expand(801, -1, -1, -1), outputs) for p in pixels])
        log_p = (log_joint.double() - 0.5 * z**2 - 0.5 * LOG_2PI).logsumexp(1) + math.log(0.02)
        copies = pixels.repeat(10, 1, 1, 1)
        bounds = model.log_prob_bound(copies, seeded(0), samples=50).view(10, -1).mean(0)
        tight = model.log_prob_importance(copies, 50, seeded(1)).view(10, -1).mean(0)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)
    evidence, lower, tighter = ((log_p.exp() * v).sum().item() for v in (log_p, bounds, tight))
    assert lower < tighter < evidence + 0.01
    assert tighter == pytest.approx(evidence, abs=0.05)


def test_loss_is_a_sum_over_pixels_and_latents_and_a_mean_over_the_batch():
    data = DataSpec(1, 8, 8, 17)
    model = shaken(VAE(data, TINY), seed=0, size=0.1)
    model.standard_normal = lambda n, gen: torch.zeros(n, 1)  # z is its mean
    pixels = torch.randint(0, 17, (1, 1, 8, 8), generator=seeded(0)).to(torch.uint8)
    one = model.loss(batch_of(pixels, 17), "all", 0, seeded(1))
    copies = model.loss(batch_of(pixels.expand(6, -1, -1, -1), 17), "all", 0, seeded(2))
    assert copies.total.item() == pytest.approx(one.total.item(), rel=1e-6)
    assert one.total.item() == pytest.approx(-model.log_prob_bound(pixels, seeded(3)).item(), rel=1e-6)
    assert one.terms["bits_per_dim"].item() == pytest.approx(one.total.item() / (64 * math.log(2)), rel=1e-6)


def test_no_image_has_latents_of_a_huge_variance():
    model = VAE(DataSpec(1, 8, 8, 17), VAEConfig(latent=3, channels=4, halvings=1, hidden=8, details=(2,)))
    with torch.no_grad():
        model.encoder.last[-1].bias[3:] = torch.tensor([60.0, -60.0, 0.5])
        _, log_var, _ = model.encoder(torch.zeros(1, 1, 8, 8))
    assert log_var[0].tolist() == pytest.approx([5, -5, 5 * math.tanh(0.1)], abs=0.2)


def test_beta_weighs_the_kl_in_the_loss_and_nothing_in_the_bound():
    data = DataSpec(1, 8, 8, 17)
    plain, heavy = VAE(data, TINY), VAE(data, VAEConfig(latent=1, channels=4, halvings=1, hidden=8, beta=4.0))
    heavy.load_state_dict(plain.state_dict())
    pixels = torch.randint(0, 17, (5, 1, 8, 8), generator=seeded(0)).to(torch.uint8)
    losses = [m.loss(batch_of(pixels, 17), "all", 0, seeded(1)) for m in (plain, heavy)]
    assert (losses[1].total - losses[0].total).item() == pytest.approx(3 * losses[0].terms["kl"].item(), rel=1e-3)
    assert torch.equal(plain.log_prob_bound(pixels, seeded(2)), heavy.log_prob_bound(pixels, seeded(2)))


def suite_run(tmp_path, levels, config):
    """The model of a suite's cell, its held-out pixels and its record of bits/dim: 40 images of 4x4, hardly trained."""
    images = torch.randint(0, levels, (40, 4, 4), generator=seeded(0)).to(torch.uint8)
    np.savez(tmp_path / "x.npz", images=images.numpy())
    suite = Suite.model_validate({
        "suite": "s", "dataset": {"name": "npz", "path": str(tmp_path / "x.npz"), "levels": levels},
        "features": "pixels", "budget": {"images": 128}, "models": [{"name": "vae", "config": config}],
        "metrics": ["bits_per_dim"],
    })  # fmt: skip
    plan, store = make_plan(suite), Store()
    cell = plan.cells[0]
    cell.source.fit.run(plan.data, store, "cpu", silent)
    (record,) = evaluate(cell, False, store, "cpu", silent)
    inputs = CellInputs(cell, store, "cpu", silent)
    return inputs.opened.model, inputs.unseen.pixels, record


def bits_of(model, pixels):
    """Bits/dim of the bound with the noise that a cell of seed 0 draws."""
    with torch.no_grad():
        bound = model.log_prob_bound(pixels, seeded(stream_seed(0, "likelihood")))
    return bits_per_dim(bound, model.data.dims).mean().item()


def test_a_record_tells_beta_and_its_bound_is_that_of_beta_1(tmp_path):
    model, pixels, record = suite_run(tmp_path, 17, {"beta": 4.0})
    assert record.protocol["model"]["config"]["beta"] == 4.0
    plain = VAE(model.data, replace(model.config, beta=1.0)).eval()
    plain.load_state_dict(model.state_dict())
    assert (record.status, record.kind) == ("ok", "bound")
    assert record.value == pytest.approx(bits_of(plain, pixels), rel=1e-6)


def test_black_and_white_data_get_bernoulli_probabilities_all_the_way_to_the_record(tmp_path):
    model, pixels, record = suite_run(tmp_path, 2, {})
    assert isinstance(model.likelihood, Bernoulli)
    assert record.protocol["model"]["config"]["likelihood"] == "bernoulli"
    assert (record.protocol["data"]["levels"], record.protocol["data"]["dims"], record.n_real) == (2, 16, 4)
    assert record.value == pytest.approx(bits_of(model, pixels), rel=1e-6)
    assert record.value == pytest.approx(1, abs=0.3)  # fair coins have 1 bit a pixel


@pytest.mark.parametrize(("config", "some"), [(TINY, 2), (DETAILED, 8)], ids=["plain", "detailed"])
def test_bound_of_an_image_does_not_depend_on_those_that_come_after_it(config, some):
    """By eights where there are many latents, as torch draws normal numbers in blocks of 16."""
    model = shaken(VAE(DataSpec(1, 8, 8, 17), config), seed=0, size=0.1)
    pixels = torch.randint(0, 17, (2 * some, 1, 8, 8), generator=seeded(0)).to(torch.uint8)
    alone, together = model.log_prob_bound(pixels[:some], seeded(1)), model.log_prob_bound(pixels, seeded(1))
    assert torch.allclose(alone, together[:some], rtol=1e-5, atol=0)
    assert torch.equal(model.log_prob_bound(pixels), model.log_prob_bound(pixels, seeded(0)))


def test_bias_starts_at_the_mean_picture():
    model = VAE(DataSpec(1, 8, 8, 17))
    pixels = torch.randint(0, 17, (4, 1, 8, 8), generator=seeded(0)).to(torch.uint8)
    model.prepare(batch_of(pixels, 17), seeded(0))
    assert torch.allclose(model.decoder.bias[0, :1], to_unit_range(pixels, 17).mean(0), atol=1e-6)
    assert torch.equal(model.decoder.bias[0, 1:], torch.full((1, 8, 8), FIRST_LOG_SCALE))


def test_sampler_draws_the_mean_or_a_sample_around_it():
    model = shaken(VAE(DataSpec(1, 8, 8, 17), TINY), seed=0, size=0.1)
    mean = model.sample(3, seeded(5))
    assert torch.equal(mean, model.decode(model.noise(3, seeded(5))))
    nn.init.constant_(model.decoder.last.bias[1:], SMALLEST_LOG_SCALE - 100)
    model.sampler = VAESampler(output="sample")
    drawn = model.sample(3, seeded(5))
    assert not torch.equal(drawn, mean)
    assert (drawn - mean).abs().max() < 15 * math.exp(SMALLEST_LOG_SCALE)


@pytest.mark.parametrize(
    "data",
    [DataSpec(1, 8, 8, 17), DataSpec(1, 28, 28), DataSpec(3, 32, 32), DataSpec(2, 7, 9, 4), DataSpec(1, 8, 8, 2)],
    ids=str,
)
def test_presets_fit_any_shape(data):
    model = VAE(data)
    pixels = torch.randint(0, data.levels, (2, *data.shape), generator=seeded(0)).to(torch.uint8)
    model.prepare(batch_of(pixels, data.levels), seeded(0))
    loss = model.loss(batch_of(pixels, data.levels), "all", 0, seeded(1)).total
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert model.sample(2, seeded(2)).shape == (2, *data.shape)
    assert model.decode(model.encode(to_unit_range(pixels, data.levels))).abs().max() <= 1


@pytest.mark.parametrize(("shape", "details"), [((1, 28, 28), (4, 2)), ((3, 28, 28), ()), ((1, 32, 32), ())])
def test_the_small_preset_has_details_for_grey_images_below_32_pixels(shape, details):
    assert VAE.small(DataSpec(*shape))[0].details == details


@pytest.mark.parametrize(("name", "quantile"), [("logistic", -13.8155), ("gaussian", -4.75342)])
def test_the_smallest_random_number_is_the_quantile_of_a_millionth(name, quantile, monkeypatch):
    likelihood, output = LIKELIHOODS[name](DataSpec(1, 2, 2, 256)), torch.zeros(1, 2, 2, 2)
    output[:, 1] = math.log(0.01)
    monkeypatch.setattr(torch, "rand", lambda shape, **_: torch.zeros(shape))
    assert likelihood.draw(output, seeded(0)).flatten().tolist() == pytest.approx([0.01 * quantile] * 4, rel=1e-4)


@pytest.mark.parametrize("name", sorted(LIKELIHOODS))
def test_draws_follow_the_generator_and_are_images(name):
    likelihood = LIKELIHOODS[name](DataSpec(1, 8, 8, 2 if name == "bernoulli" else 256))
    output = 3 * torch.randn(4, likelihood.numbers, 8, 8, generator=seeded(0))
    first, again = (likelihood.draw(output, seeded(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert float(first.amin()) >= -1
    assert float(first.amax()) <= 1
