"""The networks inside Glow's couplings: convolutions with a gain per channel (Kingma and Dhariwal 2018, section 5).

The gain of a hidden convolution is exp(logs), of the last one exp(3 logs). Shapes: B images, C channels, H height,
W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.convolution import conv


def whitening(x: Tensor) -> tuple[Tensor, Tensor]:
    """Returns b and log s, (C,) each, for which every channel of (x + b) s has mean 0 and variance 1 over (B, H, W)."""
    var, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
    return -mean, -0.5 * (var + 1e-6).log()


class GainConv(nn.Module):
    """(conv(x) + b) exp(factor logs), one b and logs per output channel; the weights are multiplied by the gain."""

    def __init__(self, inputs: int, outputs: int, kernel: int, factor: int = 1, std: float = 0.05) -> None:
        super().__init__()
        self.factor = factor
        self.weight = nn.Parameter(std * torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.logs = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W); relu: applies it to the result."""
        gain = self.logs.exp() if self.factor == 1 else (self.factor * self.logs).exp()
        return conv(x, self.weight * gain[:, None, None, None], self.bias * gain, relu)

    def initialise(self, x: Tensor) -> Tensor:
        """Sets b and logs so that every channel of the output has mean 0 and variance 1; returns it."""
        bias, logs = whitening(conv(x, self.weight))
        self.bias.copy_(bias)
        self.logs.copy_(logs / self.factor)
        return self(x)


class ZeroConv(GainConv):
    """A 3x3 convolution that starts at zero, with the gain exp(3 logs)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, kernel=3, factor=3, std=0.0)

    def initialise(self, x: Tensor) -> Tensor:
        """Does not change the parameters; returns the output."""
        return self(x)


class CouplingNetwork(nn.Module):
    """3x3, 1x1 and 3x3 convolutions, ReLU between them (section 5): (B, inputs, H, W) to (B, outputs, H, W).

    size: H and W for a bias per position after the first convolution, None for none.
    """

    def __init__(self, inputs: int, outputs: int, width: int, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.first = GainConv(inputs, width, 3)
        self.position = None if size is None else nn.Parameter(torch.zeros(1, width, *size))
        self.middle = GainConv(width, width, 1)
        self.last = ZeroConv(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W); zero before training."""
        if self.position is None:
            h = self.first(x, relu=True)
        else:  # with channels last, where the sum of the position's gradients over the batch is fast
            rows = self.first(x).permute(0, 2, 3, 1) + self.position[0].permute(1, 2, 0)
            h = F.relu(rows, inplace=True).permute(0, 3, 1, 2)
        return self.last(self.middle(h, relu=True))

    def initialise(self, x: Tensor) -> Tensor:
        """Initialises the hidden layers so that their channels have mean 0 and variance 1 on x; returns the output."""
        return self.last.initialise(F.relu(self.middle.initialise(F.relu(self.first.initialise(x)))))
