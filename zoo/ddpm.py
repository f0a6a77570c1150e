"""Denoising diffusion probabilistic models (Ho, Jain and Abbeel, NeurIPS 2020, arXiv:2006.11239).

Implemented: the forward process with fixed variances, a network that predicts the noise, training on L_simple (eq. 14,
Algorithm 1), ancestral sampling (Algorithm 2) with either fixed variance of section 3.2, the whole variational bound
of the discrete pixels (eq. 5) with the discretised Gaussian decoder (eq. 13), and an estimate of their log-probability
by the probability-flow ODE (Song et al. 2021, arXiv:2011.13456, eq. 13 and appendix D).

Deviations
- Below 32x32 the presets have T = 100 and a small U-Net, so that a CPU trains and draws within minutes. They use the
  cosine schedule of Nichol and Dhariwal 2021 (eq. 17) and tell the network the time as t 1000 / T, since the sinusoids
  are made for a thousand steps; no dropout; a learning rate that falls to 0 and a shorter average of the weights, since
  the training is a thousand times shorter. From 32x32 up, the preset is the paper's.
- The decoder's half-bin is 1 / (levels - 1), which is the paper's 1/255 at 256 grey levels.
- The bound evaluates all T terms for every image; the paper draws t at random.
- Samples are clamped to [-1, 1] at the end.
- The ODE is that of the continuous process with the same alpha_bar at every step and theta (below) linear between two,
  where the network is asked at a fractional t: its sinusoids take it, training never showed it. It starts at t = 0, an
  image with the first step's noise, and ends with the last step whose alpha_bar is at least 1e-5. A fourth-order
  Runge-Kutta method takes a fixed number of steps, theta growing with their square, where Song et al. let an adaptive
  one choose: every model costs the same, and no image's result depends on the others.

Symbols
    paper           here                            shape
    T               config.steps
    t               t, counted from 0               (B,) or int: t here is t - 1 there
    x_0, x_t        x_0, x_t                        (B, C, H, W)
    beta_t          schedule.beta[t]                (T,)
    alpha_bar_t     schedule.alpha_bar[t]           (T,), its root is signal, the root of its rest spread
    beta_tilde_t    schedule.posterior_variance[t]  (T,)
    sigma_t^2       exp(log_variance[t])            (T,)
    eps_theta       network                         (B, C, H, W), (B,) -> (B, C, H, W)
    mu_tilde_t      posterior_mean                  two (T,): factors of x_0 and of x_t
    (none)          theta: cos theta = signal, sin theta = spread; 0 is the image, pi / 2 the noise
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
from genbench.space import density_to_mass, dequantise, seeded, to_unit_range
from zoo.nets import UNet, halvings

Denoiser = Callable[[Tensor, Tensor], Tensor]
SCHEDULES = ("linear", "cosine")
VARIANCES = ("large", "small")
PAIRS_PER_CALL = 256  # (image, t) pairs of the bound in one network call
EMBEDDED_STEPS = 1000  # the sinusoids always see times of 0 .. 1000
SMALLEST_ALPHA_BAR = 1e-5  # of the flow, which divides by its root; x_t is within 1e-5 nats a pixel of noise there


@dataclass(frozen=True)
class Config:
    """Sizes and constants; the paper's CIFAR-10 values are the defaults.

    steps: T, 1000. schedule: "linear" (the paper's) or "cosine". beta_first, beta_last: ends of the linear schedule,
    1e-4 and 0.02. channels: width of the U-Net at full resolution, 128. multipliers: of the width at each resolution,
    (1, 2, 2, 2). blocks: residual blocks per resolution, 2. attention: heights that have self-attention, (16,).
    dropout: 0.1. groups: most groups of a normalisation, 32.
    """

    steps: int = 1000
    schedule: str = "linear"
    beta_first: float = 1e-4
    beta_last: float = 0.02
    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    blocks: int = 2
    attention: tuple[int, ...] = (16,)
    dropout: float = 0.1
    groups: int = 32

    def __post_init__(self) -> None:
        if self.steps < 2:
            raise ModelError(f"ddpm: config.steps is {self.steps}; allowed: at least 2")
        if self.schedule not in SCHEDULES:
            raise ModelError(f"ddpm: config.schedule is {self.schedule!r}; allowed: {', '.join(SCHEDULES)}")


@dataclass(frozen=True)
class AncestralSampler:
    """How DDPM draws.

    variance: sigma_t^2 of the reverse steps, "large" (beta_t, optimal for x_0 ~ N(0, I); the paper's CIFAR-10) or
    "small" (beta_tilde_t, optimal for a single x_0). clip: keep the predicted x_0 within [-1, 1], as the paper does.
    Both decide the bound too: it is the bound of this very chain.
    """

    variance: str = "large"
    clip: bool = True

    def __post_init__(self) -> None:
        if self.variance not in VARIANCES:
            raise ModelError(f"ddpm: sampler.variance is {self.variance!r}; allowed: {', '.join(VARIANCES)}")


# For a CPU, where a group normalisation takes the longer the more groups it has.
SMALL = Config(100, "cosine", channels=24, multipliers=(1, 2), blocks=1, attention=(), dropout=0.0, groups=3)


def linear_betas(steps: int, first: float, last: float) -> Tensor:
    """Variances of the forward steps, evenly spaced (section 4): (T,) float64."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def cosine_betas(steps: int, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """Variances whose alpha_bar is a squared cosine (Nichol and Dhariwal 2021, eq. 17): (T,) float64."""
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

    def log_variance(self, kind: str) -> Tensor:
        """The log of sigma_t^2 (section 3.2). beta_tilde_0 is 0, so both kinds have log beta_tilde_1 at t = 0."""
        variance = self.posterior_variance if kind == "small" else self.beta
        return torch.cat([self.posterior_variance[1:2], variance[1:]]).log()


def make_schedule(config: Config) -> Schedule:
    """The forward process that a config names."""
    if config.schedule == "cosine":
        return Schedule(cosine_betas(config.steps))
    return Schedule(linear_betas(config.steps, config.beta_first, config.beta_last))


def q_sample(x_0: Tensor, noise: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
    """x_t ~ q(x_t | x_0) (eq. 4) of noise like x_0; signal and spread of time t broadcast, e.g. (B, 1, 1, 1)."""
    return signal * x_0 + spread * noise


def predict_x_0(x_t: Tensor, eps: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
    """The x_0 that x_t and its noise imply (eq. 4 solved for x_0)."""
    return (x_t - spread * eps) / signal


def gaussian_noise(shape: torch.Size | tuple[int, ...], gen: Generator) -> Tensor:
    """Standard normal numbers of the shape, on the generator's device."""
    return torch.randn(shape, generator=gen, device=gen.device)


@torch.no_grad()
def ancestral(eps: Denoiser, schedule: Schedule, x: Tensor, sampler: AncestralSampler, gen: Generator) -> Tensor:
    """Runs the reverse chain from x ~ N(0, I) (Algorithm 2): (B, ...) to (B, ...); no noise in the last step.

    The mean is that of q(x_{t-1} | x_t, x_0) at the predicted x_0, which equals eq. 11 unless x_0 was clipped.
    """
    of_x_0, of_x_t = (c.tolist() for c in schedule.posterior_mean)
    from_x, from_eps = (1 / schedule.signal).tolist(), (schedule.spread / schedule.signal).tolist()
    sigma = schedule.log_variance(sampler.variance).mul(0.5).exp().tolist()
    times = torch.arange(len(sigma), device=x.device)[:, None].expand(-1, len(x))
    for t in reversed(range(len(sigma))):
        x_0 = x * from_x[t] - eps(x, times[t]) * from_eps[t]
        if sampler.clip:
            x_0 = x_0.clamp_(-1, 1)
        x = x_0.mul_(of_x_0[t]).add_(x, alpha=of_x_t[t])
        if t > 0:
            x = x.add_(gaussian_noise(x.shape, gen), alpha=sigma[t])
    return x


def discretised_gaussian(x: Tensor, mean: Tensor, std: float, levels: int) -> Tensor:
    """Log P of grey levels x in [-1, 1] under N(mean, std^2) integrated over each level's bin (eq. 13), in nats.

    x, mean, result: (...), float64 for the result. Neighbouring bins share their edge, the lowest reaches to -inf and
    the highest to inf, so P sums to 1 over the levels. Bins above the mean are mirrored below it, where differences of
    the distribution function keep their digits.
    """
    level = ((x.double() + 1) * ((levels - 1) / 2)).round()
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


def denoised(eps: Denoiser, schedule: Schedule, x_0: Tensor, times: Tensor, clip: bool, gen: Generator) -> Tensor:
    """The x_0 predicted from one draw of x_t for K times (K,) and images x_0 (B, C, H, W): (K, B, C, H, W).

    float64 on the CPU, where all further arithmetic of the bound is done; the network sees float32 on its device.
    """
    scales = [v[times].view(-1, 1, 1, 1, 1) for v in (schedule.signal, schedule.spread)]
    noise = gaussian_noise((len(times), *x_0.shape), gen)
    x_t = q_sample(x_0, noise, *(scale.to(x_0) for scale in scales))
    t = times.to(x_0.device).repeat_interleave(len(x_0))
    predicted_noise = eps(x_t.flatten(0, 1), t).view_as(x_t)
    predicted = predict_x_0(*(tensor.to("cpu", torch.float64) for tensor in (x_t, predicted_noise)), *scales)
    return predicted.clamp(-1, 1) if clip else predicted


@torch.no_grad()
def bound_terms(
    eps: Denoiser, schedule: Schedule, x_0: Tensor, levels: int, sampler: AncestralSampler, gen: Generator
) -> Tensor:
    """The T + 1 terms of the negative bound (eq. 5) of grey levels x_0 (B, C, H, W): (T + 1, B) nats, float64, CPU.

    Row 0 is L_0 = -log p(x_0 | x_1), the last row L_T, and row t between them KL(q(x_t | x_{t+1}, x_0) || p(x_t |
    x_{t+1})), each at one draw of the x it is conditioned on. The rows' sum is at least -log P(x_0) in expectation.
    """
    exact = x_0.to("cpu", torch.float64)
    log_p, log_q = schedule.log_variance(sampler.variance), schedule.log_variance("small")
    first = denoised(eps, schedule, x_0, torch.zeros(1, dtype=torch.long), sampler.clip, gen)
    rows = [-discretised_gaussian(exact, first, math.exp(0.5 * float(log_p[0])), levels)]
    for t in torch.arange(1, len(log_p)).split(max(1, PAIRS_PER_CALL // len(x_0))):
        gap = exact - denoised(eps, schedule, x_0, t, sampler.clip, gen)
        of_x_0 = schedule.posterior_mean[0]  # the means differ in their x_0 terms alone
        log_q_t, log_p_t, factor = (v[t].view(-1, 1, 1, 1, 1) for v in (log_q, log_p, of_x_0))
        rows.append(gaussian_kl(log_q_t, log_p_t, (factor * gap).square()))
    rows.append(prior_kl(exact, schedule.alpha_bar[-1])[None])
    return torch.cat(rows).flatten(2).sum(2)


def flow_grid(schedule: Schedule, steps: int) -> tuple[Tensor, Tensor]:
    """Angles theta and times t of the flow at the ends and in the middles of its steps: two (2 steps + 1,), rising.

    theta grows with the square of the step, as what the flow does to an image changes fastest near the image.
    """
    count = max(2, int((schedule.alpha_bar >= SMALLEST_ALPHA_BAR).sum()))
    known = torch.atan2(schedule.spread, schedule.signal)[:count]
    ends = torch.lerp(known[0], known[-1], torch.linspace(0, 1, steps + 1, dtype=torch.float64).square())
    angles = torch.cat([ends, (ends[:-1] + ends[1:]) / 2]).sort().values
    before = (torch.searchsorted(known, angles, right=True) - 1).clamp(0, count - 2)
    return angles, before + (angles - known[before]) / (known[before + 1] - known[before])


def flow_slope(eps: Denoiser, x: Tensor, angle: float, time: float, probe: Tensor) -> tuple[Tensor, Tensor]:
    """Slope dx / d theta of the probability flow at x (B, ...), and its divergence by Hutchinson's estimator, (B,).

    Song et al.'s eq. 13 for the variance-preserving process (eq. 11) and the score -eps / sin theta, with theta as the
    time: (eps - sin(theta) x) / cos(theta), which is 0 for x_0 ~ N(0, I). probe: random signs like x (appendix D.2).
    """
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        noise = eps(x, torch.full((len(x),), time, dtype=x.dtype, device=x.device))
        (pulled,) = torch.autograd.grad(noise, x, probe)
    trace = (pulled * probe).flatten(1).sum(1)
    sin, cos = math.sin(angle), math.cos(angle)
    return (noise.detach() - sin * x.detach()) / cos, (trace - sin * x[0].numel()) / cos


@torch.inference_mode(False)  # nothing can be differentiated in inference mode
@torch.no_grad()
def flow_log_density(eps: Denoiser, schedule: Schedule, x: Tensor, steps: int, probe: Tensor) -> Tensor:
    """Log density in nats of x (B, ...) at t = 0 (Song et al. 2021, appendix D.2): (B,). Evaluates eps 4 steps times.

    Takes x along the flow to its noise, whose log density under N(0, I) and the divergences passed on the way add up.
    """
    angles, times = (values.tolist() for values in flow_grid(schedule, steps))
    passed = x.new_zeros(len(x))
    for i in range(0, 2 * steps, 2):
        h = angles[i + 2] - angles[i]
        slope_1, div_1 = flow_slope(eps, x, angles[i], times[i], probe)
        slope_2, div_2 = flow_slope(eps, x + h / 2 * slope_1, angles[i + 1], times[i + 1], probe)
        slope_3, div_3 = flow_slope(eps, x + h / 2 * slope_2, angles[i + 1], times[i + 1], probe)
        slope_4, div_4 = flow_slope(eps, x + h * slope_3, angles[i + 2], times[i + 2], probe)
        x = x + h / 6 * (slope_1 + 2 * slope_2 + 2 * slope_3 + slope_4)
        passed = passed + h / 6 * (div_1 + 2 * div_2 + 2 * div_3 + div_4)
    return passed - 0.5 * (x.square() + math.log(2 * math.pi)).flatten(1).sum(1)


def flow_estimate(eps: Denoiser, schedule: Schedule, pixels: Tensor, levels: int, steps: int, gen: Generator) -> Tensor:
    """Log P in nats of grey levels (B, C, H, W) by the flow, uniformly dequantised: (B,).

    y in [0, 1) is x = (2 y - 1) levels / (levels - 1), half a level wider than [-1, 1], and the flow starts at
    signal_0 x: a change of variables by the factor scale in every pixel.
    """
    signal = float(schedule.signal[0])
    scale, shift = signal * 2 * levels / (levels - 1), signal * levels / (levels - 1)
    x = scale * dequantise(pixels, levels, gen) - shift
    probe = 2 * torch.randint(2, x.shape, generator=gen, device=gen.device).to(x) - 1
    log_density = flow_log_density(eps, schedule, x, steps, probe)
    dims = x[0].numel()
    return density_to_mass(log_density + dims * math.log(scale), dims, levels)


class Diffusion(Model, Steps, LikelihoodEstimate):
    """A network trained to predict the noise in x_t; a child says how to draw.

    The state is the network's weights alone, so that one child draws from the weights of another. The estimated
    likelihood is the network's too: no sampler plays a part in it.
    """

    family = "diffusion"
    Config = Config
    signal: Tensor
    spread: Tensor

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        super().__init__(data, config, sampler)
        c = self.config
        self.schedule = make_schedule(c)
        self.register_buffer("signal", self.schedule.signal.float(), persistent=False)
        self.register_buffer("spread", self.schedule.spread.float(), persistent=False)
        self.network = UNet(
            data.shape, c.channels, c.multipliers, c.blocks, c.attention, c.dropout, c.groups, EMBEDDED_STEPS / c.steps
        )

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
        images = 60_000 if min(data.height, data.width) < 16 else 200_000
        return Recipe(lr=2e-3, batch=64, warmup=100, decay="cosine", clip=1.0, ema=0.995, images=images)

    @property
    def denoiser(self) -> nn.Module:
        """The network eps_theta."""
        return self.network

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """L_simple (eq. 14), mean over pixels and images: about 1 before training, when eps_theta is 0."""
        t = torch.randint(self.config.steps, (len(batch.x),), generator=gen, device=gen.device)
        noise = gaussian_noise(batch.x.shape, gen)
        x_t = q_sample(batch.x, noise, *(v[t].view(-1, 1, 1, 1) for v in (self.signal, self.spread)))
        error = (self.network(x_t, t, gen if self.training else None) - noise).square().mean()
        return Loss(error, {"mse": error.detach()})

    def log_prob_estimate(self, pixels: Tensor, gen: Generator | None = None, steps: int = 16) -> Tensor:
        """By the probability-flow ODE with 4 steps evaluations of the network and its gradient: (B,) nats, float64.

        Where the flow is exact, a lower bound in expectation, as dequantisation makes it; the errors of integration and
        of the one random trace per image go either way.
        """
        gen = seeded(0, self.device) if gen is None else gen
        pixels = pixels.to(self.device)
        return flow_estimate(self.network, self.schedule, pixels, self.data.levels, steps, gen).to("cpu", torch.float64)


class DDPM(Diffusion, LikelihoodBound):
    """Ancestral sampling (Algorithm 2), and the variational bound of that very chain."""

    Sampler = AncestralSampler

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Draws n images (n, C, H, W) in [-1, 1]."""
        x = gaussian_noise((n, *self.data.shape), gen)
        return ancestral(self.network, self.schedule, x, self.sampler, gen).clamp(-1, 1)

    @property
    def evaluations(self) -> int:
        """T."""
        return self.config.steps

    def log_prob_bound(self, pixels: Tensor, gen: Generator | None = None) -> Tensor:
        """Minus the sum of the terms of eq. 5, with one draw of x_t for each: (B,) nats, float64 on the CPU."""
        x_0 = to_unit_range(pixels, self.data.levels).to(self.device)
        gen = seeded(0, self.device) if gen is None else gen
        return -bound_terms(self.network, self.schedule, x_0, self.data.levels, self.sampler, gen).sum(0)
