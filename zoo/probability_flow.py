"""Likelihood of a diffusion model by its probability flow (Song et al., ICLR 2021, arXiv:2011.13456, eq. 13, app. D).

A diffusion process has an ordinary differential equation whose solutions have the same marginals; the predicted noise
determines its right-hand side. Integrating it from an image to noise gives the image's log density: the log density of
the noise plus the integral of the divergence.

Deviations
- The continuous process has the same alpha_bar as the discrete one at every step, and theta (below) is linear between
  steps. There the network is evaluated at a fractional t, which the sinusoids allow but training does not contain. The
  integration starts at t = 0, an image with the first step's noise, and ends at the last step whose alpha_bar is at
  least 1e-5.
- A fourth-order Runge-Kutta method with a fixed number of steps, whose theta grows with the square of the step number;
  the paper uses an adaptive method. Every model then costs the same, and each image's result is independent of the
  batch.

Symbols: those of zoo.ddpm, and theta with cos theta = signal, sin theta = spread; 0 is the image, pi / 2 the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Generator, Tensor

from genbench.space import density_to_mass, dequantise

Predictor = Callable[[Tensor, Tensor], Tensor]  # x_t (B, ...) and times (B,) to a prediction like x_t
SMALLEST_ALPHA_BAR = 1e-5  # the flow divides by its root; at this value x_t is within 1e-5 nats per pixel of noise


class Process(Protocol):
    """The attributes of a zoo.ddpm.Schedule that the flow uses, each (T,) float64."""

    @property
    def alpha_bar(self) -> Tensor:
        """Fraction of the image's variance that remains after step t."""

    @property
    def signal(self) -> Tensor:
        """sqrt(alpha_bar)."""

    @property
    def spread(self) -> Tensor:
        """sqrt(1 - alpha_bar)."""


def flow_grid(schedule: Process, steps: int) -> tuple[Tensor, Tensor]:
    """Angles theta and times t at the ends and middles of the flow's steps: two (2 steps + 1,), increasing.

    theta grows with the square of the step number, because the flow's right-hand side changes fastest near the image.
    """
    count = max(2, int((schedule.alpha_bar >= SMALLEST_ALPHA_BAR).sum()))
    known = torch.atan2(schedule.spread, schedule.signal)[:count]
    ends = torch.lerp(known[0], known[-1], torch.linspace(0, 1, steps + 1, dtype=torch.float64).square())
    angles = torch.cat([ends, (ends[:-1] + ends[1:]) / 2]).sort().values
    before = (torch.searchsorted(known, angles, right=True) - 1).clamp(0, count - 2)
    return angles, before + (angles - known[before]) / (known[before + 1] - known[before])


def flow_factors(angle: float, kind: str) -> tuple[float, float]:
    """Factors of x and of a prediction of the kind "eps", "x0" or "v" in the slope dx / d theta of the flow.

    Song et al.'s eq. 13 for the variance-preserving process (eq. 11) and the score -eps / sin theta, with theta as the
    time: (eps - sin(theta) x) / cos(theta), which equals v and (cos(theta) x - x_0) / sin(theta).
    """
    sin, cos = math.sin(angle), math.cos(angle)
    if kind == "v":
        return 0.0, 1.0
    return (cos / sin, -1 / sin) if kind == "x0" else (-sin / cos, 1 / cos)


def flow_slope(
    predict: Predictor, x: Tensor, angle: float, time: float, probe: Tensor, kind: str = "eps"
) -> tuple[Tensor, Tensor]:
    """Slope dx / d theta of the probability flow at x (B, ...), and its divergence by Hutchinson's estimator, (B,).

    The slope is 0 for x_0 ~ N(0, I). probe: random signs of the shape of x, which have mean 0 and variance 1 as
    required in appendix D.2. kind: the network's target.
    """
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        prediction = predict(x, torch.full((len(x),), time, dtype=x.dtype, device=x.device))
        (pulled,) = torch.autograd.grad(prediction, x, probe)
    trace = (pulled * probe).flatten(1).sum(1)
    of_x, of_prediction = flow_factors(angle, kind)
    slope = of_x * x.detach() + of_prediction * prediction.detach()
    return slope, of_x * x[0].numel() + of_prediction * trace


@torch.inference_mode(False)  # inference mode does not allow gradients
@torch.no_grad()
def flow_log_density(
    predict: Predictor, schedule: Process, x: Tensor, steps: int, probe: Tensor, kind: str = "eps"
) -> Tensor:
    """Log density in nats of x (B, ...) at t = 0 (appendix D.2): (B,). Evaluates the network 4 steps times.

    Integrates x along the flow to noise; the result is the noise's log density under N(0, I) plus the integral of the
    divergence.
    """
    angles, times = (values.tolist() for values in flow_grid(schedule, steps))
    integral = x.new_zeros(len(x))
    for i in range(0, 2 * steps, 2):
        h = angles[i + 2] - angles[i]
        slope_1, div_1 = flow_slope(predict, x, angles[i], times[i], probe, kind)
        slope_2, div_2 = flow_slope(predict, x + h / 2 * slope_1, angles[i + 1], times[i + 1], probe, kind)
        slope_3, div_3 = flow_slope(predict, x + h / 2 * slope_2, angles[i + 1], times[i + 1], probe, kind)
        slope_4, div_4 = flow_slope(predict, x + h * slope_3, angles[i + 2], times[i + 2], probe, kind)
        x = x + h / 6 * (slope_1 + 2 * slope_2 + 2 * slope_3 + slope_4)
        integral = integral + h / 6 * (div_1 + 2 * div_2 + 2 * div_3 + div_4)
    return integral - 0.5 * (x.square() + math.log(2 * math.pi)).flatten(1).sum(1)


def flow_estimate(
    predict: Predictor, schedule: Process, pixels: Tensor, levels: int, steps: int, gen: Generator, kind: str = "eps"
) -> Tensor:
    """Log P in nats of grey levels (B, C, H, W) by the flow, with uniform dequantisation: (B,).

    y in [0, 1) becomes x = (2 y - 1) levels / (levels - 1), which extends half a level beyond [-1, 1], and the flow
    starts at signal_0 x: a change of variables with the factor `scale` in every pixel.
    """
    signal = float(schedule.signal[0])
    scale, shift = signal * 2 * levels / (levels - 1), signal * levels / (levels - 1)
    x = scale * dequantise(pixels, levels, gen) - shift
    probe = 2 * torch.randint(2, x.shape, generator=gen, device=gen.device).to(x) - 1
    log_density = flow_log_density(predict, schedule, x, steps, probe, kind)
    dims = x[0].numel()
    return density_to_mass(log_density + dims * math.log(scale), dims, levels)
