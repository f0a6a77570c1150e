"""The moving average of a model's weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingAverage:
    """shadow <- d shadow + (1 - d) weight after each step, d = min(decay, (1 + step) / (10 + step)).

    The warm-up removes the random initial weights quickly: with a constant d = 0.9999 their share would still be 37 %
    after 10,000 steps. Buffers (batch-norm statistics, counters) are copied, not averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = [p.detach().clone() for p in model.parameters()]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Adds the weights after step number `step` (from 0) to the average."""
        d = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in model.parameters()], 1 - d)

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Puts the averaged weights into the model."""
        for parameter, average in zip(model.parameters(), self.shadow, strict=True):
            parameter.copy_(average)

    def state(self) -> list[Tensor]:
        """The averages, in the order of the model's parameters."""
        return self.shadow

    def load(self, state: list[Tensor]) -> None:
        """Replaces the averages by those that `state` returned."""
        for average, stored in zip(self.shadow, state, strict=True):
            average.copy_(stored)
