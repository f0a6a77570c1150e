"""What diffusion models share: linear Gaussian processes, what a network predicts, and the x_0 and noise it implies.

A process adds noise to an image x_0: at a time t, x_t = signal_t x_0 + spread_t eps with eps ~ N(0, I). A network that
knows x_t and t can predict eps, x_0 or a mixture of both. Given x_t, each of them determines the others, so a sampler
needs to know none of this: a `Denoiser` returns x_0 and eps, a sampler is a function from x at one time to x at the
next, and `run` calls it for a list of times.

    denoiser = Denoiser(network, schedule, PREDICTIONS["v"])
    found = denoiser(x, t)                                       # found.x_0, found.noise
    x = run(lambda x, t: ..., noise, times)

Predictions: eps and x_0 (Ho et al. 2020, section 3.2); v = signal eps - spread x_0 (Salimans and Ho 2022,
arXiv:2202.00512, appendix D). Models with other processes define their own (zoo.flow_matching, zoo.edm).

Symbols
    here            paper                           shape
    beta            beta_t                          (T,)
    alpha_bar       alpha_bar_t                     (T,); signal is its root, spread the root of 1 - alpha_bar
    noise           eps                             (B, C, H, W)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Generator, Tensor

Network = Callable[[Tensor, Tensor], Tensor]  # x_t (B, ...) and times (B,) to a prediction
Number = TypeVar("Number", float, Tensor)
Place = TypeVar("Place")
ProcessT = TypeVar("ProcessT", bound="Process")


# ---- what a network predicts ------------------------------------------------------------------------------------


class Prediction(Protocol):
    """What a network predicts, where x_t = signal x_0 + spread noise. Arguments are numbers or broadcast."""

    def target(self, x_0: Tensor, noise: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
        """The exact value that the network is trained to predict."""

    def x_0(self, signal: Number, spread: Number) -> tuple[Number, Number]:
        """Factors of x_t and of the prediction in x_0."""

    def noise(self, signal: Number, spread: Number) -> tuple[Number, Number]:
        """Factors of x_t and of the prediction in the noise."""


class Noise:
    """The network predicts eps."""

    def target(self, x_0: Tensor, noise: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
        """The exact value of the prediction."""
        return noise

    def x_0(self, signal: Number, spread: Number) -> tuple[Number, Number]:
        """Factors of x_t and of the prediction in x_0."""
        return 1 / signal, -spread / signal

    def noise(self, signal: Number, spread: Number) -> tuple[Number, Number]:
        """Factors of x_t and of the prediction in the noise."""
        return 0 * signal, 0 * signal + 1


class Image:
    """The network predicts x_0."""

    def target(self, x_0: Tensor, noise: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
        """The exact value of the prediction."""
        return x_0

    def x_0(self, signal: Number, spread: Number) -> tuple[Number, Number]:
        """Factors of x_t and of the prediction in x_0."""
        return 0 * signal, 0 * signal + 1

    def noise(self, signal: Number, spread: Number) -> tuple[Number, Number]:
        """Factors of x_t and of the prediction in the noise."""
        return 1 / spread, -signal / spread


class Rotation:
    """The network predicts v = signal eps - spread x_0, in processes with signal^2 + spread^2 = 1."""

    def target(self, x_0: Tensor, noise: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
        """The exact value of the prediction."""
        return signal * noise - spread * x_0

    def x_0(self, signal: Number, spread: Number) -> tuple[Number, Number]:
        """Factors of x_t and of the prediction in x_0."""
        return signal, -spread

    def noise(self, signal: Number, spread: Number) -> tuple[Number, Number]:
        """Factors of x_t and of the prediction in the noise."""
        return spread, signal


@dataclass(frozen=True)
class Velocity:
    """The network predicts the slope signal' x_0 + spread' eps of x_t in a process that is linear in time.

    signal_slope, spread_slope: signal' and spread'.
    """

    signal_slope: float
    spread_slope: float

    def target(self, x_0: Tensor, noise: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
        """The exact value of the prediction."""
        return self.signal_slope * x_0 + self.spread_slope * noise

    def x_0(self, signal: Number, spread: Number) -> tuple[Number, Number]:
        """Factors of x_t and of the prediction in x_0."""
        determinant = signal * self.spread_slope - spread * self.signal_slope
        return self.spread_slope / determinant, -spread / determinant

    def noise(self, signal: Number, spread: Number) -> tuple[Number, Number]:
        """Factors of x_t and of the prediction in the noise."""
        determinant = signal * self.spread_slope - spread * self.signal_slope
        return -self.signal_slope / determinant, signal / determinant


PREDICTIONS: dict[str, Prediction] = {"eps": Noise(), "x0": Image(), "v": Rotation()}


# ---- processes --------------------------------------------------------------------------------------------------


class Level(NamedTuple):
    """A time of a process: signal, spread, and what the network receives: the time (an integer or a number) and x
    multiplied by input_scale.
    """

    time: float
    signal: float
    spread: float
    input_scale: float = 1.0


class Process(Protocol):
    """Signal and spread at every time."""

    def level(self, t: float) -> Level:
        """The level at time t."""


@dataclass(frozen=True)
class Line:
    """A process in continuous time from 0 to 1 whose signal and spread are linear: at time 0, and their slopes."""

    signal: float
    spread: float
    signal_slope: float
    spread_slope: float

    def level(self, t: float) -> Level:
        """Signal and spread at time t."""
        return Level(float(t), self.signal + t * self.signal_slope, self.spread + t * self.spread_slope)

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and spread at times (B,), to broadcast with images: two (B, 1, 1, 1)."""
        t = t.view(-1, 1, 1, 1)
        return self.signal + t * self.signal_slope, self.spread + t * self.spread_slope

    @property
    def kind(self) -> Velocity:
        """The prediction of the slope."""
        return Velocity(self.signal_slope, self.spread_slope)


def linear_betas(steps: int, first: float, last: float) -> Tensor:
    """Variances of the forward steps, evenly spaced (Ho et al. 2020, section 4): (T,) float64."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def scaled_linear_betas(steps: int, first: float, last: float) -> Tensor:
    """Variances whose roots are evenly spaced ("linear" in latent diffusion's released code): (T,) float64."""
    return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64).square()


def cosine_betas(steps: int, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """Variances whose alpha_bar is a squared cosine (Nichol and Dhariwal 2021, eq. 17): (T,) float64."""
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = ((time + offset) / (1 + offset) * math.pi / 2).cos().square()
    return (1 - f[1:] / f[:-1]).clamp_max(largest)


@dataclass(frozen=True)
class Schedule:
    """DDPM's forward process, T discrete steps: beta and the quantities computed from it, each (T,) float64.

    Equations are Ho et al.'s. Times are counted from 0: t here is t - 1 there.
    """

    beta: Tensor

    @cached_property
    def alpha_bar(self) -> Tensor:
        """Fraction of the image's variance that remains after step t."""
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
        """sqrt(1 - alpha_bar): factor of the noise in x_t. Float32 would lose half of the difference's digits."""
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
        """Middle and half in v log beta_t + (1 - v) log beta_tilde_t = middle + (2 v - 1) half (N, eq. 15)."""
        small, large = self.log_variance("small"), self.beta.log()
        return (large + small) / 2, (large - small) / 2

    # What a step of a sampler needs, as numbers: reading them one by one from tensors takes longer than adding noise.

    @cached_property
    def levels(self) -> list[Level]:
        """Signal and spread of each step."""
        pairs = zip(self.signal.tolist(), self.spread.tolist(), strict=True)
        return [Level(t, *pair) for t, pair in enumerate(pairs)]

    @cached_property
    def mean_factors(self) -> list[tuple[float, float]]:
        """The two coefficients of posterior_mean for each step."""
        return list(zip(*(factor.tolist() for factor in self.posterior_mean), strict=True))

    @cached_property
    def learned_ends(self) -> list[tuple[float, float]]:
        """Half of the two parts of learned_range for each step: those of the log of sigma_t."""
        return list(zip(*(part.mul(0.5).tolist() for part in self.learned_range), strict=True))

    @cached_property
    def deviations(self) -> dict[str | None, list[float]]:
        """sigma_t of each step by the kind of log_variance."""
        return {kind: self.log_variance(kind).mul(0.5).exp().tolist() for kind in (None, "large", "small")}

    @cached_property
    def alphas(self) -> list[float]:
        """alpha_bar of each step."""
        return self.alpha_bar.tolist()

    def level(self, t: float) -> Level:
        """Signal and spread of step t, an integer."""
        return self.levels[int(t)]


def without_signal(beta: Tensor) -> Tensor:
    """The schedule shifted and scaled so that alpha_bar ends at 0 with the same start (Lin et al. 2023, Algorithm 1).

    beta and result: (T,). arXiv:2305.08891.
    """
    root = Schedule(beta).signal
    alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
    return 1 - alpha_bar / torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])


def q_sample(x_0: Tensor, noise: Tensor, signal: Tensor, spread: Tensor) -> Tensor:
    """x_t ~ q(x_t | x_0) (eq. 4); noise has the shape of x_0, signal and spread of time t broadcast, (B, 1, 1, 1)."""
    return signal * x_0 + spread * noise


def gaussian_noise(shape: torch.Size | tuple[int, ...], gen: Generator) -> Tensor:
    """Standard normal numbers of the shape, on the generator's device."""
    return torch.randn(shape, generator=gen, device=gen.device)


# ---- denoiser and sampler ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Denoised:
    """What a network's prediction implies at x (B, ...): x_0 and the noise, and the additional channels of its output.

    x_0 and noise are new tensors at each access, which the caller may change in place.
    """

    x: Tensor
    level: Level
    kind: Prediction
    prediction: Tensor
    additional: Tensor

    @property
    def x_0(self) -> Tensor:
        """The image (B, ...), not clipped."""
        of_x, of_prediction = self.kind.x_0(self.level.signal, self.level.spread)
        return (self.x * of_x).add_(self.prediction, alpha=of_prediction)

    @property
    def noise(self) -> Tensor:
        """The noise (B, ...)."""
        of_x, of_prediction = self.kind.noise(self.level.signal, self.level.spread)
        return (self.x * of_x).add_(self.prediction, alpha=of_prediction)


@dataclass(frozen=True)
class Denoiser(Generic[ProcessT]):
    """A network, the process that its inputs come from, and what it predicts."""

    network: Network
    process: ProcessT
    kind: Prediction

    def __call__(self, x: Tensor, t: float) -> Denoised:
        """The network's x_0 and noise for x (B, ...) at time t of the process: one evaluation."""
        level = self.process.level(t)
        return Denoised(x, level, self.kind, *self.evaluated(x, level))

    def at(self, x: Tensor, t: float) -> Tensor:
        """The network's prediction (B, ...) for x at time t of the process."""
        return self.evaluated(x, self.process.level(t))[0]

    def evaluated(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor]:
        """The prediction for x (B, ...) at a level, and the output's additional channels."""
        return self.predict(x if level.input_scale == 1 else x * level.input_scale, times_like(x, level.time))

    def predict(self, x: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        """The prediction, of the shape of x (B, C, ...), and the output's additional channels, possibly none."""
        output = self.network(x, times)
        return output.tensor_split([x.shape[1]], dim=1) if x.dim() > 1 else (output, output[:0])


def times_like(x: Tensor, time: float) -> Tensor:
    """The time for each of the images x (B, ...): (B,), integers for an integer, otherwise of the type of x."""
    return torch.full((len(x),), time, dtype=torch.long if isinstance(time, int) else x.dtype, device=x.device)


@torch.no_grad()
def run(step: Callable[[Tensor, Place], Tensor], x: Tensor, places: Iterable[Place]) -> Tensor:
    """Calls step(x, place) for each place in turn, from noise x (B, ...) to the sampler's result (B, ...)."""
    for place in places:
        x = step(x, place)
    return x
