"""Denoising diffusion implicit models (Song, Meng and Ermon, ICLR 2021, arXiv:2010.02502).

Implemented: generation along a subsequence of the T steps with the family of variances between eta = 0 (deterministic,
the DDIM) and eta = 1 (as DDPM with the small variance) (eq. 12 and 16), the paper's two subsequences (appendix D.2),
and the deterministic process from an image to its noise (section 4.3). Training, network and weights are DDPM's
(section 3.2: L_simple does not depend on eta), so DDIM can sample with the weights of any DDPM, whether they predict
eps, x_0 or v; a learned variance is ignored.

Deviations
- "uniform" is floor(i T / S). This equals the released code's range(0, T, T // S) if S divides T, and always has
  exactly S steps.
- "quadratic" is floor(0.8 T (i / (S - 1))^2) as in the released code, but a repeated time is used once: at eta = 0
  the repetition would change nothing and would cost an evaluation.
- "trailing" starts at t = T - 1, as Lin et al. 2023 recommend (arXiv:2305.08891, section 3.3). It is the default with
  the cosine schedule. With few uniform times, x_t at the last of them still contains part of the image (a quarter of
  its variance at T = 100 and S = 3), but the chain starts from pure noise.
- clip: the predicted x_0 is clamped to [-1, 1] as in DDPM; the paper does not clamp (clip = False). With the cosine
  schedule alpha_T is so small that errors of eps are multiplied by thousands, and chains from t = T - 1 diverge without
  clipping.
- Samples are clamped to [-1, 1] at the end.

DDIM declares no likelihood bound: DDPM's bound is of the ancestral chain, and a deterministic chain has none. The
estimate by the probability-flow ODE, which eta = 0 integrates (section 4.3), depends only on the weights, as DDPM's.

Symbols (those of zoo.ddpm, where alpha_bar is what this paper calls alpha)
    paper           here                            shape
    tau, S          times, len(times)               list of int, increasing
    alpha_tau_i     alpha[i]                        (S,)
    alpha_tau_i-1   before[i]                       (S,), 1 at the start
    sigma_tau_i     sigma[i]                        (S,)
    f_theta         x_0                             (B, C, H, W)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from genbench.contract import Condition, Count, DataSpec, Share
from genbench.errors import ModelError
from zoo.ddpm import Denoiser, Diffusion, Schedule, gaussian_noise, x_0_factors


@dataclass(frozen=True)
class ImplicitSampler:
    """Options of implicit sampling.

    steps: S, at most T. eta: noise, from 0 (none; the paper's DDIM) to 1 (as much as DDPM's small variance). spacing:
    "uniform" (paper, except CIFAR-10), "quadratic" (paper, CIFAR-10) or "trailing" (starts at t = T - 1); None is
    "uniform" with the linear schedule and "trailing" with the cosine. clip: clamp the predicted x_0 to [-1, 1].
    """

    steps: Count = 50
    eta: Share = 0.0
    spacing: Literal["uniform", "quadratic", "trailing"] | None = None
    clip: bool = True


# ---- mathematics ------------------------------------------------------------------------------------------------


def timesteps(total: int, steps: int, spacing: str) -> list[int]:
    """The increasing subsequence tau of 0 .. total-1 (appendix D.2), in exact integer arithmetic."""
    if spacing == "trailing":
        return [(i + 1) * total // steps - 1 for i in range(steps)]
    if spacing == "quadratic":
        return sorted({4 * total * i**2 // (5 * max(steps - 1, 1) ** 2) for i in range(steps)})
    return [i * total // steps for i in range(steps)]


def alpha_pairs(schedule: Schedule, times: list[int]) -> tuple[Tensor, Tensor]:
    """Alpha at each time and at the time before it in the list, 1 before the first: two (S,) float64."""
    alpha = schedule.alpha_bar[times]
    return alpha, torch.cat([torch.ones(1, dtype=torch.float64), alpha[:-1]])


def noise_factors(kind: str, signal: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of x_t and of the prediction in the noise; kind: "eps", "x0" or "v"."""
    if kind == "v":
        return spread, signal
    return (1 / spread, -signal / spread) if kind == "x0" else (torch.zeros_like(signal), torch.ones_like(signal))


@torch.no_grad()
def implicit(
    predict: Denoiser, schedule: Schedule, x: Tensor, times: list[int], sampler: ImplicitSampler, gen: Generator,
    kind: str = "eps",
) -> Tensor:  # fmt: skip
    """Runs the generative process along increasing `times` from their end (eq. 12): x (B, ...) ~ N(0, I) to (B, ...).

    eps in eq. 12 is computed from x_t and the predicted x_0; it is eps_theta unless x_0 was clipped. kind: the
    network's target, "eps", "x0" or "v".
    """
    alpha, before = alpha_pairs(schedule, times)
    sigma = sampler.eta * ((1 - before) / (1 - alpha) * (1 - alpha / before)).sqrt()  # eq. 16
    of_x_t = ((1 - before - sigma.square()) / (1 - alpha)).sqrt()
    of_x_0 = (before.sqrt() - of_x_t * alpha.sqrt()).tolist()
    from_x, from_prediction = (c.tolist() for c in x_0_factors(kind, alpha.sqrt(), (1 - alpha).sqrt()))
    of_x, noise = of_x_t.tolist(), sigma.tolist()
    t = torch.tensor(times, device=x.device)[:, None].expand(-1, len(x))
    for i in reversed(range(len(times))):
        x_0 = x * from_x[i] + predict(x, t[i]) * from_prediction[i]  # eq. 9
        if sampler.clip:
            x_0 = x_0.clamp_(-1, 1)
        x = x_0.mul_(of_x_0[i]).add_(x, alpha=of_x[i])
        if noise[i] > 0:
            x = x.add_(gaussian_noise(x.shape, gen), alpha=noise[i])
    return x


@torch.no_grad()
def inverted(predict: Denoiser, schedule: Schedule, x: Tensor, times: list[int], kind: str = "eps") -> Tensor:
    """Runs the deterministic process backwards, from images x (B, ...) to their noise (B, ...) (section 4.3, eq. 14).

    Euler steps of the same differential equation in the other direction: `implicit` without clipping returns to x
    within O(1 / S). The first step evaluates the network at the first time, because it was not trained without noise.
    """
    alpha, before = alpha_pairs(schedule, times)
    of_x = (alpha / before).sqrt()
    of_eps = (1 - alpha).sqrt() - of_x * (1 - before).sqrt()
    evaluated = torch.cat([alpha[:1], alpha[:-1]])
    from_x, from_prediction = noise_factors(kind, evaluated.sqrt(), (1 - evaluated).sqrt())
    factors = (of_x + of_eps * from_x).tolist(), (of_eps * from_prediction).tolist()
    t = torch.tensor([times[0], *times[:-1]], device=x.device)[:, None].expand(-1, len(x))
    for i, (kept, added) in enumerate(zip(*factors, strict=True)):
        x = (x * kept).add_(predict(x, t[i]), alpha=added)
    return x


# ---- model ------------------------------------------------------------------------------------------------------


class DDIM(Diffusion):
    """Samples along a subsequence of the steps, with the weights of a DDPM or its own."""

    Sampler = ImplicitSampler

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        super().__init__(data, config, sampler)
        if self.sampler.steps > self.config.steps:
            raise ModelError(
                f"DDIM: sampler.steps: found {self.sampler.steps}, allowed: at most config.steps, {self.config.steps}"
            )
        usual = "trailing" if self.config.schedule == "cosine" else "uniform"
        self.sampler = replace(self.sampler, spacing=self.sampler.spacing or usual)
        self.times = timesteps(self.config.steps, self.sampler.steps, self.sampler.spacing)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Draws n images (n, C, H, W) in [-1, 1]."""
        x = gaussian_noise((n, *self.data.shape), gen)
        arguments = (self.predict, self.schedule, x, self.times, self.sampler, gen)
        return implicit(*arguments, self.config.prediction).clamp(-1, 1)

    def invert(self, x: Tensor) -> Tensor:
        """The noise (B, C, H, W) from which the sampler with eta = 0 draws images x in [-1, 1], within O(1 / S)."""
        return inverted(self.predict, self.schedule, x, self.times, self.config.prediction)

    @property
    def evaluations(self) -> int:
        """The number of steps: S, or fewer if "quadratic" repeats times."""
        return len(self.times)
