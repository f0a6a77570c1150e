"""Test problems for likelihoods: pixels of known entropy, a flow that must integrate to 1, a VAE of known evidence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.functional import jacobian
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from genbench.contract import DataSpec
from genbench.metrics.arrays import Array
from genbench.records import BOUND, DENSITY
from genbench.selftest.base import GRID, KnownProblem, Measurement, average, measured, zoo
from genbench.space import seeded, to_unit_range

IMAGES = DataSpec(1, 2, 2, 256)
ORTHOGONAL = ((0.5, 0.3), (0.5, -0.3), (-0.2, 0.4), (-0.2, -0.4))
SKEWED = ((0.5, 0.4), (0.3, 0.6), (-0.2, 0.1), (0.1, 0.2))
IMAGE_PIXELS = (90, 140, 130, 170)


# ---- pixels of known entropy ------------------------------------------------------------------------------------


class TrueFlow(nn.Module):
    """z = Phi^-1(F(y)), F the piecewise linear distribution function of independent pixels with mass `mass` a level."""

    def __init__(self, mass: list[float]) -> None:
        super().__init__()
        self.mass = torch.tensor(mass, dtype=torch.float64)

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, D) and log |det dz/dy| (B,) of y (B, C, H, W) in [0, 1)."""
        levels = len(self.mass)
        level = (y.double() * levels).floor().long()
        z = torch.special.ndtri((self.mass.cumsum(0) - self.mass)[level] + self.mass[level] * (y * levels - level))
        log_slope = (self.mass[level] * levels).log() + 0.5 * z.square() + 0.5 * math.log(2 * math.pi)
        return z.flatten(1), log_slope.flatten(1).sum(1)


def flow_bits(mass: list[float], pixels: list[int]) -> float:
    """Bits/dim of one image (1, 1, len(pixels)) under a RealNVP whose flow is the true one."""
    model = zoo("realnvp", DataSpec(1, 1, len(pixels), len(mass)), scales=1)
    model.flow = TrueFlow(mass)
    image = torch.tensor(pixels, dtype=torch.uint8).view(1, 1, 1, -1)
    return measured("bits_per_dim", log_probs=model.log_prob(image, seeded(0)), dims=len(pixels), kind=DENSITY)


def uniform_pixels() -> Measurement:
    """256 levels of equal probability: log2 256."""
    return Measurement(flow_bits([1 / 256] * 256, list(range(256))), 8.0, 1e-6)


def skewed_pixels() -> Measurement:
    """Masses 1/2, 1/4, 1/8, 1/8 and an image with these frequencies: 1/2 + 2/4 + 3/8 + 3/8 bits."""
    return Measurement(flow_bits([1 / 2, 1 / 4, 1 / 8, 1 / 8], [0, 0, 0, 0, 1, 1, 2, 3]), 1.75, 1e-6)


# ---- a density that is not constant on the cells of the grey levels ---------------------------------------------


class RisingFlow(nn.Module):
    """z = Phi^-1(y^2): independent pixels of density 2 y; the masses of 2 levels are 1/4 and 3/4."""

    def forward(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, D) and log |det dz/dy| (B,) of y (B, C, H, W) in [0, 1)."""
        y = y.double()
        z = torch.special.ndtri(y.square())
        log_slope = (2 * y).log() + 0.5 * z.square() + 0.5 * math.log(2 * math.pi)
        return z.flatten(1), log_slope.flatten(1).sum(1)


RISING_MASS = -(math.log2(1 / 4) + 3 * math.log2(3 / 4)) / 4  # bits/dim of the pixels 0, 1, 1, 1


def rising_log_probs(draws: int) -> Tensor:
    """Log-densities (draws,) in nats of the pixels 0, 1, 1, 1 of a RealNVP with the rising flow."""
    model = zoo("realnvp", DataSpec(1, 1, 4, 2), scales=1)
    model.flow = RisingFlow()
    pixels = torch.tensor([0, 1, 1, 1], dtype=torch.uint8).expand(draws, 1, 1, 4)
    log_probs: Tensor = model.log_prob(pixels, seeded(0))
    return log_probs


def density_above_the_mass() -> Measurement:
    """Bits/dim of the density minus that of the mass: KL(uniform || density in the cell), averaged over the pixels.

    E ln u = -1 for level 0 and E ln (1 + u) = 2 ln 2 - 1 for level 1, minus ln 2 for the cell.
    """
    batches = rising_log_probs(20_000).split(200)
    bits = [measured("bits_per_dim", log_probs=batch, dims=4, kind=DENSITY) for batch in batches]
    density = (1 + math.log(2) + 3 * (1 - math.log(2))) / (4 * math.log(2))
    return average(np.asarray(bits) - RISING_MASS, density - RISING_MASS)


def density_averaged_over_the_cell() -> Measurement:
    """The mean of the densities of many dequantisations of one image is its mass, (1/4) (3/4)^3."""
    return average(rising_log_probs(200_000).exp(), 2.0 ** (-4 * RISING_MASS))


# ---- variational autoencoders ------------------------------------------------------------------------------------

# The paper's VAE.
ONE_LAYER: dict[str, Any] = {"latent": 2, "channels": 1, "halvings": 0, "hidden": 1, "details": [], "couplings": 0}


class Ignorant(nn.Module):
    """An encoder whose q(z|x) is N(0, I) for every image."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Mean and log-variance (B, 2), and no features."""
        return torch.zeros(len(x), 2), torch.zeros(len(x), 2), []


class Constant(nn.Module):
    """A decoder with one output for all latents."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, z: Tensor, details: object) -> Tensor:
        """(B, C, H, W) copies of the output."""
        return self.output.expand(len(z), *self.output.shape)


def bernoulli_pixels() -> Measurement:
    """White with probability 0.3, an image with 3 of 10 white, q(z|x) = p(z): -0.3 log2 0.3 - 0.7 log2 0.7."""
    model = zoo("vae", DataSpec(1, 2, 5, 2), **ONE_LAYER)
    model.encoder, model.decoder = Ignorant(), Constant(torch.full((1, 2, 5), math.log(0.3 / 0.7)))
    pixels = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0, 0, 0], dtype=torch.uint8).view(1, 1, 2, 5)
    bits = measured("bits_per_dim", log_probs=model.log_prob_bound(pixels, seeded(0)), dims=10, kind=BOUND)
    return Measurement(bits, -0.3 * math.log2(0.3) - 0.7 * math.log2(0.7), 1e-6)


# ---- a flow ------------------------------------------------------------------------------------------------------


def shaken_flow(height: int, width: int, **config: Any) -> nn.Module:
    """The flow of a RealNVP in float64, with weights far from their initial values."""
    flow: nn.Module = zoo("realnvp", DataSpec(1, height, width, 3), channels=6, blocks=1, **config).flow.double()
    gen = seeded(0)
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=gen, dtype=torch.float64))
    return flow


@torch.no_grad()
def flow_integral() -> Measurement:
    """The density of two pixels summed over 201 x 201 cells of the flow's whole domain, the logit's margin included."""
    margin, count = 0.05 / 0.9, 201
    side = (1 + 2 * margin) / count
    centres = -margin + (torch.arange(count, dtype=torch.float64) + 0.5) * side
    z, log_det = shaken_flow(1, 2, scales=1)(torch.cartesian_prod(centres, centres).view(-1, 1, 1, 2))
    log_density = log_det - 0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
    return Measurement(float(log_density.exp().sum()) * side**2, 1.0, 1e-3, GRID)


def flow_jacobian() -> Measurement:
    """Log-determinant of a flow of two scales at one image of 4x4 against that of its Jacobian by autograd, in nats."""
    flow = shaken_flow(4, 4, scales=2)
    y = torch.rand(16, generator=seeded(1), dtype=torch.float64)
    derivatives = jacobian(lambda v: flow(v.view(1, 1, 4, 4))[0].flatten(), y)
    log_det = flow(y.view(1, 1, 4, 4))[1]
    return Measurement(float(log_det.detach()), float(torch.linalg.slogdet(derivatives).logabsdet), 1e-8)


# ---- the linear-Gaussian VAE: z ~ N(0, I), x | z ~ N(W z + mu, s^2 I) --------------------------------------------


class Density(nn.Module):
    """N(output, std^2 I) as a density of to_unit_range(pixels)."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def log_prob(self, pixels: Tensor, output: Tensor) -> Tensor:
        """(B,), nats."""
        return Normal(output, self.std).log_prob(to_unit_range(pixels, IMAGES.levels).double()).flatten(1).sum(1)


class LinearDecoder(nn.Module):
    """W z + mu as images."""

    def __init__(self, weight: Tensor, mu: Tensor) -> None:
        super().__init__()
        self.weight, self.mu = weight, mu

    def forward(self, z: Tensor, details: object) -> Tensor:
        """(B, C, H, W) of z (B, J)."""
        return (z.double() @ self.weight.T + self.mu).view(-1, *IMAGES.shape)


class GaussianEncoder(nn.Module):
    """N(gain (x - mu), diag(variances))."""

    def __init__(self, gain: Tensor, mu: Tensor, variances: Tensor) -> None:
        super().__init__()
        self.gain, self.mu, self.log_var = gain, mu, variances.log()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Mean and log-variance (B, J) of images x, and no features."""
        mean = (x.double().flatten(1) - self.mu) @ self.gain.T
        return mean, self.log_var.expand_as(mean), []


class LinearVAE:
    """A VAE with exact linear parts, float64: posterior N(gain (x - mu), cov), evidence N(mu, W W' + s^2 I)."""

    def __init__(self, weight: tuple[tuple[float, ...], ...], std: float) -> None:
        self.weight, self.std = torch.tensor(weight, dtype=torch.float64), std
        self.mu = torch.tensor([0.1, -0.2, 0.0, 0.3], dtype=torch.float64)
        self.cov = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + self.weight.T @ self.weight / std**2)
        self.gain = self.cov @ self.weight.T / std**2
        self.model = zoo("vae", IMAGES, **ONE_LAYER).double()
        self.model.decoder, self.model.likelihood = LinearDecoder(self.weight, self.mu), Density(std)
        self.pixels = torch.tensor(IMAGE_PIXELS, dtype=torch.uint8).view(1, *IMAGES.shape)

    def encode_with(self, variances: Tensor, gain: Tensor | None = None) -> None:
        """Sets q(z|x); gain None: the posterior's."""
        self.model.encoder = GaussianEncoder(self.gain if gain is None else gain, self.mu, variances)

    def evidence(self, noise_variance: float | None = None) -> float:
        """Log p(x) of the image, nats; noise_variance: another s^2."""
        noise = self.std**2 if noise_variance is None else noise_variance
        cov = self.weight @ self.weight.T + noise * torch.eye(4, dtype=torch.float64)
        x = to_unit_range(self.pixels, IMAGES.levels).double().flatten()
        return float(MultivariateNormal(self.mu, cov).log_prob(x))

    def elbos(self, n: int) -> Array:
        """N independent draws of the lower bound, nats."""
        with torch.no_grad():
            return np.asarray(self.model.log_prob_bound(self.pixels.expand(n, -1, -1, -1), seeded(0)))

    def importance(self, n: int, k: int) -> Array:
        """N independent draws of the importance-weighted bound of k samples, nats."""
        return np.asarray(self.model.log_prob_importance(self.pixels.expand(n, -1, -1, -1), k, seeded(0)))


def elbo_at_the_posterior() -> Measurement:
    """Orthogonal W: the posterior factorises, and the bound at the posterior is the evidence."""
    vae = LinearVAE(ORTHOGONAL, 0.2)
    vae.encode_with(vae.cov.diagonal())
    return average(vae.elbos(200_000), vae.evidence())


def mean_field_gap() -> Measurement:
    """W that is not orthogonal, best mean-field q: the evidence minus the bound is KL(q || posterior)."""
    vae = LinearVAE(SKEWED, 0.2)
    variances = 1 / torch.linalg.inv(vae.cov).diagonal()
    vae.encode_with(variances)
    zero = torch.zeros(2, dtype=torch.float64)
    q, posterior = MultivariateNormal(zero, torch.diag(variances)), MultivariateNormal(zero, vae.cov)
    return average(vae.evidence() - vae.elbos(200_000), float(kl_divergence(q, posterior)))


def importance_at_the_posterior() -> Measurement:
    """All importance weights are p(x): the bound is the evidence for every k and every draw."""
    vae = LinearVAE(ORTHOGONAL, 0.2)
    vae.encode_with(vae.cov.diagonal())
    return Measurement(float(vae.importance(1, k=7)[0]), vae.evidence(), 1e-9)


def importance_from_the_prior() -> Measurement:
    """From the prior, k = 200 draws: log p(x) - Var(w) / (2 k p(x)^2) to first order, w = p(x|z).

    w^2 = (4 pi s^2)^(-D/2) N(x; W z + mu, s^2 / 2), so E w^2 is the evidence at half the noise, rescaled. The size of
    the term of the next order is added to the tolerance.
    """
    vae, k = LinearVAE(SKEWED, 0.5), 200
    vae.encode_with(torch.ones(2, dtype=torch.float64), gain=torch.zeros(2, 4, dtype=torch.float64))
    log_square = vae.evidence(vae.std**2 / 2) - 2 * math.log(4 * math.pi * vae.std**2)
    spread = math.exp(log_square - 2 * vae.evidence()) - 1
    return average(vae.importance(4_000, k), vae.evidence() - spread / (2 * k), bias=(spread / k) ** 2)


LIKELIHOOD_PROBLEMS = (
    KnownProblem("bits/dim of uniform pixels, 256 levels", "Theis et al. 2016, 3.1: log2 256", uniform_pixels),
    KnownProblem("bits/dim of pixels 1/2, 1/4, 1/8, 1/8", "Shannon 1948: entropy", skewed_pixels),
    KnownProblem(
        "bits/dim of density 2y above its mass's", "Theis et al. 2016, 3.1: KL(u || p)", density_above_the_mass
    ),
    KnownProblem(
        "density 2y averaged over a cell: mass", "Theis et al. 2016, 3.1: (1/4) (3/4)^3", density_averaged_over_the_cell
    ),
    KnownProblem("bits/dim of pixels white with 0.3, VAE", "Shannon 1948: entropy", bernoulli_pixels),
    KnownProblem("RealNVP's density summed over a grid", "Dinh et al. 2017, eq. 2: 1", flow_integral),
    KnownProblem("RealNVP's log-determinant (nats)", "Dinh et al. 2017, eq. 2; autograd", flow_jacobian),
    KnownProblem(
        "VAE, linear: ELBO at the posterior (nats)",
        "Kingma and Welling 2014, eq. 1; exact evidence",
        elbo_at_the_posterior,
    ),
    KnownProblem("VAE, linear: gap of mean field (nats)", "Kingma and Welling 2014, eq. 1", mean_field_gap),
    KnownProblem(
        "IWAE, k = 7, at the posterior (nats)", "Burda et al. 2016; equal weights", importance_at_the_posterior
    ),
    KnownProblem(
        "IWAE, k = 200, from the prior (nats)", "Nowozin 2018, prop. 1; delta method", importance_from_the_prior
    ),
)
