"""Likelihoods of any network that predicts eps, x_0 or v along a discrete-time Gaussian process, whoever trained it.

The process and the bound are those of zoo.ddpm (Ho, Jain and Abbeel 2020, eq. 5 and 13), the estimate is that of
zoo.probability_flow. A class states its `chain`.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from genbench.contract import DataSpec, LikelihoodBound, LikelihoodEstimate
from genbench.errors import Undefined
from genbench.space import seeded, to_unit_range
from zoo.ddpm import AncestralSampler, bound_terms
from zoo.denoising import PREDICTIONS, Denoiser, Network, Schedule
from zoo.probability_flow import flow_estimate, schedule_nodes


@dataclass(frozen=True)
class Chain:
    """A network and its process.

    predict: images (B, C, H, W) and times (B,) from 0 to what `kind` names, with C more channels if the variance is
    learned. beta: variances of the forward steps (T,) float64. variance, clip: of the reverse steps, as in
    zoo.ddpm.AncestralSampler. no_bound: why samples are not drawn by this chain, so that its bound is not theirs.
    """

    predict: Network
    beta: Tensor
    kind: Literal["eps", "x0", "v"]
    variance: Literal["large", "small", "learned"] = "large"
    clip: bool = True
    no_bound: str = ""

    @property
    def denoiser(self) -> Denoiser[Schedule]:
        """The x_0 and noise that the network implies."""
        return Denoiser(self.predict, Schedule(self.beta), PREDICTIONS[self.kind])


class DiscreteChain(LikelihoodBound, LikelihoodEstimate):
    """The bound of the ancestral chain, and the estimate by the probability-flow ODE."""

    data: DataSpec
    device: torch.device

    @property
    @abstractmethod
    def chain(self) -> Chain:
        """The network and its process."""

    def log_prob_bound(self, pixels: Tensor, gen: Generator | None = None) -> Tensor:
        """Minus the sum of the terms of eq. 5, each with one draw of x_t: (B,) nats, float64 on the CPU.

        Raises Undefined where the samples are drawn by another chain.
        """
        chain, levels = self.chain, self.data.levels
        if chain.no_bound:
            raise Undefined(f"the bound is of the ancestral chain of all {len(chain.beta)} steps: {chain.no_bound}")
        x_0 = to_unit_range(pixels, levels).to(self.device)
        gen = seeded(0, self.device) if gen is None else gen
        sampler = AncestralSampler(chain.variance, chain.clip)
        return -bound_terms(chain.denoiser, x_0, levels, sampler, gen).sum(0)

    def log_prob_estimate(self, pixels: Tensor, gen: Generator | None = None, steps: int = 16) -> Tensor:
        """Log P by the probability-flow ODE; 4 steps evaluations and gradients of the network: (B,) nats, float64."""
        gen = seeded(0, self.device) if gen is None else gen
        denoiser = self.chain.denoiser
        nodes = schedule_nodes(denoiser.process, steps)
        return flow_estimate(denoiser, pixels.to(self.device), self.data.levels, nodes, gen)
