"""Denoising diffusion probabilistic models (Ho, Jain and Abbeel, NeurIPS 2020, arXiv:2006.11239).

Implemented: the forward process with fixed variances, a network that predicts the noise, training on L_simple (eq. 14,
Algorithm 1), ancestral sampling (Algorithm 2) with either fixed variance of section 3.2, and the full variational bound
of the discrete pixels (eq. 5) with the discretised Gaussian decoder (eq. 13). Options: the network predicts x_0
(section 3.2) or v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (Salimans and Ho 2022, arXiv:2202.00512, appendix
D), and the loss is the squared error of the prediction or L_simple of the eps that it implies. From N (Nichol and
Dhariwal 2021, arXiv:2102.09672): the cosine schedule (eq. 17), and variances learned by the network (eq. 15) with
L_hybrid (eq. 16).

Deviations
- Below 32x32 the presets have T = 100 and a small U-Net, which a CPU trains and samples within minutes. They use N's
  cosine schedule and learned variances, because the paper's choices need many steps; v, because near t = T, where this
  schedule leaves almost no signal, a small error of eps is a large error of x_0; and times multiplied by 1000 / T,
  because the sinusoids were designed for T = 1000. They have no dropout, small batches, a learning rate that decays to
  0 and a shorter moving average.
- The decoder's half-bin is 1 / (levels - 1), which is the paper's 1/255 at 256 grey levels. The bound evaluates all T
  terms for every image; the paper draws t at random. Samples are clamped to [-1, 1].
- For v of N's eq. 15 the network predicts 2 v - 1, not limited to [-1, 1], and L_vlb is in bits/dim, as in N's code.

Symbols
    paper           here                            shape
    T               config.steps
    t               t, counted from 0               (B,) or int: t here is t - 1 there
    x_0, x_t        x_0, x_t                        (B, C, H, W)
    beta_t          schedule.beta[t]                (T,)
    alpha_bar_t     schedule.alpha_bar[t]           (T,); signal is its root, spread the root of 1 - alpha_bar_t
    beta_tilde_t    schedule.posterior_variance[t]  (T,)
    sigma_t^2       exp(log_variance[t])            (T,), or (B, C, H, W) where the network learns it
    eps_theta       denoiser(x_t, t).noise          (B, C, H, W)
    v of N          fraction = 2 v - 1              (B, C, H, W), C additional output channels of the network
    mu_tilde_t      posterior_mean                  two (T,): factors of x_0 and of x_t
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Lt
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
    Weight,
)
from genbench.contract import DiffusersPart as Part
from genbench.contract import DiffusersParts as Parts
from genbench.errors import ModelError
from genbench.space import seeded, to_unit_range
from zoo.denoising import (
    PREDICTIONS,
    Denoiser,
    Schedule,
    cosine_betas,
    gaussian_noise,
    linear_betas,
    q_sample,
    run,
)
from zoo.nets import UNetSizes, small_recipe, small_sizes, usual_sizes
from zoo.portable import from_diffusers, is_diffusers_unet, refuse_other_unet, unet_part
from zoo.probability_flow import flow_estimate, schedule_nodes

Beta = Annotated[float, Gt(0), Lt(1)]
PAIRS_PER_CALL = 256  # (image, t) pairs of the bound in one network call
EMBEDDED_STEPS = 1000  # the time embedding's input is always within 0 .. 1000


@dataclass(frozen=True)
class Config(UNetSizes):
    """Sizes and constants; the paper's CIFAR-10 values are the defaults.

    steps: T. schedule: "linear" (paper) or "cosine". beta_first, beta_last: ends of the linear schedule. prediction:
    the network's target, "eps" (paper), "x0" or "v". error: the loss is the squared error of the prediction ("own") or
    of the noise that it implies ("eps"). variance: of the reverse steps, "fixed" (paper) or "learned". bound_weight:
    lambda of L_hybrid, used if the variance is learned.
    The other fields: zoo.nets.UNetSizes.
    """

    steps: Annotated[int, Ge(2)] = 1000
    schedule: Literal["linear", "cosine"] = "linear"
    beta_first: Beta = 1e-4
    beta_last: Beta = 0.02
    prediction: Literal["eps", "x0", "v"] = "eps"
    error: Literal["own", "eps"] = "own"
    variance: Literal["fixed", "learned"] = "fixed"
    bound_weight: Weight = 1e-3


@dataclass(frozen=True)
class AncestralSampler:
    """Options of ancestral sampling.

    variance: sigma_t^2 of the reverse steps, "large" (beta_t, optimal for x_0 ~ N(0, I); the paper's CIFAR-10), "small"
    (beta_tilde_t, optimal for a single x_0) or "learned"; None is "learned" if config.variance is, otherwise "large".
    clip: clamp the predicted x_0 to [-1, 1], as the paper does. Both also change the bound, which is of this chain.
    """

    variance: Literal["large", "small", "learned"] | None = None
    clip: bool = True


# ---- process --------------------------------------------------------------------------------------------


def make_schedule(c: Config) -> Schedule:
    """The forward process of a config."""
    cosine = c.schedule == "cosine"
    return Schedule(cosine_betas(c.steps) if cosine else linear_betas(c.steps, c.beta_first, c.beta_last))


def ancestral_step(
    denoiser: Denoiser[Schedule], x: Tensor, t: int, sampler: AncestralSampler, gen: Generator
) -> Tensor:
    """One step of the reverse chain, from x_t (B, ...) to x_{t-1} (Algorithm 2, line 4); no noise in the last step.

    The mean is that of q(x_{t-1} | x_t, x_0) at the predicted x_0, which equals eq. 11 unless x_0 was clipped.
    """
    found, schedule = denoiser(x, t), denoiser.process
    x_0 = found.x_0
    if sampler.clip:
        x_0 = x_0.clamp_(-1, 1)
    of_x_0, of_x_t = schedule.mean_factors[t]
    x = x_0.mul_(of_x_0).add_(x, alpha=of_x_t)
    if t == 0:
        return x
    if sampler.variance == "learned":
        middle, half = schedule.learned_ends[t]
        return x.addcmul_(gaussian_noise(x.shape, gen), (found.additional.to(x) * half).add_(middle).exp_())
    return x.add_(gaussian_noise(x.shape, gen), alpha=schedule.deviations[sampler.variance][t])


def ancestral(denoiser: Denoiser[Schedule], x: Tensor, sampler: AncestralSampler, gen: Generator) -> Tensor:
    """Runs the reverse chain from x ~ N(0, I) (Algorithm 2): (B, ...) to (B, ...)."""
    times = reversed(range(len(denoiser.process.beta)))
    return run(lambda x, t: ancestral_step(denoiser, x, t, sampler, gen), x, times)


# ---- variational bound ------------------------------------------------------------------------------------------


def discretised_gaussian(x: Tensor, mean: Tensor, std: float | Tensor, levels: int) -> Tensor:
    """Log P of grey levels x in [-1, 1] under N(mean, std^2) integrated over each level's bin (eq. 13), in nats.

    x, mean, std, result: (...), the result in the precision of the mean. Adjacent bins share an edge, the lowest bin
    extends to -inf and the highest to inf, so P sums to 1 over the levels. Bins above the mean are mirrored to below
    it, where differences of the distribution function are accurate.
    """
    level = ((x.to(mean) + 1) * ((levels - 1) / 2)).round()
    low = (((2 * level - 1) / (levels - 1) - 1 - mean) / std).masked_fill(level == 0, -math.inf)
    high = (((2 * level + 1) / (levels - 1) - 1 - mean) / std).masked_fill(level == levels - 1, math.inf)
    low, high = torch.where(x > mean, -high, low), torch.where(x > mean, -low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    return log_high + (-(log_low - log_high).exp()).log1p()


def prior_kl(x_0: Tensor, alpha_bar_T: Tensor) -> Tensor:
    """L_T of eq. 5, KL(q(x_T | x_0) || N(0, I)), per pixel in nats: (...)."""
    return 0.5 * (alpha_bar_T * x_0.square() - alpha_bar_T - (-alpha_bar_T).log1p())


def gaussian_kl(log_q: Tensor, log_p: Tensor, distance: Tensor) -> Tensor:
    """KL(N(m, e^log_q) || N(m', e^log_p)) in nats with distance = (m - m')^2; everything broadcasts."""
    return 0.5 * (torch.expm1(log_q - log_p) - (log_q - log_p) + distance * (-log_p).exp())


def predicted_x_0(
    denoiser: Denoiser[Schedule], x_0: Tensor, t: Tensor, sampler: AncestralSampler, gen: Generator
) -> tuple[Tensor, Tensor]:
    """The x_0 predicted from one draw of x_t for K times t (K,) and images x_0 (B, C, H, W), and log sigma_t^2.

    (K, B, C, H, W), and the same or (K, 1, 1, 1, 1): float64 on the CPU. The network's input is float32 on its device.
    """

    def column(values: Tensor) -> Tensor:
        return values[t].view(-1, 1, 1, 1, 1)

    schedule, shape = denoiser.process, (len(t), *x_0.shape)
    signal, spread = column(schedule.signal), column(schedule.spread)
    x_t = q_sample(x_0, gaussian_noise(shape, gen), signal.to(x_0), spread.to(x_0))
    parts = denoiser.predict(x_t.flatten(0, 1), t.to(x_0.device).repeat_interleave(len(x_0)))
    prediction, fraction = (part.to("cpu", torch.float64).unflatten(0, shape[:2]) for part in parts)
    of_x_t, of_prediction = denoiser.kind.x_0(signal, spread)
    guess = of_x_t * x_t.to("cpu", torch.float64) + of_prediction * prediction
    middle, half = (column(c) for c in schedule.learned_range)
    learned = sampler.variance == "learned"
    log_variance = middle + half * fraction if learned else column(schedule.log_variance(sampler.variance))
    return guess.clamp(-1, 1) if sampler.clip else guess, log_variance


@torch.no_grad()
def bound_terms(
    denoiser: Denoiser[Schedule], x_0: Tensor, levels: int, sampler: AncestralSampler, gen: Generator
) -> Tensor:
    """The T + 1 terms of the negative bound (eq. 5) of grey levels x_0 (B, C, H, W): (T + 1, B) nats, float64, CPU.

    Row 0 is L_0 = -log p(x_0 | x_1), the last row L_T, and row t between them KL(q(x_t | x_{t+1}, x_0) || p(x_t |
    x_{t+1})), each with one draw of the conditioning x. The expectation of the rows' sum is at least -log P(x_0).
    """
    exact, schedule = x_0.to("cpu", torch.float64), denoiser.process
    of_x_0, log_q = schedule.posterior_mean[0], schedule.log_variance("small")
    first, log_p = predicted_x_0(denoiser, x_0, torch.zeros(1, dtype=torch.long), sampler, gen)
    rows = [-discretised_gaussian(exact, first, (0.5 * log_p).exp(), levels)]
    for t in torch.arange(1, len(log_q)).split(max(1, PAIRS_PER_CALL // len(x_0))):
        guess, log_p = predicted_x_0(denoiser, x_0, t, sampler, gen)
        log_q_t, factor = (v[t].view(-1, 1, 1, 1, 1) for v in (log_q, of_x_0))
        rows.append(gaussian_kl(log_q_t, log_p, (factor * (exact - guess)).square()))  # the means differ only in x_0
    rows.append(prior_kl(exact, schedule.alpha_bar[-1])[None])
    return torch.cat(rows).flatten(2).sum(2)


# ---- models -----------------------------------------------------------------------------------------------------


class Diffusion(Model, Steps, LikelihoodEstimate):
    """A network trained to predict the noise in x_t, or x_0 or v; subclasses implement sampling.

    Neither the weights nor the estimated likelihood depend on the sampler, so subclasses can share weights.
    """

    family = "diffusion"
    Config = Config
    constants: Tensor

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        super().__init__(data, config, sampler)
        c = self.config
        self.schedule, self.kind = make_schedule(c), PREDICTIONS[c.prediction]
        q, of_x_0 = self.schedule, self.kind.x_0(self.schedule.signal, self.schedule.spread)[1].abs()
        factor = q.signal / q.spread * of_x_0 if c.error == "eps" else torch.ones_like(q.signal)  # eq. 4 solved for eps
        rows = (q.signal, q.spread, factor, *q.learned_range, q.log_variance("small"), q.posterior_mean[0])
        self.register_buffer("constants", torch.stack(rows).float(), persistent=False)
        outputs = (2 if c.variance == "learned" else 1) * data.channels
        self.network = c.network(data, EMBEDDED_STEPS / c.steps, outputs)

    @classmethod
    def preset(cls, data: DataSpec) -> Any:
        """The paper's choices from 32x32; below, the small ones."""
        return Diffusion.small(data)[0] if min(data.height, data.width) < 32 else Config(**usual_sizes(data))

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """The paper's recipes (appendix B): CIFAR-10's 800,000 steps from 32x32, CelebA-HQ's 500,000 from 256x256.

        Below 32x32 the small one.
        """
        side = min(data.height, data.width)
        if side >= 256:
            return Recipe(lr=2e-5, batch=64, warmup=5_000, clip=1.0, ema=0.9999, flip=True, images=32_000_000)
        if side >= 32:
            return Recipe(lr=2e-4, batch=128, warmup=5_000, clip=1.0, ema=0.9999, flip=True, images=102_400_000)
        return Diffusion.small(data)[1]

    @classmethod
    def small(cls, data: DataSpec) -> tuple[Any, Recipe]:
        """Nichol and Dhariwal's choices with T = 100, which a CPU trains and samples within minutes."""
        sizes = small_sizes(data)
        config = Config(steps=100, schedule="cosine", prediction="v", error="eps", variance="learned", **sizes)
        return config, small_recipe(data)

    def adopted(self, state: Mapping[str, Tensor], settings: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """Weights of diffusers' UNet2DModel, e.g. of google/ddpm-cifar10-32, under the names of this network."""
        if not is_diffusers_unet(state):
            return state
        refuse_other_unet(settings, self.config.padding, self.config.groups)
        return {f"network.{name}": tensor for name, tensor in from_diffusers(state).items()}

    def as_pipeline(self, scheduler: str, settings: dict[str, Any], pipeline: str, call: dict[str, Any]) -> Parts:
        """The network and the process as those of diffusers, drawn by this scheduler and pipeline."""
        steps, kinds = self.config.steps, {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
        process = {
            "num_train_timesteps": steps, "trained_betas": self.schedule.beta.tolist(),
            "clip_sample": self.sampler.clip, "prediction_type": kinds[self.config.prediction],
        }  # fmt: skip
        times = None if self.network.embed.scale == 1 else range(steps)
        unet = unet_part(self.network, self.data.shape, times)
        parts = {"unet": unet, "scheduler": Part(f"diffusers:{scheduler}", process | settings)}
        return Parts(f"diffusers:{pipeline}", parts, call)

    @property
    def denoiser(self) -> nn.Module:
        """The network that predicts eps, x_0 or v."""
        return self.network

    @property
    def denoising(self) -> Denoiser[Schedule]:
        """The network with its process and prediction, which samplers and likelihoods use."""
        return Denoiser(self.network, self.schedule, self.kind)

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """L_simple (eq. 14) or the error that config.error selects; L_hybrid if the variance is learned (N, eq. 16)."""
        t = torch.randint(self.config.steps, (len(batch.x),), generator=gen, device=gen.device)
        noise = gaussian_noise(batch.x.shape, gen)
        *scales, factor = self.constants[:3, t, None, None, None].unbind()
        x_t = q_sample(batch.x, noise, *scales)
        output = self.network(x_t, t, gen if self.training else None)
        prediction, fraction = output.tensor_split([self.data.channels], dim=1)
        exact = self.kind.target(batch.x, noise, *scales)
        error = (factor * (prediction - exact)).square().mean()
        if self.config.variance == "fixed":
            return Loss(error, {"mse": error})
        bound = self.variance_loss(batch.x, x_t, t, prediction.detach(), fraction)
        return Loss(error + self.config.bound_weight * bound, {"mse": error, "bound": bound})

    def variance_loss(self, x_0: Tensor, x_t: Tensor, t: Tensor, prediction: Tensor, fraction: Tensor) -> Tensor:
        """L_vlb (N, eq. 4) estimated from one term per image: T times their mean, in bits/dim, without L_T: a scalar.

        fraction: 2 v - 1 of N's eq. 15. prediction: without gradient, so that L_vlb trains the variance only (N,
        section 3.1). Nothing is clipped.
        """
        signal, spread, _, middle, half, log_q, factor = self.constants[:, t, None, None, None].unbind()
        of_x_t, of_prediction = self.kind.x_0(signal, spread)
        guess, log_p = of_x_t * x_t + of_prediction * prediction, middle + half * fraction
        is_first = (t == 0)[:, None, None, None]
        # Where the decoder's term is not used, a mean and a deviation at which its gradient is finite.
        mean, log_std = torch.where(is_first, guess, x_0), 0.5 * torch.where(is_first, log_p, middle)
        decoder = -discretised_gaussian(x_0, mean, log_std.exp(), self.data.levels)
        terms = torch.where(is_first, decoder, gaussian_kl(log_q, log_p, (factor * (x_0 - guess)).square()))
        return self.config.steps * terms.mean() / math.log(2)

    def log_prob_estimate(self, pixels: Tensor, gen: Generator | None = None, steps: int = 16) -> Tensor:
        """Log P by the probability-flow ODE; 4 steps evaluations of the network and its gradient: (B,) nats, float64.

        With exact integration and trace it would be a lower bound in expectation, because of the dequantisation. The
        errors of integration and of the one random trace per image have either sign.
        """
        gen = seeded(0, self.device) if gen is None else gen
        nodes = schedule_nodes(self.schedule, steps)
        return flow_estimate(self.denoising, pixels.to(self.device), self.data.levels, nodes, gen)


class DDPM(Diffusion, LikelihoodBound):
    """Ancestral sampling (Algorithm 2), and the variational bound of the same chain."""

    Sampler = AncestralSampler

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        """Builds the network. Raises ModelError when the sampler needs a learned variance and config's is fixed."""
        super().__init__(data, config, sampler)
        learns = self.config.variance == "learned"
        variance = self.sampler.variance or ("learned" if learns else "large")
        if variance == "learned" and not learns:
            allowed = "large, small with config.variance 'fixed'"
            raise ModelError(f"DDPM: sampler.variance: found 'learned', allowed: {allowed}")
        self.sampler = replace(self.sampler, variance=variance)

    def for_diffusers(self) -> Parts:
        """As DDPMPipeline."""
        variance = {"large": "fixed_large", "small": "fixed_small", "learned": "learned_range"}[self.sampler.variance]
        call = {"num_inference_steps": self.config.steps}
        return self.as_pipeline("DDPMScheduler", {"variance_type": variance}, "DDPMPipeline", call)

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Draws n images (n, C, H, W) in [-1, 1]."""
        x = gaussian_noise((n, *self.data.shape), gen)
        return ancestral(self.denoising, x, self.sampler, gen).clamp(-1, 1)

    @property
    def evaluations(self) -> int:
        """T."""
        return self.config.steps

    def log_prob_bound(self, pixels: Tensor, gen: Generator | None = None) -> Tensor:
        """Minus the sum of the terms of eq. 5, each with one draw of x_t: (B,) nats, float64 on the CPU."""
        x_0 = to_unit_range(pixels, self.data.levels).to(self.device)
        gen = seeded(0, self.device) if gen is None else gen
        return -bound_terms(self.denoising, x_0, self.data.levels, self.sampler, gen).sum(0)
