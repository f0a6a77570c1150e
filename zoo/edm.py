"""EDM (Karras, Aittala, Aila and Laine, NeurIPS 2022, arXiv:2206.00364).

Implemented, written from the paper: noise of standard deviation sigma is added to images y, and a network F, preceded
and followed by factors that depend on sigma, estimates the image (eq. 7):

    D(x; sigma) = c_skip(sigma) x + c_out(sigma) F(c_in(sigma) x; c_noise(sigma))

with the factors of table 1, for which input and target of F have unit variance. Training minimises the error of D
weighted by lambda(sigma) = 1 / c_out(sigma)^2, which is the plain error of F (eq. 8); ln sigma ~ N(P_mean, P_std^2).
Sampling follows dx / dsigma = (x - D(x; sigma)) / sigma (eq. 3 with sigma(t) = t) along decreasing levels (eq. 5) by
Heun's method (Algorithm 1), optionally with new noise before each step (Algorithm 2). The log density follows from the
same equation (zoo.probability_flow).

Deviations
- From 32x32 the U-Net has the sizes of the paper's for CIFAR-10 (128 channels, multipliers 2, 2, 2, four blocks at
  each resolution, attention at 16x16; 55.7 M there), from 64x64 of that for FFHQ (1, 2, 2, 2), but the blocks of Ho et
  al. (zoo.nets). Theirs are those of DDPM++ (Song et al. 2021): skips divided by sqrt(2), resampling within residual
  blocks, the noise level also as a scale. From 256 pixels, which the paper does not have, the sizes are Ho et al.'s.
- Augmentation is mirroring; the paper's augmentation with labels ("non-leaky") is not implemented.
- The warm-up is linear as theirs, over 10 M images; the average's half-life of 0.5 M images is the decay 0.99929
  for batches of 512 and 0.999645 for batches of 256.
- solver "euler" (one evaluation a step) is not the paper's choice; with it the number of evaluations can be even.
- Below 32x32 the network and recipe are DDPM's small ones. Samples are clamped to [-1, 1] at the end.
- The estimated likelihood starts at sigma = 0.01, an image with a little noise, as for the other models.

Symbols
    paper               here                            shape
    y, n                x_0, sigma times noise          (B, C, H, W)
    x                   x                               (B, C, H, W)
    sigma, sigma_data   sigma, sigma_data               (B,) or number
    F                   network                         (B, C, H, W), (B,) -> (B, C, H, W)
    D                   denoiser(x, sigma).x_0          (B, C, H, W)
    gamma, t_hat        gamma, raised                   number
    S_churn, S_tmin, S_tmax, S_noise    churn, churn_from, churn_to, churn_noise
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt
from torch import Generator, Tensor, nn

from genbench.contract import Batch, Condition, Count, DataSpec, LikelihoodEstimate, Loss, Model, Recipe, Steps, Weight
from genbench.contract import DiffusersPart as Part
from genbench.contract import DiffusersParts as Parts
from genbench.space import seeded
from zoo.denoising import Denoiser, Level, Number, gaussian_noise, q_sample, run
from zoo.nets import UNetSizes, small_recipe, small_sizes, usual_sizes
from zoo.portable import unet_part
from zoo.probability_flow import Node, flow_estimate
from zoo.solvers import euler, heun

Positive = Annotated[float, Gt(0)]
LEAST_SIGMA = 0.01  # where the likelihood's integration starts


@dataclass(frozen=True)
class EDMConfig(UNetSizes):
    """Constants (table 1), and the sizes of the U-Net (zoo.nets.UNetSizes).

    sigma_data: standard deviation of the images. log_mean, log_std: P_mean and P_std, of ln sigma in training.
    """

    sigma_data: Positive = 0.5
    log_mean: float = -1.2
    log_std: Positive = 1.2


@dataclass(frozen=True)
class EDMSampler:
    """Options of sampling; the defaults are the paper's for CIFAR-10 (table 1, 35 evaluations).

    steps: N. solver: "heun" (Algorithms 1 and 2; 2 N - 1 evaluations) or "euler" (N). sigma_min, sigma_max, rho: of
    the levels of eq. 5. churn: S_churn, how much noise the steps add together; 0 is deterministic. churn_from,
    churn_to: the levels at which noise is added. churn_noise: its standard deviation (S_noise).
    """

    steps: Count = 18
    solver: Literal["heun", "euler"] = "heun"
    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0
    rho: Annotated[float, Ge(1)] = 7.0
    churn: Weight = 0.0
    churn_from: Weight = 0.0
    churn_to: Positive = 1000.0
    churn_noise: Positive = 1.0

    def __post_init__(self) -> None:
        if self.sigma_max <= self.sigma_min:
            raise ValueError(f"sigma_max: found {self.sigma_max}, allowed: above sigma_min, {self.sigma_min}")
        if self.churn_to < self.churn_from:
            raise ValueError(f"churn_to: found {self.churn_to}, allowed: at least churn_from, {self.churn_from}")


# ---- preconditioning --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preconditioned:
    """The network predicts F of eq. 7; the signal is 1 and the spread sigma. Factors are those of table 1."""

    sigma_data: float

    def target(self, x_0: Tensor, noise: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
        """The exact F, (y - c_skip (y + n)) / c_out (eq. 8)."""
        of_x, of_prediction = self.x_0(signal, spread)
        return (x_0 - of_x * (x_0 + spread * noise)) / of_prediction

    def x_0(self, signal: Number, spread: Number) -> tuple[Number, Number]:
        """c_skip and c_out."""
        variance = spread**2 + self.sigma_data**2
        return self.sigma_data**2 / variance, spread * self.sigma_data / variance**0.5

    def noise(self, signal: Number, spread: Number) -> tuple[Number, Number]:
        """(1 - c_skip) / sigma and -c_out / sigma, without a division by sigma."""
        variance = spread**2 + self.sigma_data**2
        return spread / variance, -self.sigma_data / variance**0.5

    def input_scale(self, spread: Number) -> Number:
        """c_in."""
        return (spread**2 + self.sigma_data**2) ** -0.5


@dataclass(frozen=True)
class NoiseLevels:
    """The process x = y + sigma n; its time is sigma, and the network receives c_noise = ln(sigma) / 4 and c_in x."""

    kind: Preconditioned

    def level(self, t: float) -> Level:
        """The level with sigma = t."""
        return Level(math.log(t) / 4, 1.0, t, self.kind.input_scale(t))


# ---- sampling ---------------------------------------------------------------------------------------------------


def sigma_at(position: float, least: float, largest: float, rho: float) -> float:
    """The noise level at a position between 0, the largest, and 1, the least (eq. 5)."""
    start, end = largest ** (1 / rho), least ** (1 / rho)
    return (start + position * (end - start)) ** rho


def sigmas(sampler: EDMSampler) -> list[float]:
    """The N levels of eq. 5, decreasing, and 0; with N = 1 only the largest."""
    last = max(sampler.steps - 1, 1)
    least, largest, rho = sampler.sigma_min, sampler.sigma_max, sampler.rho
    return [*(sigma_at(i / last, least, largest, rho) for i in range(sampler.steps)), 0.0]


def churned(x: Tensor, sigma: float, sampler: EDMSampler, gen: Generator) -> tuple[Tensor, float]:
    """Algorithm 2, lines 4 to 6: x (B, ...) with more noise, and its level."""
    within = sampler.churn_from <= sigma <= sampler.churn_to
    gamma = min(sampler.churn / sampler.steps, math.sqrt(2) - 1) if within else 0.0
    if gamma == 0:
        return x, sigma
    raised = sigma * (1 + gamma)
    added = math.sqrt(raised**2 - sigma**2) * sampler.churn_noise
    return x.add(gaussian_noise(x.shape, gen), alpha=added), raised


def edm_step(
    denoiser: Denoiser[NoiseLevels], x: Tensor, sigma: float, to: float, sampler: EDMSampler, gen: Generator
) -> Tensor:
    """One step from a level to a lower one (Algorithm 2, lines 4 to 11); to 0 by Euler's method."""
    x, sigma = churned(x, sigma, sampler, gen)
    solver = heun if sampler.solver == "heun" and to > 0 else euler
    return solver(lambda x, sigma: denoiser(x, sigma).noise, x, sigma, to)


def edm_nodes(process: NoiseLevels, steps: int, largest: float, rho: float = 7.0) -> list[Node]:
    """Nodes of the flow from LEAST_SIGMA to the largest level, with the sampler's spacing: 2 steps + 1."""
    nodes, start, end = [], LEAST_SIGMA ** (1 / rho), largest ** (1 / rho)
    for i in range(2 * steps + 1):
        root = start + i / (2 * steps) * (end - start)
        nodes.append(Node(i / (2 * steps), process.level(root**rho), 0.0, rho * root ** (rho - 1) * (end - start)))
    return nodes


# ---- model ------------------------------------------------------------------------------------------------------


def paper_sizes(data: DataSpec) -> dict[str, Any]:
    """Sizes of the U-Net from 32x32: the paper's for CIFAR-10, from 64 for FFHQ (table 7), from 256 Ho et al.'s."""
    sizes, side = usual_sizes(data), min(data.height, data.width)
    if side >= 256:
        return sizes
    if side >= 64:
        return sizes | {"blocks": 4, "dropout": 0.05}
    return sizes | {"multipliers": (2, 2, 2)[: len(sizes["multipliers"])], "blocks": 4, "dropout": 0.13}


class EDM(Model, Steps, LikelihoodEstimate):
    """A denoiser with preconditioning, and its flow."""

    family = "diffusion"
    Config = EDMConfig
    Sampler = EDMSampler

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        super().__init__(data, config, sampler)
        self.kind = Preconditioned(self.config.sigma_data)
        self.network = self.config.network(data, time_scale=1.0)

    @classmethod
    def preset(cls, data: DataSpec) -> Any:
        """The paper's sizes from 32x32, the small ones below."""
        small = min(data.height, data.width) < 32
        return EDM.small(data)[0] if small else EDMConfig(**paper_sizes(data))

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """The paper's (table 7), 200 M images: from 32x32 for CIFAR-10, from 64 for FFHQ; below, the small one."""
        side = min(data.height, data.width)
        if side >= 64:
            return Recipe(lr=2e-4, batch=256, warmup=39_063, ema=0.999645, flip=True, images=200_000_000)
        if side >= 32:
            return Recipe(lr=1e-3, batch=512, warmup=19_531, ema=0.99929, flip=True, images=200_000_000)
        return EDM.small(data)[1]

    @classmethod
    def small(cls, data: DataSpec) -> tuple[Any, Recipe]:
        """The sizes and the training that zoo.nets has for a CPU."""
        return EDMConfig(**small_sizes(data)), small_recipe(data)

    @property
    def denoiser(self) -> nn.Module:
        """The network F."""
        return self.network

    @property
    def denoising(self) -> Denoiser[NoiseLevels]:
        """F with its process and its prediction."""
        return Denoiser(self.network, NoiseLevels(self.kind), self.kind)

    def for_diffusers(self) -> Parts:
        """As the pipeline of zoo.ode_pipelines.

        Diffusers' own pipelines have no Heun steps with these levels, and its EDMEulerScheduler starts with noise of
        standard deviation (sigma_max^2 + 1)^(1/2) instead of sigma_max.
        """
        s, options = self.sampler, ("solver", "churn", "churn_from", "churn_to", "churn_noise")
        levels = {"sigma_min": s.sigma_min, "sigma_max": s.sigma_max, "rho": s.rho, "sigma_data": self.kind.sigma_data}
        parts = {"unet": unet_part(self.network, self.data.shape),
                 "scheduler": Part("diffusers:EDMEulerScheduler", levels)}  # fmt: skip
        call = {"num_inference_steps": s.steps, **{name: getattr(s, name) for name in options}}
        return Parts("zoo.ode_pipelines:EDMPipeline", parts, call)

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The mean squared error of F (eq. 8), which is that of D weighted by lambda."""
        log_sigma = self.config.log_mean + self.config.log_std * gaussian_noise((len(batch.x),), gen)
        noise, spread = gaussian_noise(batch.x.shape, gen), log_sigma.exp().view(-1, 1, 1, 1)
        signal = torch.ones_like(spread)
        x = self.kind.input_scale(spread) * q_sample(batch.x, noise, signal, spread)
        prediction = self.network(x, log_sigma / 4, gen if self.training else None)
        error = (prediction - self.kind.target(batch.x, noise, signal, spread)).square().mean()
        return Loss(error, {"mse": error})

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Draws n images (n, C, H, W) in [-1, 1]."""
        denoising, levels = self.denoising, sigmas(self.sampler)
        x = levels[0] * gaussian_noise((n, *self.data.shape), gen)
        return run(lambda x, pair: edm_step(denoising, x, *pair, self.sampler, gen), x, pairwise(levels)).clamp(-1, 1)

    @property
    def evaluations(self) -> int:
        """2 N - 1, as the last step is Euler's; N with solver "euler"."""
        return 2 * self.sampler.steps - 1 if self.sampler.solver == "heun" else self.sampler.steps

    def log_prob_estimate(self, pixels: Tensor, gen: Generator | None = None, steps: int = 16) -> Tensor:
        """Log P by integrating the flow from image to noise; 4 steps evaluations of the network and its gradient.

        (B,) nats, float64. The errors of integration and of the one random trace per image have either sign.
        """
        gen, largest = seeded(0, self.device) if gen is None else gen, EDMSampler.sigma_max
        denoising, x = self.denoising, pixels.to(self.device)
        nodes = edm_nodes(denoising.process, steps, largest)
        return flow_estimate(denoising, x, self.data.levels, nodes, gen, prior=largest)
