"""Likelihood of a diffusion model by its probability flow (Song et al., ICLR 2021, arXiv:2011.13456, eq. 13, app. D).

A diffusion process has an ordinary differential equation whose solutions have the same marginals; the predicted noise
determines its right-hand side. Integrating it from an image to noise gives the image's log density: the log density of
the noise plus the integral of the divergence.

Every process here is x = signal x_0 + spread eps, so the flow's slope, with any quantity as the time, is

    dx / dplace = signal' x_0 + spread' eps

at the x_0 and eps that the network predicts (eq. 13 with the score -eps / spread; Lipman et al. 2023, arXiv:2210.02747,
section 4, for flow matching).

Deviations
- DDPM's continuous process has the same alpha_bar as the discrete one at every step, and theta (below) is linear
  between steps. There the network is evaluated at a fractional t, which the sinusoids allow but training does not
  contain. The integration starts at t = 0, an image with the first step's noise, and ends at the last step whose
  alpha_bar is at least 1e-5.
- A fourth-order Runge-Kutta method with a fixed number of steps, whose theta grows with the square of the step number;
  the paper uses an adaptive method. Every model then costs the same, and each image's result is independent of the
  batch.

Symbols: those of zoo.denoising, and theta with cos theta = signal, sin theta = spread; 0 is the image, pi / 2 the
noise. theta is the place for DDPM.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor

from genbench.space import density_to_mass, dequantise
from zoo.denoising import Denoiser, Level, Line, Schedule

SMALLEST_ALPHA_BAR = 1e-5  # the flow divides by its root; at this value x_t is within 1e-5 nats per pixel of noise
FIRST_TIME = 0.01  # distance from the image at which flows in continuous time start: DDPM's first step has this spread


@dataclass(frozen=True)
class Node:
    """A place on the way from image to noise: its level, and the slopes of signal and spread with respect to place."""

    place: float
    level: Level
    signal_slope: float
    spread_slope: float


def flow_grid(schedule: Schedule, steps: int) -> tuple[Tensor, Tensor]:
    """Angles theta and times t at the ends and middles of the flow's steps: two (2 steps + 1,), increasing.

    theta grows with the square of the step number, because the flow's right-hand side changes fastest near the image.
    """
    count = max(2, int((schedule.alpha_bar >= SMALLEST_ALPHA_BAR).sum()))
    known = torch.atan2(schedule.spread, schedule.signal)[:count]
    ends = torch.lerp(known[0], known[-1], torch.linspace(0, 1, steps + 1, dtype=torch.float64).square())
    angles = torch.cat([ends, (ends[:-1] + ends[1:]) / 2]).sort().values
    before = (torch.searchsorted(known, angles, right=True) - 1).clamp(0, count - 2)
    return angles, before + (angles - known[before]) / (known[before + 1] - known[before])


def angle_node(angle: float, time: float) -> Node:
    """The node of the variance-preserving process (eq. 11) at theta, where the network's time is `time`."""
    sin, cos = math.sin(angle), math.cos(angle)
    return Node(angle, Level(time, cos, sin), -sin, cos)


def schedule_nodes(schedule: Schedule, steps: int) -> list[Node]:
    """The ends and middles of the flow's steps for a DDPM: 2 steps + 1 nodes."""
    angles, times = (values.tolist() for values in flow_grid(schedule, steps))
    return [angle_node(*pair) for pair in zip(angles, times, strict=True)]


def line_nodes(line: Line, image: float, noise: float, steps: int) -> list[Node]:
    """Nodes of a process that is linear in time, from near the image's time to the noise's: 2 steps + 1.

    The distance from the image's time starts at FIRST_TIME and grows with the square of the step number.
    """
    ends = [FIRST_TIME + (1 - FIRST_TIME) * (i / steps) ** 2 for i in range(steps + 1)]
    halves = [(before + after) / 2 for before, after in pairwise(ends)]
    distances = sorted([*ends, *halves])
    times = [image + (noise - image) * distance for distance in distances]
    return [Node(t, line.level(t), line.signal_slope, line.spread_slope) for t in times]


def flow_slope(denoiser: Denoiser[Any], x: Tensor, node: Node, probe: Tensor) -> tuple[Tensor, Tensor]:
    """Slope dx / dplace of the probability flow at x (B, ...), and its divergence by Hutchinson's estimator, (B,).

    probe: random signs of the shape of x, which have mean 0 and variance 1 as required in appendix D.2.
    """
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        prediction = denoiser.evaluated(x, node.level)[0]
        (pulled,) = torch.autograd.grad(prediction, x, probe)
    trace = (pulled * probe).flatten(1).sum(1)
    scales = node.level.signal, node.level.spread
    factors = zip(denoiser.kind.x_0(*scales), denoiser.kind.noise(*scales), strict=True)
    of_x, of_prediction = (node.signal_slope * of_x_0 + node.spread_slope * of_noise for of_x_0, of_noise in factors)
    slope = of_x * x.detach() + of_prediction * prediction.detach()
    return slope, of_x * x[0].numel() + of_prediction * trace


@torch.inference_mode(False)  # inference mode does not allow gradients
@torch.no_grad()
def flow_log_density(
    denoiser: Denoiser[Any], x: Tensor, nodes: Sequence[Node], probe: Tensor, prior: float = 1.0
) -> Tensor:
    """Log density in nats of x (B, ...) at the first node (appendix D.2): (B,). 4 evaluations a step of two nodes.

    Integrates x along the flow to the last node; the result is the log density there under N(0, prior^2 I) plus the
    integral of the divergence. nodes: ends and middles of the steps, an odd number.
    """
    integral = x.new_zeros(len(x))
    for start, middle, end in zip(nodes[:-2:2], nodes[1:-1:2], nodes[2::2], strict=True):
        h = end.place - start.place
        slope_1, div_1 = flow_slope(denoiser, x, start, probe)
        slope_2, div_2 = flow_slope(denoiser, x + h / 2 * slope_1, middle, probe)
        slope_3, div_3 = flow_slope(denoiser, x + h / 2 * slope_2, middle, probe)
        slope_4, div_4 = flow_slope(denoiser, x + h * slope_3, end, probe)
        x = x + h / 6 * (slope_1 + 2 * slope_2 + 2 * slope_3 + slope_4)
        integral = integral + h / 6 * (div_1 + 2 * div_2 + 2 * div_3 + div_4)
    return integral - 0.5 * ((x / prior).square() + math.log(2 * math.pi * prior**2)).flatten(1).sum(1)


def flow_estimate(
    denoiser: Denoiser[Any], pixels: Tensor, levels: int, nodes: Sequence[Node], gen: Generator, prior: float = 1.0
) -> Tensor:
    """Log P in nats of grey levels (B, C, H, W) by the flow, with uniform dequantisation: (B,) float64 on the CPU.

    y in [0, 1) becomes x = (2 y - 1) levels / (levels - 1), which extends half a level beyond [-1, 1], and the flow
    starts at the first node's signal times x: a change of variables with the factor `scale` in every pixel.
    """
    signal = nodes[0].level.signal
    scale, shift = signal * 2 * levels / (levels - 1), signal * levels / (levels - 1)
    x = scale * dequantise(pixels, levels, gen) - shift
    probe = 2 * torch.randint(2, x.shape, generator=gen, device=gen.device).to(x) - 1
    log_density = flow_log_density(denoiser, x, nodes, probe, prior)
    dims = x[0].numel()
    return density_to_mass(log_density + dims * math.log(scale), dims, levels).to("cpu", torch.float64)
