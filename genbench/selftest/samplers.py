"""Test problems for training and sampling: a Gaussian's exact denoiser, a finite alphabet, averages computed by hand.

For x_0 ~ N(0, s^2) on every pixel, with a = alpha_bar_t and v = a s^2 + 1 - a the variance of x_t, the best network is
linear: eps*(x_t) = sqrt(1 - a) x_t / v, which predicts x_0 = sqrt(a) s^2 x_t / v. Every chain is then linear and its
variance follows step by step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import log_ndtr
from torch import Tensor, nn

from genbench.contract import Batch, DataSpec
from genbench.draw.blocks import draw
from genbench.metrics.arrays import Array
from genbench.selftest.base import MONTE_CARLO, KnownProblem, Measurement, average, zoo
from genbench.space import bits_per_dim, seeded, to_pixels, to_unit_range
from genbench.train.ema import MovingAverage

PAPER = {
    "steps": 1000, "schedule": "linear", "beta_first": 1e-4, "beta_last": 0.02,
    "prediction": "eps", "variance": "fixed",
}  # fmt: skip
TINY_NETWORK = {"channels": 4, "multipliers": [1], "blocks": 1, "attention": [], "dropout": 0.0, "groups": 2}
BETA: Array = np.linspace(1e-4, 0.02, 1000)
ALPHA_BAR: Array = np.asarray(np.cumprod(1 - BETA))  # alpha_bar
BEFORE: Array = np.append(1.0, ALPHA_BAR[:-1])
POSTERIOR: Array = BETA * (1 - BEFORE) / (1 - ALPHA_BAR)
IMAGE_COPIES = 2000  # of an image whose bound is averaged
STD = 0.2  # of the data: the clamp to [-1, 1] is at 5 standard deviations and has no visible effect


class ExactDenoiser(nn.Module):
    """E[eps | x_t] for x_0 ~ N(0, std^2) on every pixel; between two steps the angle with tangent spread / signal is
    linear, as in the probability flow.
    """

    def __init__(self, std: float) -> None:
        super().__init__()
        angles = torch.from_numpy(np.arctan2(np.sqrt(1 - ALPHA_BAR), np.sqrt(ALPHA_BAR)))
        self.angles, self.std = nn.Parameter(angles, requires_grad=False), std

    def forward(self, x: Tensor, t: Tensor, gen: Any = None) -> Tensor:
        """(B, C, H, W) at times t (B,), integer or not."""
        step = t.long().clamp(max=len(self.angles) - 2)
        angle = torch.lerp(self.angles[step], self.angles[step + 1], t.double() - step)
        factor = angle.sin() / (angle.cos().square() * self.std**2 + angle.sin().square())
        return x * factor.to(x).view(-1, 1, 1, 1)


def exact(name: str, std: float, data: DataSpec, **sampler: Any) -> Any:
    """A zoo diffusion model with the paper's thousand steps whose network is the exact denoiser."""
    model = zoo(name, data, {**sampler, "clip": False}, **PAPER, **TINY_NETWORK)
    model.network = ExactDenoiser(std)
    return model


# ---- spread of chains --------------------------------------------------------------------------------------------


def implicit_spread(times: list[int], std: float, eta: float = 0.0) -> float:
    """Standard deviation that DDIM's eq. 12 gives along rising times from N(0, 1)."""
    variance, alpha = 1.0, ALPHA_BAR[times]
    for a, before in reversed(list(zip(alpha, np.append(1.0, alpha[:-1]), strict=True))):
        v = a * std**2 + 1 - a
        sigma2 = eta**2 * (1 - before) / (1 - a) * (1 - a / before)
        step = math.sqrt(before * a) * std**2 / v + math.sqrt((1 - before - sigma2) * (1 - a)) / v
        variance = step**2 * variance + sigma2
    return math.sqrt(variance)


def deterministic_spread(steps: int, times: list[int] | None = None, spacing: str = "uniform") -> Measurement:
    """DDIM with eta = 0 multiplies every pixel of its noise by the same number: samples divided by noise, s = 1."""
    data = DataSpec(1, 16, 16)
    model = exact("ddim", 1.0, data, steps=steps, eta=0.0, spacing=spacing)
    noise = torch.randn(1, *data.shape, generator=seeded(0))
    x = model.sample(1, seeded(0))
    inside = x.abs() < 1
    times = [i * 1000 // steps for i in range(steps)] if times is None else times
    return Measurement(float((x / noise)[inside].double().mean()), implicit_spread(times, 1.0), 1e-5)


def quadratic_spread() -> Measurement:
    """The quadratic subsequence, repeated times once: floor(800 (i / 49)^2)."""
    return deterministic_spread(50, sorted({math.floor(800 * i * i / 49**2) for i in range(50)}), "quadratic")


def noisy_spread(steps: int) -> Measurement:
    """DDIM with eta = 1."""
    model = exact("ddim", STD, DataSpec(1, 16, 16), steps=steps, eta=1.0)
    return pixel_spread(model, 800, implicit_spread([i * 1000 // steps for i in range(steps)], STD, eta=1.0))


def ancestral_spread(variance: str) -> Measurement:
    """DDPM's chain of 1,000 steps; the last step adds no noise."""
    sigma2 = POSTERIOR if variance == "small" else BETA
    total = 1.0
    for t in reversed(range(1000)):
        x_0 = math.sqrt(ALPHA_BAR[t]) * STD**2 / (ALPHA_BAR[t] * STD**2 + 1 - ALPHA_BAR[t])
        of_x_0 = math.sqrt(BEFORE[t]) * BETA[t] / (1 - ALPHA_BAR[t])
        of_x_t = math.sqrt(1 - BETA[t]) * (1 - BEFORE[t]) / (1 - ALPHA_BAR[t])
        total = (of_x_0 * x_0 + of_x_t) ** 2 * total + (sigma2[t] if t else 0.0)
    return pixel_spread(exact("ddpm", STD, DataSpec(1, 16, 16), variance=variance), 400, math.sqrt(total))


def pixel_spread(model: Any, n: int, true: float) -> Measurement:
    """The root mean square of all pixels of n samples; four standard errors are 4 sigma / sqrt(2 N)."""
    x = model.sample(n, seeded(0)).double()
    return Measurement(float(x.square().mean().sqrt()), true, 4 * true / math.sqrt(2 * x.numel()), MONTE_CARLO)


# ---- losses and bounds -------------------------------------------------------------------------------------------


def denoising_loss() -> Measurement:
    """L_simple of the best network: the variance of eps given x_t, mean over t of a s^2 / v."""
    model = exact("ddpm", STD, DataSpec(1, 1, 1))
    true = float((ALPHA_BAR * STD**2 / (ALPHA_BAR * STD**2 + 1 - ALPHA_BAR)).mean())
    gen = seeded(0)
    x = STD * torch.randn(50, 20_000, 1, 1, 1, generator=gen)
    return average([float(model.loss(Batch(row, row), "all", 0, gen).total) for row in x], true)


def fine_bound() -> Measurement:
    """Bits of the bound of x_0 = +-1/2, whose second moment is that of N(0, 1/4), at 65,537 levels, as a density."""
    levels, s2 = 2**16 + 1, 0.25
    model = exact("ddpm", math.sqrt(s2), DataSpec(1, 4, 4, levels), variance="large")
    pixels = torch.tensor([levels // 4, 3 * levels // 4 + 1]).repeat(IMAGE_COPIES * 8).view(-1, 1, 4, 4)
    width = math.log2(2 / (levels - 1))
    true = (chain_nats(s2, "large") + gaussian_decoder(s2)) / math.log(2)
    return average(bound_bits(model, pixels) + width, true)


def bound_bits(model: Any, pixels: Tensor) -> Tensor:
    """Bits/dim of the bound of images (N, C, H, W), 1,000 at a time: (N,)."""
    gen = seeded(0)
    nats = torch.cat([model.log_prob_bound(part, gen) for part in pixels.split(1000)])
    return bits_per_dim(nats, model.data.dims)


def grey_bound() -> Measurement:
    """Bits of the bound of one grey pixel, level 150 of 256: the decoder's mass by quadrature over x_1."""
    level, std = 150, 0.5
    model = exact("ddpm", std, DataSpec(1, 4, 4, 256), variance="small")
    x_0 = 2 * level / 255 - 1
    noise, weight = np.polynomial.hermite_e.hermegauss(101)
    factor = math.sqrt(ALPHA_BAR[0]) * std**2 / (ALPHA_BAR[0] * std**2 + 1 - ALPHA_BAR[0])
    mean = factor * (math.sqrt(ALPHA_BAR[0]) * x_0 + math.sqrt(1 - ALPHA_BAR[0]) * noise)
    reach = np.abs(x_0 - mean)  # the mass is symmetric, and more precise in the lower tail
    low, high = ((side / 255 - reach) / math.sqrt(POSTERIOR[1]) for side in (-1, 1))
    log_mass = log_ndtr(high) + np.log1p(-np.exp(log_ndtr(low) - log_ndtr(high)))
    decoder = -float(weight @ log_mass / weight.sum())
    bits = bound_bits(model, torch.full((IMAGE_COPIES, 1, 4, 4), level, dtype=torch.uint8))
    return average(bits, (chain_nats(x_0**2, "small", std) + decoder) / math.log(2))


def flow_bits() -> Measurement:
    """Bits of the probability flow's estimate for one grey pixel, level 150 of 256, data N(0, 1/4).

    x = c (k + u) / L - d, u uniform, is the start of the flow, at t = 0; its density is N(0, a s^2 + 1 - a), and
    E x^2 = (c (k + 1/2) / L - d)^2 + (c / L)^2 / 12. Integrating in 16 steps may add an error of 1e-3 bits.
    """
    level, levels, s2 = 150, 256, 0.25
    model = exact("ddpm", math.sqrt(s2), DataSpec(1, 4, 4, levels))
    a = float(ALPHA_BAR[0])
    width = math.sqrt(a) * 2 / (levels - 1)  # c / L
    square = (width * (level + 0.5) - math.sqrt(a) * levels / (levels - 1)) ** 2 + width**2 / 12
    v = a * s2 + 1 - a
    nats = 0.5 * (math.log(2 * math.pi * v) + square / v) - math.log(width)
    estimate = model.log_prob_estimate(torch.full((500, 1, 4, 4), level, dtype=torch.uint8), seeded(0))
    return average(bits_per_dim(estimate, 16), nats / math.log(2), bias=1e-3)


def chain_nats(second_moment: float, variance: str, std: float | None = None) -> float:
    """Expected L_1 .. L_T in nats of x_0 with this second moment under the exact denoiser of N(0, std^2).

    L_t has E (x_0 - x_0*)^2 = (1 - k sqrt(a))^2 E x_0^2 + k^2 (1 - a), x_0* = k x_t. std None: that of x_0.
    """
    s2 = second_moment if std is None else std**2
    k = np.sqrt(ALPHA_BAR) * s2 / (ALPHA_BAR * s2 + 1 - ALPHA_BAR)
    gap = (1 - k * np.sqrt(ALPHA_BAR)) ** 2 * second_moment + k**2 * (1 - ALPHA_BAR)
    model_variance = POSTERIOR if variance == "small" else BETA
    of_x_0 = np.sqrt(BEFORE) * BETA / (1 - ALPHA_BAR)
    ratio = POSTERIOR[1:] / model_variance[1:]
    steps = 0.5 * (ratio - 1 - np.log(ratio) + (of_x_0**2 * gap)[1:] / model_variance[1:])
    prior = 0.5 * (ALPHA_BAR[-1] * second_moment - ALPHA_BAR[-1] - np.log1p(-ALPHA_BAR[-1]))
    return float(steps.sum() + prior)


def gaussian_decoder(s2: float) -> float:
    """Expected L_0 in nats with a Gaussian density for decoder, of variance beta_tilde_1."""
    a, variance = float(ALPHA_BAR[0]), float(POSTERIOR[1])
    gap = s2 * (1 - a) / (a * s2 + 1 - a)  # Var(x_0 | x_1)
    return 0.5 * (math.log(2 * math.pi * variance) + gap / variance)


class Alphabet(nn.Module):
    """A generator of images of one value, -1 or 1 with probability 1/2: the sign of the first latent."""

    def forward(self, z: Tensor) -> Tensor:
        """(B, 1, 2, 2), one value an image."""
        return z[:, :1, :1, :1].sign().expand(-1, -1, 2, 2)


class BestCritic(nn.Module):
    """The logit log(p / q) of the best discriminator for images of one value, -1 or 1."""

    def __init__(self, black: float, white: float) -> None:
        super().__init__()
        self.black, self.white = black, white

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B,)."""
        return torch.where(x[:, 0, 0, 0] < 0, self.black, self.white)


def best_discriminator() -> Measurement:
    """Real images black with 0.2, generated ones with 0.5, D = p / (p + q): 2 ln 2 - 2 JSD(p, q) nats."""
    p, q = np.array([0.2, 0.8]), np.array([0.5, 0.5])
    mid = (p + q) / 2
    true = 2 * math.log(2) - float((p * np.log(p / mid)).sum() + (q * np.log(q / mid)).sum())
    model = zoo("dcgan", DataSpec(1, 2, 2, 2), latent=2, width=1, critic_width=1, doublings=1)
    model.generator, model.discriminator = Alphabet(), BestCritic(*np.log(p / q).tolist())
    x = torch.cat([torch.full((200, 1, 2, 2), -1.0), torch.full((800, 1, 2, 2), 1.0)])
    gen = seeded(0)
    losses = [float(model.loss(Batch(x, x), "discriminator", 0, gen).total) for _ in range(100)]
    return average(losses, true)


# ---- training and drawing --------------------------------------------------------------------------------------------


def moving_average() -> Measurement:
    """A weight that changes once from 1 to 3, four steps of decay 0.2: the factors are 1/10, 2/11, 0.2, 0.2."""
    layer = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(layer.weight)
    average_ = MovingAverage(layer, 0.2)
    nn.init.constant_(layer.weight, 3.0)
    for step in range(4):
        average_.update(layer, step)
    return Measurement(float(average_.state()[0]), 3 - 2 * 0.1 * (2 / 11) * 0.2**2, 1e-12)


def grey_levels() -> Measurement:
    """How many of 2, 17 and 256 levels change by conversion to [-1, 1] and back with errors of up to 0.49 of a step."""
    wrong = 0
    for levels in (2, 17, 256):
        k = torch.arange(levels).to(torch.uint8)
        for move in (-0.49, 0.0, 0.49):
            wrong += int((to_pixels(to_unit_range(k, levels) + move * 2 / (levels - 1), levels) != k).sum())
    return Measurement(wrong, 0, 0)


def independent_images(name: str, **sampler: Any) -> Measurement:
    """How many pixels of the first 30 images change when 75 are drawn instead of 30, in blocks of 20."""
    model = zoo(name, DataSpec(1, 8, 8, 17), sampler)
    few, many = draw(model, 30, seed=5, block=20), draw(model, 75, seed=5, block=20)
    return Measurement(int((few.pixels != many.pixels[:30]).sum()), 0, 0)


def later(function: Callable[..., Measurement], *arguments: Any, **options: Any) -> Callable[[], Measurement]:
    """The function with its arguments, to be measured later."""
    return lambda: function(*arguments, **options)


SAMPLER_PROBLEMS = (
    KnownProblem("DDIM, eta 0, 10 steps: samples / noise", "Song et al. 2021, eq. 12", later(deterministic_spread, 10)),
    KnownProblem("DDIM, eta 0, 50 steps: samples / noise", "Song et al. 2021, eq. 12", later(deterministic_spread, 50)),
    KnownProblem("DDIM, eta 0, 50 quadratic: samples / noise", "Song et al. 2021, appendix D.2", quadratic_spread),
    KnownProblem("DDIM, eta 1, 10 steps: std", "Song et al. 2021, eq. 12, 16", later(noisy_spread, 10)),
    KnownProblem("DDIM, eta 1, 50 steps: std", "Song et al. 2021, eq. 12, 16", later(noisy_spread, 50)),
    KnownProblem(
        "DDPM, 1,000 steps, small variance: std", "Ho et al. 2020, Algorithm 2", later(ancestral_spread, "small")
    ),
    KnownProblem(
        "DDPM, 1,000 steps, large variance: std", "Ho et al. 2020, Algorithm 2", later(ancestral_spread, "large")
    ),
    KnownProblem("DDPM's loss at the best network", "Ho et al. 2020, eq. 14; Var(eps | x_t)", denoising_loss),
    KnownProblem("DDPM's bound of N(0, 1/4) (bits/dim)", "Ho et al. 2020, eq. 5", fine_bound),
    KnownProblem("DDPM's bound of level 150 of 256 (bits/dim)", "Ho et al. 2020, eq. 5, 13; quadrature", grey_bound),
    KnownProblem("probability flow, level 150 of 256 (bits/dim)", "Song et al. 2021 (SDE), eq. 39", flow_bits),
    KnownProblem("DCGAN's loss at D = p / (p + q) (nats)", "Goodfellow et al. 2014, theorem 1", best_discriminator),
    KnownProblem("moving average of weights, 4 steps", "product of warm-up factors", moving_average),
    KnownProblem("grey levels that rounding gets wrong", "nearest level", grey_levels),
    KnownProblem(
        "pixels that the number drawn changes, DDIM",
        "image i is of (weights, seed, i)",
        later(independent_images, "ddim", steps=5, eta=1.0),
    ),
)
