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

Symbols (those of zoo.denoising, where alpha_bar is what this paper calls alpha)
    paper           here                            shape
    tau, S          times, len(times)               list of int, increasing
    alpha_tau_i     alpha                           number
    alpha_tau_i-1   alpha_before                    number, 1 at the start
    sigma_tau_i     sigma                           number
    f_theta         x_0                             (B, C, H, W)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Generator, Tensor

from genbench.contract import Condition, Count, DataSpec, Share
from genbench.contract import DiffusersPart as Part
from genbench.contract import DiffusersParts as Parts
from genbench.errors import ModelError
from zoo.ddpm import Diffusion
from zoo.denoising import Denoiser, Schedule, gaussian_noise, run
from zoo.portable import unet_part


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


def chain_places(total: int, steps: int, spacing: str) -> list[tuple[int, int | None]]:
    """The times of a chain of at most `total` steps with the time after each, from noise to image; None: the image.

    spacing: "trailing", or "leading" (one step later than "uniform", and the last place is followed by the first step).
    """
    if spacing == "trailing":
        times, last = timesteps(total, steps, "trailing"), None
    else:
        times, last = [t + 1 for t in timesteps(total, steps, "uniform")], 0
    return list(zip(times, [last, *times[:-1]], strict=True))[::-1]


def alpha_pair(schedule: Schedule, t: int, before: int | None) -> tuple[float, float]:
    """Alpha at a time and at an earlier one; 1 before the first, which is None."""
    return schedule.alphas[t], 1.0 if before is None else schedule.alphas[before]


def implicit_step(
    denoiser: Denoiser[Schedule], x: Tensor, t: int, before: int | None, sampler: ImplicitSampler, gen: Generator
) -> Tensor:
    """One step of the generative process (eq. 12), from x (B, ...) at t to the earlier time, None for the image.

    eps in eq. 12 is computed from x_t and the predicted x_0; it is eps_theta unless x_0 was clipped.
    """
    alpha, alpha_before = alpha_pair(denoiser.process, t, before)
    sigma = sampler.eta * math.sqrt((1 - alpha_before) / (1 - alpha) * (1 - alpha / alpha_before))  # eq. 16
    of_x_t = math.sqrt(max(1 - alpha_before - sigma * sigma, 0.0) / (1 - alpha))
    of_x_0 = math.sqrt(alpha_before) - of_x_t * math.sqrt(alpha)
    x_0 = denoiser(x, t).x_0  # eq. 9
    if sampler.clip:
        x_0 = x_0.clamp_(-1, 1)
    x = x_0.mul_(of_x_0).add_(x, alpha=of_x_t)
    return x.add_(gaussian_noise(x.shape, gen), alpha=sigma) if sigma > 0 else x


def implicit(
    denoiser: Denoiser[Schedule], x: Tensor, times: list[int], sampler: ImplicitSampler, gen: Generator
) -> Tensor:
    """Runs the generative process along increasing `times` from their end: x (B, ...) ~ N(0, I) to (B, ...)."""
    places = list(zip(times, [None, *times[:-1]], strict=True))[::-1]
    return run(lambda x, place: implicit_step(denoiser, x, *place, sampler, gen), x, places)


def inverted(denoiser: Denoiser[Schedule], x: Tensor, times: list[int]) -> Tensor:
    """Runs the deterministic process backwards, from images x (B, ...) to their noise (B, ...) (section 4.3, eq. 14).

    Euler steps of the same differential equation in the other direction: `implicit` without clipping returns to x
    within O(1 / S). The first step evaluates the network at the first time, because it was not trained without noise.
    """

    def step(x: Tensor, place: tuple[int, int | None]) -> Tensor:
        t, before = place
        alpha, alpha_before = alpha_pair(denoiser.process, t, before)
        of_x = math.sqrt(alpha / alpha_before)
        of_noise = math.sqrt(1 - alpha) - of_x * math.sqrt(1 - alpha_before)
        return denoiser(x, t if before is None else before).noise.mul_(of_noise).add_(x, alpha=of_x)

    return run(step, x, list(zip(times, [None, *times[:-1]], strict=True)))


def without_variance(unet: Part, channels: int) -> Part:
    """The network with the first output channels alone: DDIM ignores a learned variance."""

    def weights(name: str) -> Tensor:
        assert unet.weights is not None
        tensor = unet.weights(name)
        return tensor[:channels] if name in ("conv_out.weight", "conv_out.bias") else tensor

    return replace(unet, settings=unet.settings | {"out_channels": channels}, weights=weights)


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

    def for_diffusers(self) -> Parts:
        """As DDIMPipeline.

        Where DDIMScheduler does not have the spacing of times, the pipeline's process consists of these times alone:
        betas between them, and a network that receives their positions.
        """
        spacing = {"uniform": "leading", "trailing": "trailing"}.get(self.sampler.spacing)
        settings: dict[str, Any] = {"timestep_spacing": spacing or "leading"}
        times: list[int] | None = None if self.network.embed.scale == 1 else list(range(self.config.steps))
        if spacing is None or self.config.steps % self.sampler.steps:
            alpha_bar, times = self.schedule.alpha_bar[self.times], self.times
            before = torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]])
            settings = {"num_train_timesteps": len(times), "trained_betas": (1 - alpha_bar / before).tolist()}
        call = {"num_inference_steps": len(self.times), "eta": self.sampler.eta, "use_clipped_model_output": True}
        parts = self.as_pipeline("DDIMScheduler", settings, "DDIMPipeline", call)
        unet = without_variance(unet_part(self.network, self.data.shape, times), self.data.channels)
        return replace(parts, parts=parts.parts | {"unet": unet})

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Draws n images (n, C, H, W) in [-1, 1]."""
        x = gaussian_noise((n, *self.data.shape), gen)
        return implicit(self.denoising, x, self.times, self.sampler, gen).clamp(-1, 1)

    def invert(self, x: Tensor) -> Tensor:
        """The noise (B, C, H, W) from which the sampler with eta = 0 draws images x in [-1, 1], within O(1 / S)."""
        return inverted(self.denoising, x, self.times)

    @property
    def evaluations(self) -> int:
        """The number of steps: S, or fewer if "quadratic" repeats times."""
        return len(self.times)
