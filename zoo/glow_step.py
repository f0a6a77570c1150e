"""A step of Glow's flow for few channels, in training on a CPU: its value, and its gradients written out.

`fused_step` has the value and the gradients of the layers in zoo.glow, up to rounding, in fewer and larger operations.
Every convolution is a product of matrices, whose rows or columns are the N = B H W pixels of all images.

Symbols
    u = A x + a                 pixels x (C, N), matrix A (C, C), shift a (C,): normalisation and 1x1 convolution
    u_a, u_b                    the halves of u; patches (9 C / 2, N) are the pixels around each pixel of u_a
    h_1, h_2                    first, second (N, width): activations of the coupling's network (section 5)
    z_b = (u_b + t) s           moved = u_b + t, scale s = least + (1 - least) gate, gate = sigmoid(raw + 2): (C / 2, N)
    log_det = sum(log s)        (B,), nats
    d_v                         the gradient of the loss with respect to v
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Size, Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from zoo.convolution import neighbours, sum_neighbours
from zoo.glow_networks import CouplingNetwork

FACTORS = (1, 1, 3)  # of the logs of the three convolutions, in their gain exp(factor logs)
MOST_CHANNELS = 8  # from 12 on, torch's convolutions are faster than products with the pixels around each pixel
PARTS = 16  # a product over all pixels is faster as the sum of this many


def is_faster_fused(x: Tensor) -> bool:
    """Whether fused_step is faster than the layers in a training with these images (B, C, H, W)."""
    return x.device.type == "cpu" and x.shape[1] <= MOST_CHANNELS and not torch.is_autocast_enabled("cpu")


def fused_step(
    x: Tensor, matrix: Tensor, shift: Tensor, network: CouplingNetwork, least: float
) -> tuple[Tensor, Tensor]:
    """Returns z (B, C, H, W) and log_det (B,) of the coupling at z = A x + a, for x (B, C, H, W).

    matrix, shift: A and a. network, least: the coupling's. Not differentiable twice.
    """
    convs = (network.first, network.middle, network.last)
    parameters = [tensor for conv in convs for tensor in (conv.weight, conv.bias, conv.logs)]
    z, log_det = FusedStep.apply(least, x, matrix, shift, network.position, *parameters)
    return z, log_det


class Network(NamedTuple):
    """The convolutions of a coupling's network, multiplied by their gains, as matrices.

    first: (9 C / 2, width). middle: (width, width). last: (9 C, width). biases, gains: one number per output channel.
    """

    first: Tensor
    middle: Tensor
    last: Tensor
    biases: Sequence[Tensor]
    gains: Sequence[Tensor]

    @classmethod
    def of(cls, parameters: Sequence[Tensor]) -> Network:
        """From weight, bias and logs of each convolution."""
        gains = [(factor * logs).exp() for factor, logs in zip(FACTORS, parameters[2::3], strict=True)]
        weights = (w * gain[:, None, None, None] for w, gain in zip(parameters[0::3], gains, strict=True))
        first, middle, last = weights
        rows = (
            first.permute(2, 3, 1, 0).reshape(-1, len(first)),
            middle.flatten(1),
            last.flip(2, 3).permute(2, 3, 0, 1).reshape(-1, last.shape[1]),
        )
        return cls(*rows, [bias * gain for bias, gain in zip(parameters[1::3], gains, strict=True)], gains)

    def hidden(self, patches: Tensor, position: Tensor | None, images: int) -> tuple[Tensor, Tensor]:
        """h_1 and h_2. position: (1, width, H, W), added to the first convolution, or None."""
        bias = self.biases[0] if position is None else position[0].flatten(1).T + self.biases[0]
        first = patches.T @ self.first
        first.view(images, -1, first.shape[1]).add_(bias).relu_()
        return first, torch.addmm(self.biases[1], first, self.middle.T).relu_()

    def output(self, second: Tensor, shape: Size) -> Tensor:
        """The network's result for h_2: `shape` (C, B, H, W); even channels are t, odd ones raw."""
        return sum_neighbours(self.last @ second.T, shape, 3) + self.biases[2][:, None, None, None]


class FusedStep(Function):
    """`fused_step`, whose arguments `parameters` are those of `Network.of`."""

    @staticmethod
    def forward(
        ctx: Any, least: float, x: Tensor, matrix: Tensor, shift: Tensor, position: Tensor | None, *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns z (B, C, H, W) and log_det (B,)."""
        images, channels, *sides = x.shape
        network, half = Network.of(parameters), channels // 2
        pixels = x.transpose(0, 1).flatten(1)
        z = torch.addmm(shift[:, None], matrix, pixels)
        patches = neighbours(z[:half].view(half, images, *sides), 3)
        first, second = network.hidden(patches, position, images)
        move, raw = network.output(second, Size((channels, images, *sides))).view(half, 2, -1).unbind(1)
        moved, gate = z[half:] + move, (raw + 2).sigmoid_()
        scale = gate * (1 - least) + least
        torch.mul(moved, scale, out=z[half:])
        activations = (pixels, matrix, patches, first, second, moved, gate)
        ctx.save_for_backward(*activations, *network[:3], *network.biases, *network.gains, *parameters)
        ctx.least, ctx.shape, ctx.has_position = least, (channels, images, *sides), position is not None
        return z.view(ctx.shape).transpose(0, 1), scale.log().view(half, images, -1).sum((0, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of forward's arguments, of those of z and log_det."""
        pixels, matrix, patches, first, second, moved, gate, *rest = ctx.saved_tensors
        network, parameters = Network(*rest[:3], rest[3:6], rest[6:9]), rest[9:]
        d_z, (channels, images, *_) = grads[0].transpose(0, 1).flatten(1), ctx.shape
        half, least = channels // 2, ctx.least
        scale = gate * (1 - least) + least
        d_log_scale = grads[1].repeat_interleave(d_z.shape[1] // images)
        d_u = torch.cat([d_z[:half], d_z[half:] * scale])
        d_raw = (d_z[half:] * moved + d_log_scale / scale) * (gate * (1 - gate) * (1 - least))
        d_result = torch.stack([d_u[half:], d_raw], dim=1).view(ctx.shape)
        d_a, d_position, d_parameters = network_grads(network, parameters, d_result, patches, first, second)
        d_u[:half] += d_a
        d_x = (matrix.T @ d_u).view(ctx.shape).transpose(0, 1)
        return None, d_x, d_u @ pixels.T, d_u.sum(1), d_position if ctx.has_position else None, *d_parameters


def network_grads(
    network: Network, parameters: Sequence[Tensor], d_result: Tensor, patches: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """d_a (C / 2, N), d_position (1, width, H, W) and the gradients of the parameters, of that of the result.

    d_result: (C, B, H, W). parameters: those of Network.of.
    """
    channels, images, *sides = d_result.shape
    around = neighbours(d_result, 3)
    d_second = relu_grad(around.T @ network.last, second)
    d_first = relu_grad(d_second @ network.middle, first)
    d_a = sum_neighbours(network.first @ d_first.T, Size((channels // 2, images, *sides)), 3)
    d_position = d_first.view(images, -1, first.shape[1]).sum(0)
    of_rows = (patches @ d_first, tall_product(d_second, first), around @ second)
    of_biases = (d_position.sum(0), d_second.sum(0), d_result.flatten(1).sum(1))
    d_parameters = parameter_grads(parameters, network.gains, of_rows, of_biases)
    return d_a.flatten(1), d_position.T.reshape(1, -1, *sides), d_parameters


def parameter_grads(
    parameters: Sequence[Tensor], gains: Sequence[Tensor], of_rows: Sequence[Tensor], of_biases: Sequence[Tensor]
) -> list[Tensor]:
    """The gradients of weight, bias and logs of each convolution, of those of the matrices and biases of a Network."""
    weights, biases = parameters[0::3], parameters[1::3]
    width, inputs, *kernel = weights[0].shape
    of_weights = (
        of_rows[0].view(*kernel, inputs, width).permute(3, 2, 0, 1),
        of_rows[1].view_as(weights[1]),
        of_rows[2].view(*kernel, -1, width).flip(0, 1).permute(2, 3, 0, 1),
    )
    found = []
    for k, factor in enumerate(FACTORS):
        d_weight, d_bias = of_weights[k] * gains[k][:, None, None, None], of_biases[k] * gains[k]
        d_gain = (d_weight * weights[k]).sum((1, 2, 3)) + d_bias * biases[k]
        found += [d_weight, d_bias, factor * d_gain]
    return found


def relu_grad(grad: Tensor, result: Tensor) -> Tensor:
    """Sets `grad` to 0 where the result of the ReLU is 0; returns it."""
    return torch.ops.aten.threshold_backward.grad_input(grad, result, 0, grad_input=grad)


def tall_product(x: Tensor, y: Tensor) -> Tensor:
    """x^T y of matrices (N, I) and (N, J)."""
    if len(x) % PARTS:
        return x.T @ y
    return torch.bmm(x.view(PARTS, -1, x.shape[1]).mT, y.view(PARTS, -1, y.shape[1])).sum(0)
