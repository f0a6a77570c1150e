"""MeanFlow (Geng, Deng, Bai, Kolter and He, NeurIPS 2025, arXiv:2505.13447).

Implemented: images x and noise eps are joined by straight lines z_t = (1 - t) x + t eps with velocity v = eps - x. A
network u predicts the average velocity of the flow between two times r <= t, u(z_t, r, t) = (z_t - z_r) / (t - r)
(eq. 3), so that one evaluation is one step of any length:

    z_r = z_t - (t - r) u(z_t, r, t)                                                       (eq. 12)

It is trained on the MeanFlow identity u = v - (t - r) du / dt (eq. 6). The right-hand side contains the network itself
and is not differentiated (eq. 9 to 11). du / dt, the derivative along the flow, is one Jacobian-vector product with the
tangent (v, 0, 1) for (z, r, t) (eq. 8). The squared error is divided by (itself + c)^p, without gradient. At r = t the
identity is that of flow matching: u(z, t, t) is the velocity, from which the log density is estimated
(zoo.probability_flow).

Deviations
- The U-Net is that of zoo.nets with half of the time embedding's sinusoids for t and half for t - r (the paper embeds
  both; its U-Net for CIFAR-10 is Song et al.'s of about 55 M parameters), so that it has the parameters of the other
  models' network. Their times are multiplied by 8. From 32x32 the sizes are those of zoo.edm.
- Augmentation is mirroring; the paper uses that of EDM with some operations left out.
- Guidance is not implemented. The estimated likelihood, which the paper does not have, starts at t = 0.01.
- Below 32x32 the recipe is DDPM's small one, and t and r are drawn as for ImageNet (time_mean -0.4, time_std 1).
- Samples are clamped to [-1, 1] at the end.

Symbols
    paper           here                            shape
    x, eps          x, noise                        (B, C, H, W)
    z_t             z                               (B, C, H, W)
    r, t            r, t; 0 image, 1 noise          (B,) or number; the network receives (t, r)
    v               velocity                        (B, C, H, W)
    u               network                         (B, C, H, W), (B, 2) -> (B, C, H, W)
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any

import torch
from annotated_types import Gt
from torch import Generator, Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from genbench.contract import (
    Batch,
    Condition,
    Count,
    DataSpec,
    DiffusersPart,
    DiffusersParts,
    LikelihoodEstimate,
    Loss,
    Model,
    Recipe,
    Share,
    Steps,
    Weight,
)
from genbench.errors import ModelError
from genbench.space import seeded
from zoo.denoising import Denoiser, Line, Network, gaussian_noise, q_sample, run
from zoo.edm import paper_sizes
from zoo.nets import TimeEmbedding, UNetSizes, sinusoid, small_recipe, small_sizes
from zoo.portable import unet_part
from zoo.probability_flow import flow_estimate, line_nodes
from zoo.tangents import FewerOperations

TIME_SCALE = 8  # with DDPM's 1000 the fastest sinusoids dominate du / dt, and one step gives blurred images
LINE = Line(signal=1, spread=0, signal_slope=-1, spread_slope=1)


@dataclass(frozen=True)
class MeanFlowConfig(UNetSizes):
    """Constants, and the sizes of the U-Net (zoo.nets.UNetSizes); the defaults are the paper's for CIFAR-10.

    time_mean, time_std: of the logit of t and r in training. apart: share of images with r != t; the others train the
    velocity. power, offset: p and c of the error's weight 1 / (error + c)^p.
    """

    time_mean: float = -2.0
    time_std: Annotated[float, Gt(0)] = 2.0
    apart: Share = 0.75
    power: Weight = 0.75
    offset: Annotated[float, Gt(0)] = 1e-3


@dataclass(frozen=True)
class MeanFlowSampler:
    """Options of sampling. steps: of equal length, one evaluation each; the paper has 1 and 2."""

    steps: Count = 1


class IntervalEmbedding(TimeEmbedding):
    """The embedding of two times: half of the sinusoids for t, half for t - r."""

    def forward(self, times: Tensor) -> Tensor:
        """Times t and r (B, 2) to (B, 4 dims)."""
        parts = times[:, 0] * self.scale, (times[:, 0] - times[:, 1]) * self.scale
        return self.embedded(torch.cat([sinusoid(part, self.dims // 2) for part in parts], dim=1))


def with_fixed_interval(unet: DiffusersPart, interval: float) -> DiffusersPart:
    """The network as one of t alone, where t - r is always the same.

    Its sinusoids for t are every second one of a UNet2DModel with freq_shift 2; those for t - r go into the bias.
    """

    def weights(name: str) -> Tensor:
        assert unet.weights is not None
        tensor, first = unet.weights(name), unet.weights("time_embedding.linear_1.weight")
        half = first.shape[1] // 2
        if name == "time_embedding.linear_1.bias":
            constant = sinusoid(torch.tensor([interval * TIME_SCALE]), half)[0].double()
            return tensor + (first[:, half:].double() @ constant).to(tensor)
        if name == "time_embedding.linear_1.weight":
            return torch.stack([first[:, :half], torch.zeros_like(first[:, half:])], dim=2).flatten(1)
        return tensor

    return replace(unet, settings=unet.settings | {"freq_shift": 2}, weights=weights)


# ---- training ---------------------------------------------------------------------------------------------------


def two_times(n: int, config: MeanFlowConfig, gen: Generator) -> tuple[Tensor, Tensor]:
    """Times t >= r of n images, (n,) each: the larger and the smaller of two draws, or twice the first."""
    logits = config.time_mean + config.time_std * gaussian_noise((2, n), gen)
    first, second = logits.sigmoid().unbind()
    apart = torch.rand(n, generator=gen, device=gen.device) < config.apart
    second = torch.where(apart, second, first)
    return torch.maximum(first, second), torch.minimum(first, second)


def mean_velocity(network: Network, z: Tensor, t: Tensor, r: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
    """u(z, r, t) and the target of eq. 11, velocity - (t - r) du / dt, without gradient: (B, ...) each.

    z, velocity: (B, ...). t, r: (B,). du / dt is the derivative along the flow, with r fixed (eq. 8).
    """
    attention = sdpa_kernel(SDPBackend.MATH)  # other kernels of attention have no forward-mode derivative
    with attention, FewerOperations(), warnings.catch_warnings(), forward_ad.dual_level():
        warnings.simplefilter("ignore", FutureWarning)  # torch's first use of it imports modules that warn
        times = torch.stack([forward_ad.make_dual(t, torch.ones_like(t)), r], dim=1)
        u, slope = forward_ad.unpack_dual(network(forward_ad.make_dual(z, velocity), times))
    length = (t - r).view(-1, *[1] * (z.dim() - 1))
    change = 0 if slope is None else length * slope  # None: the result depends on neither z nor t
    return u, (velocity - change).detach()


def weighted(error: Tensor, power: float, offset: float) -> Tensor:
    """Squared errors (B,) divided by (themselves + offset)^power, where the divisor has no gradient: (B,)."""
    return error / (error.detach() + offset) ** power


# ---- model ------------------------------------------------------------------------------------------------------


class MeanFlow(Model, Steps, LikelihoodEstimate):
    """A flow from noise to images whose average velocity a network learns: samples from one evaluation."""

    family = "flow matching"
    Config = MeanFlowConfig
    Sampler = MeanFlowSampler

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        """Builds the network. Raises ModelError when the embedding cannot be halved."""
        super().__init__(data, config, sampler)
        c = self.config
        if c.channels % 4 or c.channels < 8:
            raise ModelError(f"MeanFlow: config.channels: found {c.channels}, allowed: a multiple of 4, at least 8")
        self.network = c.network(data, TIME_SCALE)
        embedding = IntervalEmbedding(c.channels, TIME_SCALE)
        embedding.load_state_dict(self.network.embed.state_dict())
        self.network.embed = embedding

    @classmethod
    def preset(cls, data: DataSpec) -> Any:
        """The paper's choices and the sizes of zoo.edm from 32x32, the small ones below."""
        small = min(data.height, data.width) < 32
        return MeanFlow.small(data)[0] if small else MeanFlowConfig(**paper_sizes(data) | {"dropout": 0.2})

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """From 32x32 the paper's for CIFAR-10 (appendix A), 800,000 steps; below, the small one."""
        if min(data.height, data.width) >= 32:
            return Recipe(lr=6e-4, batch=1024, warmup=10_000, ema=0.99995, flip=True, images=819_200_000)
        return MeanFlow.small(data)[1]

    @classmethod
    def small(cls, data: DataSpec) -> tuple[Any, Recipe]:
        """The sizes and the training that zoo.nets has for a CPU."""
        return MeanFlowConfig(**small_sizes(data), time_mean=-0.4, time_std=1.0), small_recipe(data, 38_000)

    @property
    def denoiser(self) -> nn.Module:
        """The network that predicts the average velocity."""
        return self.network

    def for_diffusers(self) -> DiffusersParts:
        """As DDPMPipeline with FlowMatchEulerDiscreteScheduler, for the sampler's number of steps and no other.

        All steps have the same length t - r, so that its sinusoids are a constant.
        """
        steps, unet = self.sampler.steps, unet_part(self.network, self.data.shape)
        ends = {"shift_terminal": 1 / steps} if steps > 1 else {}
        times = {"num_train_timesteps": TIME_SCALE, **ends}
        scheduler = DiffusersPart("diffusers:FlowMatchEulerDiscreteScheduler", times)
        parts = {"unet": with_fixed_interval(unet, 1 / steps), "scheduler": scheduler}
        return DiffusersParts("diffusers:DDPMPipeline", parts, {"num_inference_steps": steps})

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The weighted error of the average velocity (Algorithm 1), the mean over images of sums over pixels."""
        c, rate = self.config, gen if self.training else None
        t, r = two_times(len(batch.x), c, gen)
        noise = gaussian_noise(batch.x.shape, gen)
        scales = LINE.scales(t)
        z, velocity = q_sample(batch.x, noise, *scales), LINE.kind.target(batch.x, noise, *scales)
        u, target = mean_velocity(lambda z, times: self.network(z, times, rate), z, t, r, velocity)
        error = (u - target).square()
        total = weighted(error.flatten(1).sum(1), c.power, c.offset).mean()
        return Loss(total, {"loss": total, "mse": error.mean()})

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Draws n images (n, C, H, W) in [-1, 1] by eq. 12."""
        times = [1 - i / self.sampler.steps for i in range(self.sampler.steps + 1)]
        z = gaussian_noise((n, *self.data.shape), gen)
        return run(self.jump, z, z.new_tensor(list(pairwise(times))).split(1)).clamp_(-1, 1)

    def jump(self, z: Tensor, times: Tensor) -> Tensor:
        """Z (B, ...) at the first of two neighbouring times (1, 2) moved to the second (eq. 12)."""
        return z.add(self.network(z, times.expand(len(z), 2)), alpha=-1 / self.sampler.steps)

    @property
    def evaluations(self) -> int:
        """One a step."""
        return self.sampler.steps

    def log_prob_estimate(self, pixels: Tensor, gen: Generator | None = None, steps: int = 16) -> Tensor:
        """Log P by integrating the velocity u(z, t, t); 4 steps evaluations of the network and its gradient.

        (B,) nats, float64. The errors of integration and of the one random trace per image have either sign.
        """
        gen, nodes = seeded(0, self.device) if gen is None else gen, line_nodes(LINE, 0.0, 1.0, steps)
        denoiser = Denoiser(lambda z, t: self.network(z, torch.stack([t, t], dim=1)), LINE, LINE.kind)
        return flow_estimate(denoiser, pixels.to(self.device), self.data.levels, nodes, gen)
