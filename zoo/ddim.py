"""Denoising diffusion implicit models (Song, Meng and Ermon, ICLR 2021, arXiv:2010.02502).

Implemented: generation along a subsequence of the T steps with the family of variances between eta = 0 (deterministic,
the DDIM) and eta = 1 (as DDPM with the small variance) (eq. 12 and 16), the paper's two subsequences (appendix D.2),
and the deterministic process run from an image to its noise (section 4.3). Training, network and weights are DDPM's
(section 3.2: the same L_simple serves every eta), so a DDIM draws from a DDPM's weights unchanged, whether they predict
eps, x_0 or v; a variance that they learned plays no part.

Deviations
- "uniform" is floor(i T / S), which is the released code's range(0, T, T // S) where S divides T and has exactly S
  steps where it does not.
- "quadratic" is floor(0.8 T (i / (S - 1))^2) as in the released code, but a repeated time is visited once: at eta = 0
  the repetition would do nothing and cost an evaluation.
- "trailing", which starts from t = T - 1, is what Lin et al. 2023 advise (arXiv:2305.08891, section 3.3). It is the
  default with the cosine schedule, whose x_t at the last of few uniform times is still part image (a quarter of its
  variance at T = 100 and S = 3), which the noise that a chain starts from is not.
- clip: the predicted x_0 is kept within [-1, 1] as DDPM does; the paper does not (clip = False). With the cosine
  schedule alpha_T is so small that errors of eps come back multiplied by thousands: unclipped chains that start at
  t = T - 1 fail there.
- Samples are clamped to [-1, 1] at the end.

A DDIM claims no bound: DDPM's is the bound of its own chain, and a deterministic chain has none. The estimate by the
probability-flow ODE, whose steps eta = 0 takes (section 4.3), is that of the weights and so DDPM's.

Symbols (those of zoo.ddpm, where alpha_bar is what this paper calls alpha)
    paper           here                            shape
    tau, S          times, len(times)               list of int, rising
    alpha_tau_i     alpha[i]                        (S,)
    alpha_tau_i-1   before[i]                       (S,), 1 at the start
    sigma_tau_i     sigma[i]                        (S,)
    f_theta         x_0                             (B, C, H, W)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from genbench.contract import Condition, DataSpec
from genbench.errors import ModelError
from zoo.ddpm import Denoiser, Diffusion, Schedule, gaussian_noise, x_0_factors

SPACINGS = ("uniform", "quadratic", "trailing")


@dataclass(frozen=True)
class ImplicitSampler:
    """How DDIM draws.

    steps: S, at most T. eta: noise, from 0 (none; the paper's DDIM) to 1 (as much as DDPM's small variance). spacing:
    "uniform" (the paper's for all but CIFAR-10), "quadratic" (its CIFAR-10) or "trailing" (starts at t = T - 1); None
    is "uniform" with the linear schedule and "trailing" with the cosine. clip: keep the predicted x_0 within [-1, 1].
    """

    steps: int = 50
    eta: float = 0.0
    spacing: str | None = None
    clip: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ModelError(f"ddim: sampler.steps is {self.steps}; allowed: 1 or more, up to config.steps")
        if not 0 <= self.eta <= 1:
            raise ModelError(f"ddim: sampler.eta is {self.eta}; allowed: 0 to 1")
        if self.spacing is not None and self.spacing not in SPACINGS:
            raise ModelError(f"ddim: sampler.spacing is {self.spacing!r}; allowed: {', '.join(SPACINGS)}")


def timesteps(total: int, steps: int, spacing: str) -> list[int]:
    """The rising subsequence tau of 0 .. total-1 (appendix D.2); integers throughout, so nothing rounds."""
    if spacing == "trailing":
        return [(i + 1) * total // steps - 1 for i in range(steps)]
    if spacing == "quadratic":
        return sorted({4 * total * i**2 // (5 * max(steps - 1, 1) ** 2) for i in range(steps)})
    return [i * total // steps for i in range(steps)]


def ladder(schedule: Schedule, times: list[int]) -> tuple[Tensor, Tensor]:
    """Returns alpha at each time and at the one before it in the list, 1 before the first: two (S,) float64."""
    alpha = schedule.alpha_bar[times]
    return alpha, torch.cat([torch.ones(1, dtype=torch.float64), alpha[:-1]])


def noise_factors(kind: str, signal: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Factors of x_t and of the prediction in the noise that they imply."""
    if kind == "v":
        return spread, signal
    return (1 / spread, -signal / spread) if kind == "x0" else (torch.zeros_like(signal), torch.ones_like(signal))


@torch.no_grad()
def implicit(
    said: Denoiser, schedule: Schedule, x: Tensor, times: list[int], sampler: ImplicitSampler, gen: Generator,
    kind: str = "eps",
) -> Tensor:  # fmt: skip
    """Runs the generative process along rising `times` from their end (eq. 12): x (B, ...) ~ N(0, I) to (B, ...).

    eps in eq. 12 is the noise that x_t and the predicted x_0 imply, which is eps_theta unless x_0 was clipped. kind:
    what is predicted, "eps", "x0" or "v".
    """
    alpha, before = ladder(schedule, times)
    sigma = sampler.eta * ((1 - before) / (1 - alpha) * (1 - alpha / before)).sqrt()  # eq. 16
    of_x_t = ((1 - before - sigma.square()) / (1 - alpha)).sqrt()
    of_x_0 = (before.sqrt() - of_x_t * alpha.sqrt()).tolist()
    from_x, from_said = (c.tolist() for c in x_0_factors(kind, alpha.sqrt(), (1 - alpha).sqrt()))
    of_x, noise = of_x_t.tolist(), sigma.tolist()
    t = torch.tensor(times, device=x.device)[:, None].expand(-1, len(x))
    for i in reversed(range(len(times))):
        x_0 = x * from_x[i] + said(x, t[i]) * from_said[i]  # eq. 9
        if sampler.clip:
            x_0 = x_0.clamp_(-1, 1)
        x = x_0.mul_(of_x_0[i]).add_(x, alpha=of_x[i])
        if noise[i] > 0:
            x = x.add_(gaussian_noise(x.shape, gen), alpha=noise[i])
    return x


@torch.no_grad()
def inverted(said: Denoiser, schedule: Schedule, x: Tensor, times: list[int], kind: str = "eps") -> Tensor:
    """Runs the deterministic process backwards, from images x (B, ...) to their noise (B, ...) (section 4.3, eq. 14).

    An Euler step of the same differential equation the other way: `implicit` without clipping returns to x within
    O(1 / S). The network, trained on no image without noise, is asked about x as if it had that of the first time.
    """
    alpha, before = ladder(schedule, times)
    of_x = (alpha / before).sqrt()
    of_eps = (1 - alpha).sqrt() - of_x * (1 - before).sqrt()
    asked = torch.cat([alpha[:1], alpha[:-1]])
    from_x, from_said = noise_factors(kind, asked.sqrt(), (1 - asked).sqrt())
    factors = (of_x + of_eps * from_x).tolist(), (of_eps * from_said).tolist()
    t = torch.tensor([times[0], *times[:-1]], device=x.device)[:, None].expand(-1, len(x))
    for i, (kept, added) in enumerate(zip(*factors, strict=True)):
        x = (x * kept).add_(said(x, t[i]), alpha=added)
    return x


class DDIM(Diffusion):
    """Draws along a subsequence of the steps, from the weights of a DDPM or its own."""

    Sampler = ImplicitSampler

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        super().__init__(data, config, sampler)
        if self.sampler.steps > self.config.steps:
            raise ModelError(f"ddim: sampler.steps is {self.sampler.steps}; allowed: 1 to {self.config.steps}")
        usual = "trailing" if self.config.schedule == "cosine" else "uniform"
        self.sampler = replace(self.sampler, spacing=self.sampler.spacing or usual)
        self.times = timesteps(self.config.steps, self.sampler.steps, self.sampler.spacing)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Draws n images (n, C, H, W) in [-1, 1]."""
        x = gaussian_noise((n, *self.data.shape), gen)
        given = (self.said, self.schedule, x, self.times, self.sampler, gen)
        return implicit(*given, self.config.prediction).clamp(-1, 1)

    def invert(self, x: Tensor) -> Tensor:
        """The noise (B, C, H, W) from which the sampler with eta = 0 draws images x in [-1, 1], within O(1 / S)."""
        return inverted(self.said, self.schedule, x, self.times, self.config.prediction)

    @property
    def evaluations(self) -> int:
        """Steps really taken: S, or less where "quadratic" repeats times."""
        return len(self.times)
