"""Denoising diffusion probabilistic models (Ho, Jain and Abbeel, NeurIPS 2020, arXiv:2006.11239).

Implemented: the forward process with fixed variances, a network that predicts the noise, training on L_simple (eq. 14,
Algorithm 1), ancestral sampling (Algorithm 2) with either fixed variance of section 3.2, the whole variational bound
of the discrete pixels (eq. 5) with the discretised Gaussian decoder (eq. 13). To choose: a network that predicts x_0
(section 3.2) or v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans and Ho 2022, arXiv:2202.00512, appendix
D), trained on its own squared error or on L_simple of the eps that it implies; and, from N (Nichol and Dhariwal 2021,
arXiv:2102.09672), the cosine schedule (eq. 17) and variances that the network learns (eq. 15) by L_hybrid (eq. 16).

Deviations
- Below 32x32 the presets have T = 100 and a small U-Net, so that a CPU trains and draws within minutes: N's cosine
  schedule and learned variances, as with few steps neither of the paper's fits; v, as a slightly wrong eps implies an
  x_0 that is far off where that schedule leaves next to no signal; times of 1000 / T, as the sinusoids are made for a
  thousand; no dropout, small batches, a learning rate that falls to 0, a shorter average.
- The decoder's half-bin is 1 / (levels - 1), which is the paper's 1/255 at 256 grey levels. The bound evaluates all T
  terms for every image; the paper draws t at random. Samples are clamped to [-1, 1].
- Of v in eq. 15 of N the network says 2 v - 1, not held within [-1, 1], and L_vlb is in bits/dim: so N's code.

Symbols
    paper           here                            shape
    T               config.steps
    t               t, counted from 0               (B,) or int: t here is t - 1 there
    x_0, x_t        x_0, x_t                        (B, C, H, W)
    beta_t          schedule.beta[t]                (T,)
    alpha_bar_t     schedule.alpha_bar[t]           (T,), its root is signal, the root of its rest spread
    beta_tilde_t    schedule.posterior_variance[t]  (T,)
    sigma_t^2       exp(log_variance[t])            (T,), or (B, C, H, W) where the network learns it
    eps_theta       network, said: its prediction   (B, C, H, W), (B,) -> (B, C, H, W)
    v of N          place = 2 v - 1                 (B, C, H, W), C more channels of the network
    mu_tilde_t      posterior_mean                  two (T,): factors of x_0 and of x_t
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor, nn

from genbench.contract import (
    Batch,
    Condition,
    DataSpec,
    LikelihoodBound,
    LikelihoodEstimate,
    Loss,
    Model,
    Recipe,
    Steps,
)
from genbench.errors import ModelError
from genbench.space import seeded, to_unit_range
from zoo.nets import UNet, halvings
from zoo.probability_flow import flow_estimate

Denoiser = Callable[[Tensor, Tensor], Tensor]
SCHEDULES = ("linear", "cosine")
PREDICTIONS = ("eps", "x0", "v")
VARIANCES = ("large", "small", "learned")
PAIRS_PER_CALL = 256  # (image, t) pairs of the bound in one network call
EMBEDDED_STEPS = 1000  # the sinusoids always see times of 0 .. 1000


def require(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ModelError unless the value is one of those allowed."""
    if value not in allowed:
        raise ModelError(f"ddpm: {key} is {value!r}; allowed: {', '.join(allowed)}")


@dataclass(frozen=True)
class Config:
    """Sizes and constants; the paper's CIFAR-10 values are the defaults.

    steps: T, 1000. schedule: "linear" (the paper's) or "cosine". beta_first, beta_last: ends of the linear schedule,
    1e-4 and 0.02. prediction: what the network says, "eps" (the paper's), "x0" or "v". error: whose square the loss is,
    "own", that of the prediction, or "eps", that of the noise it implies. variance: of the reverse steps, "fixed" (the
    paper's) or "learned". bound_weight: lambda of L_hybrid where it is learned, 0.001.
    channels: width of the U-Net at full resolution, 128. multipliers: of the width at each resolution, (1, 2, 2, 2).
    blocks: residual blocks per resolution, 2. attention: heights that have self-attention, (16,). dropout: 0.1. groups:
    most groups of a normalisation, 32. padding: of a halving, as in zoo.nets.UNet, "after".
    """

    steps: int = 1000
    schedule: str = "linear"
    beta_first: float = 1e-4
    beta_last: float = 0.02
    prediction: str = "eps"
    error: str = "own"
    variance: str = "fixed"
    bound_weight: float = 1e-3
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (16,)
    dropout: float = 0.1
    groups: int = 32
    padding: str = "after"

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ModelError(f"ddpm: config.steps is {self.steps}; allowed: at least 2")
        require("config.schedule", self.schedule, SCHEDULES)
        require("config.prediction", self.prediction, PREDICTIONS)
        require("config.error", self.error, ("own", "eps"))
        require("config.variance", self.variance, ("fixed", "learned"))
        require("config.padding", self.padding, ("after", "around"))


@dataclass(frozen=True)
class AncestralSampler:
    """How DDPM draws.

    variance: sigma_t^2 of the reverse steps, "large" (beta_t, optimal for x_0 ~ N(0, I); the paper's CIFAR-10), "small"
    (beta_tilde_t, optimal for a single x_0) or "learned"; None is "learned" if config.variance is, otherwise "large".
    clip: keep the predicted x_0 within [-1, 1], as the paper does. Both decide the bound too, which is this chain's.
    """

    variance: str | None = None
    clip: bool = True

    def __post_init__(self) -> None:
        if self.variance is not None:
            require("sampler.variance", self.variance, VARIANCES)


# For a CPU, where a group normalisation takes the longer the more groups it has.
SMALL = Config(
    100, "cosine", prediction="v", error="eps", variance="learned", channels=24, multipliers=(1, 2), blocks=1,
    attention=(), dropout=0.0, groups=3, padding="around",
)  # fmt: skip


def linear_betas(steps: int, first: float, last: float) -> Tensor:
    """Variances of the forward steps, evenly spaced (section 4): (T,) float64."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def cosine_betas(steps: int, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """Variances whose alpha_bar is a squared cosine (N, eq. 17): (T,) float64."""
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = ((time + offset) / (1 + offset) * math.pi / 2).cos().square()
    return (1 - f[1:] / f[:-1]).clamp_max(largest)


@dataclass(frozen=True)
class Schedule:
    """The forward process: beta (T,) float64, and what follows from it; everything (T,) float64."""

    beta: Tensor

    @cached_property
    def alpha_bar(self) -> Tensor:
        """Share of the image's variance left after step t."""
        return (1 - self.beta).cumprod(0)

    @cached_property
    def alpha_bar_before(self) -> Tensor:
        """alpha_bar one step earlier; 1 before the first."""
        return torch.cat([torch.ones(1, dtype=torch.float64), self.alpha_bar[:-1]])

    @cached_property
    def signal(self) -> Tensor:
        """sqrt(alpha_bar): factor of x_0 in x_t (eq. 4)."""
        return self.alpha_bar.sqrt()

    @cached_property
    def spread(self) -> Tensor:
        """sqrt(1 - alpha_bar): factor of the noise in x_t. In float32 the difference would lose half its digits."""
        return (1 - self.alpha_bar).sqrt()

    @cached_property
    def posterior_variance(self) -> Tensor:
        """beta_tilde of q(x_{t-1} | x_t, x_0) (eq. 7); 0 at t = 0."""
        return self.beta * (1 - self.alpha_bar_before) / (1 - self.alpha_bar)

    @cached_property
    def posterior_mean(self) -> tuple[Tensor, Tensor]:
        """Coefficients of x_0 and x_t in the mean of q(x_{t-1} | x_t, x_0) (eq. 7); 1 and 0 at t = 0."""
        of_x_0 = self.alpha_bar_before.sqrt() * self.beta / (1 - self.alpha_bar)
        of_x_t = (1 - self.beta).sqrt() * (1 - self.alpha_bar_before) / (1 - self.alpha_bar)
        return of_x_0, of_x_t

    def log_variance(self, kind: str | None) -> Tensor:
        """The log of sigma_t^2 (section 3.2). beta_tilde_0 is 0, so both kinds have log beta_tilde_1 at t = 0."""
        variance = self.posterior_variance if kind == "small" else self.beta
        return torch.cat([self.posterior_variance[1:2], variance[1:]]).log()

    @cached_property
    def learned_range(self) -> tuple[Tensor, Tensor]:
        """Middle and half, v log beta_t + (1 - v) log beta_tilde_t = middle + (2 v - 1) half (N, eq. 15)."""
        small, large = self.log_variance("small"), self.beta.log()
        return (large + small) / 2, (large - small) / 2


def make_schedule(c: Config) -> Schedule:
    """The forward process that a config names."""
    cosine = c.schedule == "cosine"
    return Schedule(cosine_betas(c.steps) if cosine else linear_betas(c.steps, c.beta_first, c.beta_last))


def q_sample(x_0: Tensor, noise: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
    """x_t ~ q(x_t | x_0) (eq. 4) of noise like x_0; signal and spread of time t broadcast, e.g. (B, 1, 1, 1)."""
    return signal * x_0 + spread * noise


def of_kind(kind: str, x_0: Tensor, noise: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
    """What a network that predicts "eps", "x0" or "v" should say of x_t = signal x_0 + spread noise; all broadcast."""
    if kind == "v":
        return signal * noise - spread * x_0
    return x_0 if kind == "x0" else noise


def x_0_factors(kind: str, signal: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of x_t and of the prediction in the x_0 that they imply (eq. 4 solved for x_0)."""
    if kind == "v":
        return signal, -spread
    return (torch.zeros_like(signal), torch.ones_like(signal)) if kind == "x0" else (1 / signal, -spread / signal)


def gaussian_noise(shape: torch.Size | tuple[int, ...], gen: Generator) -> Tensor:
    """Standard normal numbers of the shape, on the generator's device."""
    return torch.randn(shape, generator=gen, device=gen.device)


@torch.no_grad()
def ancestral(
    said: Denoiser, schedule: Schedule, x: Tensor, sampler: AncestralSampler, gen: Generator, kind: str = "eps"
) -> Tensor:
    """Runs the reverse chain from x ~ N(0, I) (Algorithm 2): (B, ...) to (B, ...); no noise in the last step.

    The mean is that of q(x_{t-1} | x_t, x_0) at the predicted x_0, which equals eq. 11 unless x_0 was clipped.
    """
    of_x_0, of_x_t = (c.tolist() for c in schedule.posterior_mean)
    from_x, from_said = (c.tolist() for c in x_0_factors(kind, schedule.signal, schedule.spread))
    sigma = schedule.log_variance(sampler.variance).mul(0.5).exp().tolist()
    middle, half = (c.tolist() for c in schedule.learned_range)
    learned, place = sampler.variance == "learned", x
    times = torch.arange(len(sigma), device=x.device)[:, None].expand(-1, len(x))
    for t in reversed(range(len(sigma))):
        prediction = said(x, times[t])
        if learned:
            prediction, place = prediction.chunk(2, dim=1)
        x_0 = x * from_x[t] + prediction * from_said[t]
        if sampler.clip:
            x_0 = x_0.clamp_(-1, 1)
        x = x_0.mul_(of_x_0[t]).add_(x, alpha=of_x_t[t])
        if t > 0 and learned:
            x = x.addcmul_(gaussian_noise(x.shape, gen), (place.to(x) * half[t] + middle[t]).mul_(0.5).exp_())
        elif t > 0:
            x = x.add_(gaussian_noise(x.shape, gen), alpha=sigma[t])
    return x


def discretised_gaussian(x: Tensor, mean: Tensor, std: float | Tensor, levels: int) -> Tensor:
    """Log P of grey levels x in [-1, 1] under N(mean, std^2) integrated over each level's bin (eq. 13), in nats.

    x, mean, std, result: (...), the result in the precision of the mean. Neighbouring bins share their edge, the lowest
    reaches to -inf and the highest to inf, so P sums to 1 over the levels. Bins above the mean are mirrored below it,
    where differences of the distribution function keep their digits.
    """
    level = ((x.to(mean) + 1) * ((levels - 1) / 2)).round()
    low = (((2 * level - 1) / (levels - 1) - 1 - mean) / std).masked_fill(level == 0, -math.inf)
    high = (((2 * level + 1) / (levels - 1) - 1 - mean) / std).masked_fill(level == levels - 1, math.inf)
    low, high = torch.where(x > mean, -high, low), torch.where(x > mean, -low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return log_high + (-(log_low - log_high).exp()).log1p()


def prior_kl(x_0: Tensor, alpha_bar_T: Tensor) -> Tensor:
    """L_T of eq. 5, KL(q(x_T | x_0) || N(0, I)), for every pixel in nats: (...)."""
    return 0.5 * (alpha_bar_T * x_0.square() - alpha_bar_T - (-alpha_bar_T).log1p())


def gaussian_kl(log_q: Tensor, log_p: Tensor, distance: Tensor) -> Tensor:
    """KL(N(m, e^log_q) || N(m', e^log_p)) in nats with distance = (m - m')^2; everything broadcasts."""
    return 0.5 * (torch.expm1(log_q - log_p) - (log_q - log_p) + distance * (-log_p).exp())


def asked(
    said: Denoiser, schedule: Schedule, x_0: Tensor, t: Tensor, sampler: AncestralSampler, gen: Generator, kind: str
) -> tuple[Tensor, Tensor]:
    """The x_0 predicted from one draw of x_t for K times t (K,) and images x_0 (B, C, H, W), and the log sigma_t^2.

    (K, B, C, H, W), and that or (K, 1, 1, 1, 1): float64 on the CPU. The network sees float32 on its device.
    """

    def column(values: Tensor) -> Tensor:
        return values[t].view(-1, 1, 1, 1, 1)

    noise = gaussian_noise((len(t), *x_0.shape), gen)
    x_t = q_sample(x_0, noise, column(schedule.signal).to(x_0), column(schedule.spread).to(x_0))
    output = said(x_t.flatten(0, 1), t.to(x_0.device).repeat_interleave(len(x_0))).to("cpu", torch.float64)
    prediction, place = (
        part.reshape(*x_t.shape[:2], *part.shape[1:]) for part in output.tensor_split([x_t.shape[2]], 1)
    )
    of_x_t, of_said = (column(c) for c in x_0_factors(kind, schedule.signal, schedule.spread))
    guess = of_x_t * x_t.to("cpu", torch.float64) + of_said * prediction
    middle, half = (column(c) for c in schedule.learned_range)
    learned = sampler.variance == "learned"
    log_variance = middle + half * place if learned else column(schedule.log_variance(sampler.variance))
    return guess.clamp(-1, 1) if sampler.clip else guess, log_variance


@torch.no_grad()
def bound_terms(
    said: Denoiser, schedule: Schedule, x_0: Tensor, levels: int, sampler: AncestralSampler, gen: Generator,
    kind: str = "eps",
) -> Tensor:  # fmt: skip
    """The T + 1 terms of the negative bound (eq. 5) of grey levels x_0 (B, C, H, W): (T + 1, B) nats, float64, CPU.

    Row 0 is L_0 = -log p(x_0 | x_1), the last row L_T, and row t between them KL(q(x_t | x_{t+1}, x_0) || p(x_t |
    x_{t+1})), each at one draw of the x it is conditioned on. The rows' sum is at least -log P(x_0) in expectation.
    """
    exact, of_x_0, log_q = x_0.to("cpu", torch.float64), schedule.posterior_mean[0], schedule.log_variance("small")
    first, log_p = asked(said, schedule, x_0, torch.zeros(1, dtype=torch.long), sampler, gen, kind)
    rows = [-discretised_gaussian(exact, first, (0.5 * log_p).exp(), levels)]
    for t in torch.arange(1, len(log_q)).split(max(1, PAIRS_PER_CALL // len(x_0))):
        guess, log_p = asked(said, schedule, x_0, t, sampler, gen, kind)
        log_q_t, factor = (v[t].view(-1, 1, 1, 1, 1) for v in (log_q, of_x_0))
        rows.append(gaussian_kl(log_q_t, log_p, (factor * (exact - guess)).square()))  # means differ in x_0 alone
    rows.append(prior_kl(exact, schedule.alpha_bar[-1])[None])
    return torch.cat(rows).flatten(2).sum(2)


class Diffusion(Model, Steps, LikelihoodEstimate):
    """A network trained to predict the noise in x_t, or x_0 or v; a child says how to draw, from its own weights or
    another's: no sampler plays a part in the state, nor in the estimated likelihood.
    """

    family = "diffusion"
    Config = Config
    constants: Tensor

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        super().__init__(data, config, sampler)
        c = self.config
        self.schedule = q = make_schedule(c)
        of_x_0 = x_0_factors(c.prediction, q.signal, q.spread)[1].abs()
        factor = q.signal / q.spread * of_x_0 if c.error == "eps" else torch.ones_like(q.signal)  # eq. 4 solved for eps
        rows = (q.signal, q.spread, factor, *q.learned_range, q.log_variance("small"), q.posterior_mean[0])
        self.register_buffer("constants", torch.stack(rows).float(), persistent=False)
        self.network = UNet(
            data.shape, c.channels, c.multipliers, c.blocks, c.attention, c.dropout, c.groups, EMBEDDED_STEPS / c.steps,
            padding=c.padding, outputs=(2 if c.variance == "learned" else 1) * data.channels,
        )  # fmt: skip

    @classmethod
    def preset(cls, data: DataSpec) -> Any:
        """From 32x32 up the paper's; smaller ones for a CPU. Fewer resolutions where the sides cannot be halved."""
        depth = 1 + halvings(data.height, data.width)
        side = min(data.height, data.width)
        if side >= 32:
            return Config(multipliers=Config.multipliers[:depth], attention=(data.height // 2,))
        if side >= 16:
            return replace(SMALL, channels=16, multipliers=(1, 2, 4)[:depth])
        return replace(SMALL, multipliers=SMALL.multipliers[:depth])

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """From 32x32 up the paper's (appendix B, 800,000 steps); smaller: a short training for a CPU."""
        if min(data.height, data.width) >= 32:
            return Recipe(lr=2e-4, batch=128, warmup=5_000, clip=1.0, ema=0.9999, flip=True, images=102_400_000)
        batch, images = (64, 60_000) if min(data.height, data.width) < 16 else (16, 200_000)
        return Recipe(lr=2e-3, batch=batch, warmup=100, decay="cosine", clip=1.0, ema=0.995, images=images)

    @property
    def denoiser(self) -> nn.Module:
        """The network eps_theta, or of x_0 or v."""
        return self.network

    def said(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The network's prediction (B, C, H, W) alone, where it says a variance too."""
        return self.network(x_t, t)[:, : self.data.channels]

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """L_simple (eq. 14), or what config.error makes of it; L_hybrid where the variance is learned (N, eq. 16)."""
        t = torch.randint(self.config.steps, (len(batch.x),), generator=gen, device=gen.device)
        noise = gaussian_noise(batch.x.shape, gen)
        *scales, factor = self.constants[:3, t, None, None, None].unbind()
        x_t = q_sample(batch.x, noise, *scales)
        output = self.network(x_t, t, gen if self.training else None)
        prediction, place = output.tensor_split([self.data.channels], dim=1)
        wanted = of_kind(self.config.prediction, batch.x, noise, *scales)
        error = (factor * (prediction - wanted)).square().mean()
        if self.config.variance == "fixed":
            return Loss(error, {"mse": error.detach()})
        bound = self.variance_loss(batch.x, x_t, t, prediction.detach(), place)
        return Loss(error + self.config.bound_weight * bound, {"mse": error.detach(), "bound": bound.detach()})

    def variance_loss(self, x_0: Tensor, x_t: Tensor, t: Tensor, prediction: Tensor, place: Tensor) -> Tensor:
        """L_vlb (N, eq. 4) from one term for each image: T times their mean, in bits/dim without L_T: a scalar.

        place: 2 v - 1 in N's eq. 15. prediction: without gradient, so that L_vlb teaches the variance alone (N, section
        3.1). Nothing is clipped.
        """
        signal, spread, _, middle, half, log_q, factor = self.constants[:, t, None, None, None].unbind()
        of_x_t, of_said = x_0_factors(self.config.prediction, signal, spread)
        guess, log_p = of_x_t * x_t + of_said * prediction, middle + half * place
        is_first = (t == 0)[:, None, None, None]
        # Where the decoder is not asked for, a mean and a deviation at which the log of a bin has a slope.
        mean, log_std = torch.where(is_first, guess, x_0), 0.5 * torch.where(is_first, log_p, middle)
        decoder = -discretised_gaussian(x_0, mean, log_std.exp(), self.data.levels)
        terms = torch.where(is_first, decoder, gaussian_kl(log_q, log_p, (factor * (x_0 - guess)).square()))
        return self.config.steps * terms.mean() / math.log(2)

    def log_prob_estimate(self, pixels: Tensor, gen: Generator | None = None, steps: int = 16) -> Tensor:
        """By the probability-flow ODE with 4 steps evaluations of the network and its gradient: (B,) nats, float64.

        Where the flow is exact, a lower bound in expectation, as dequantisation makes it; the errors of integration and
        of the one random trace per image go either way.
        """
        gen = seeded(0, self.device) if gen is None else gen
        given = (self.said, self.schedule, pixels.to(self.device), self.data.levels, steps, gen)
        return flow_estimate(*given, self.config.prediction).to("cpu", torch.float64)


class DDPM(Diffusion, LikelihoodBound):
    """Ancestral sampling (Algorithm 2), and the variational bound of that very chain."""

    Sampler = AncestralSampler

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        """Builds the network. Raises ModelError where the sampler asks for a variance that was not learned."""
        super().__init__(data, config, sampler)
        learns = self.config.variance == "learned"
        variance = self.sampler.variance or ("learned" if learns else "large")
        require("config.variance is 'fixed', sampler.variance", variance, VARIANCES if learns else VARIANCES[:2])
        self.sampler = replace(self.sampler, variance=variance)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Draws n images (n, C, H, W) in [-1, 1]."""
        x = gaussian_noise((n, *self.data.shape), gen)
        said = self.network if self.sampler.variance == "learned" else self.said
        return ancestral(said, self.schedule, x, self.sampler, gen, self.config.prediction).clamp(-1, 1)

    @property
    def evaluations(self) -> int:
        """T."""
        return self.config.steps

    def log_prob_bound(self, pixels: Tensor, gen: Generator | None = None) -> Tensor:
        """Minus the sum of the terms of eq. 5, with one draw of x_t for each: (B,) nats, float64 on the CPU."""
        x_0 = to_unit_range(pixels, self.data.levels).to(self.device)
        gen = seeded(0, self.device) if gen is None else gen
        given = (self.network, self.schedule, x_0, self.data.levels, self.sampler, gen)
        return -bound_terms(*given, self.config.prediction).sum(0)
