"""Flow matching (Lipman, Chen, Ben-Hamu, Nickel and Le, ICLR 2023, arXiv:2210.02747).

Implemented: conditional flow matching with optimal-transport paths. A noise x_0 moves to an image x_1 on the straight
line psi_t(x_0) = (1 - (1 - sigma_min) t) x_0 + t x_1 (eq. 22), and a network predicts the line's velocity at psi_t(x_0)
and t (eq. 23):

    E |v_t(psi_t(x_0)) - (x_1 - (1 - sigma_min) x_0)|^2,   t ~ U[0, 1],  x_0 ~ N(0, I)

The best prediction is the velocity of a flow that turns N(0, I) into the images (theorem 2); samples are its solutions
from t = 0 to t = 1, by Euler's, the midpoint, Heun's or an adaptive Runge-Kutta method. The log density follows from
the same equation (appendix C). Option: within a batch, noise and images are paired so that the sum of their squared
distances is smallest (Tong et al., TMLR 2024, arXiv:2302.00482, OT-CFM; Pooladian et al. 2023, arXiv:2304.14772), which
straightens the flow.

Deviations
- sigma_min is 0, as in OT-CFM's image experiments; the paper says "sufficiently small".
- The U-Net and the recipe from 32x32 are OT-CFM's for CIFAR-10: Ho et al.'s (zoo.ddpm) with 400,000 steps, and here
  with one attention head. The paper's network has 256 channels and trains 391,000 steps of 256 images.
- The paper samples with an adaptive solver, here it is an option; each image has its own steps, where common libraries
  choose them for a whole batch. Optimal pairing uses the exact assignment of a batch, computed on the CPU (a GPU waits
  for it).
- The estimated likelihood is integrated by a Runge-Kutta method with a fixed number of steps from t = 0.99, an image
  with a little noise (zoo.probability_flow); the paper's uses an adaptive method from t = 1.
- Samples are clamped to [-1, 1] at the end. Below 32x32 the network and recipe are DDPM's small ones.

Symbols
    paper           here                            shape
    t               t, 0 noise, 1 image             (B,) or number; the network receives 1000 t
    x_0, x_1        noise, x                        (B, C, H, W)
    psi_t(x_0)      x_t                             (B, C, H, W)
    v_t             network                         (B, C, H, W), (B,) -> (B, C, H, W)
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from annotated_types import Ge, Gt, Lt
from scipy.optimize import linear_sum_assignment
from torch import Generator, Tensor, nn

from genbench.contract import (
    Batch,
    Condition,
    Count,
    DataSpec,
    LikelihoodEstimate,
    Loss,
    Model,
    Recipe,
    Steps,
    across_processes,
    own_rows,
)
from genbench.contract import DiffusersPart as Part
from genbench.contract import DiffusersParts as Parts
from genbench.space import seeded, to_device
from zoo.denoising import Denoiser, Line, gaussian_noise, q_sample, run
from zoo.nets import UNetSizes, small_recipe, small_sizes, usual_sizes
from zoo.portable import unet_part
from zoo.probability_flow import flow_estimate, line_nodes
from zoo.solvers import SOLVERS, adaptive

EMBEDDED_STEPS = 1000  # factor on t, for which the sinusoids of the time embedding were designed


@dataclass(frozen=True)
class FlowMatchingConfig(UNetSizes):
    """Constants, and the sizes of the U-Net (zoo.nets.UNetSizes).

    sigma_min: spread of the path's end. pairing: of noise and images within a batch, "independent" (Lipman et al.) or
    "optimal" (Tong et al.).
    """

    sigma_min: Annotated[float, Ge(0), Lt(1)] = 0.0
    pairing: Literal["independent", "optimal"] = "independent"


@dataclass(frozen=True)
class FlowSampler:
    """Options of sampling.

    steps: of equal length. solver: "euler" (one evaluation a step), "midpoint" or "heun" (two), or "adaptive", which
    chooses the steps of each image for an error of `tolerance` (zoo.solvers.adaptive) and ignores `steps`.
    """

    steps: Count = 50
    solver: Literal["euler", "midpoint", "heun", "adaptive"] = "euler"
    tolerance: Annotated[float, Gt(0)] = 1e-3


def closest_noise(x: Tensor, noise: Tensor) -> Tensor:
    """The noise (B, ...) in the order whose squared distances to x (B, ...) have the smallest sum (Tong et al.).

    The optimal plan between two sets of B points with equal weights is a permutation. Of |x|^2 - 2 x noise + |noise|^2
    only the sum of the products depends on it.
    """
    products = x.flatten(1).double() @ noise.flatten(1).double().T
    columns = linear_sum_assignment(products.cpu().numpy(), maximize=True)[1]
    return noise[to_device(torch.from_numpy(columns), noise.device)]


class FlowMatching(Model, Steps, LikelihoodEstimate):
    """A flow from noise to images whose velocity a network learns."""

    family = "flow matching"
    Config = FlowMatchingConfig
    Sampler = FlowSampler

    def __init__(self, data: DataSpec, config: Any = None, sampler: Any = None) -> None:
        super().__init__(data, config, sampler)
        self.line = Line(signal=0, spread=1, signal_slope=1, spread_slope=self.config.sigma_min - 1)
        self.network = self.config.network(data, EMBEDDED_STEPS)

    @classmethod
    def preset(cls, data: DataSpec) -> Any:
        """Ho et al.'s sizes from 32x32, the small ones below."""
        side = min(data.height, data.width)
        return FlowMatching.small(data)[0] if side < 32 else FlowMatchingConfig(**usual_sizes(data))

    @classmethod
    def recipe(cls, data: DataSpec) -> Recipe:
        """From 32x32 that of Tong et al. for CIFAR-10, 400,000 steps; below, the small one."""
        if min(data.height, data.width) >= 32:
            return Recipe(lr=2e-4, batch=128, warmup=5_000, clip=1.0, ema=0.9999, flip=True, images=51_200_000)
        return FlowMatching.small(data)[1]

    @classmethod
    def small(cls, data: DataSpec) -> tuple[Any, Recipe]:
        """The sizes and the training that zoo.nets has for a CPU."""
        return FlowMatchingConfig(**small_sizes(data)), small_recipe(data)

    @property
    def denoiser(self) -> nn.Module:
        """The network that predicts the velocity."""
        return self.network

    @property
    def denoising(self) -> Denoiser[Line]:
        """The network with its process and prediction."""
        return Denoiser(self.network, self.line, self.line.kind)

    def for_diffusers(self) -> Parts:
        """With Euler's method as DDPMPipeline, with another solver as the pipeline of zoo.ode_pipelines.

        The times of FlowMatchEulerDiscreteScheduler are turned round and end at 1 - 1 / S before the image.
        """
        s, unet = self.sampler, unet_part(self.network, self.data.shape)
        ends = {"shift_terminal": 1 / s.steps} if s.steps > 1 else {}
        times = {"num_train_timesteps": EMBEDDED_STEPS, "invert_sigmas": True, **ends}
        parts = {"unet": unet, "scheduler": Part("diffusers:FlowMatchEulerDiscreteScheduler", times)}
        if s.solver == "euler":
            return Parts("diffusers:DDPMPipeline", parts, {"num_inference_steps": s.steps})
        call = {"num_inference_steps": s.steps, "solver": s.solver, "tolerance": s.tolerance}
        return Parts("zoo.ode_pipelines:FlowPipeline", parts, call)

    def loss(self, batch: Batch, player: str, step: int, gen: Generator) -> Loss:
        """The mean squared error of the velocity (eq. 23)."""
        t = torch.rand(len(batch.x), generator=gen, device=gen.device)
        noise = gaussian_noise(batch.x.shape, gen)
        if self.config.pairing == "optimal":
            noise = own_rows(closest_noise(across_processes(batch.x), across_processes(noise)))
        scales = self.line.scales(t)
        velocity = self.network(q_sample(batch.x, noise, *scales), t, gen if self.training else None)
        error = (velocity - self.line.kind.target(batch.x, noise, *scales)).square().mean()
        return Loss(error, {"mse": error})

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Draws n images (n, C, H, W) in [-1, 1]."""
        x = gaussian_noise((n, *self.data.shape), gen)
        if self.sampler.solver == "adaptive":
            return adaptive(self.network, x, 0.0, 1.0, self.sampler.tolerance).clamp(-1, 1)
        denoising, solver = self.denoising, SOLVERS[self.sampler.solver][0]
        times = [i / self.sampler.steps for i in range(self.sampler.steps + 1)]
        return run(lambda x, place: solver(denoising.at, x, *place), x, pairwise(times)).clamp(-1, 1)

    @property
    def evaluations(self) -> int | None:
        """One or two per step; those of the adaptive solver depend on the image."""
        if self.sampler.solver == "adaptive":
            return None
        return self.sampler.steps * SOLVERS[self.sampler.solver][1]

    def log_prob_estimate(self, pixels: Tensor, gen: Generator | None = None, steps: int = 16) -> Tensor:
        """Log P by integrating the flow from image to noise; 4 steps evaluations of the network and its gradient.

        (B,) nats, float64. The errors of integration and of the one random trace per image have either sign.
        """
        gen = seeded(0, self.device) if gen is None else gen
        nodes = line_nodes(self.line, 1.0, 0.0, steps)
        return flow_estimate(self.denoising, pixels.to(self.device), self.data.levels, nodes, gen)
