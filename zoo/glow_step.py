"""A step of Glow's flow for few channels, in training on a CPU: its value, and its gradients written out.

`fused_steps` has the value and the gradients of the layers in zoo.glow, up to rounding, in fewer and larger operations.
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

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Size, Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from zoo.convolution import neighbours, sum_neighbours
from zoo.glow_networks import CouplingNetwork, GainConv

LAYERS = ("first", "middle", "last")  # of a coupling's network
MOST_CHANNELS = 8  # from 12 on, torch's convolutions are faster than products with the pixels around each pixel
PARTS = 16  # a product over all pixels is faster as the sum of this many


def is_faster_fused(x: Tensor) -> bool:
    """Whether fused_steps is faster than the layers in a training with these images (B, C, H, W)."""
    return x.device.type == "cpu" and x.shape[1] <= MOST_CHANNELS and not torch.is_autocast_enabled("cpu")


def fused_steps(
    x: Tensor, matrices: Tensor, shifts: Tensor, networks: Sequence[CouplingNetwork], least: float
) -> tuple[Tensor, Tensor]:
    """Returns z (B, C, H, W), and the sum of the couplings' log_det (B,), of steps one after the other.

    x: (B, C, H, W). matrices: the A (steps, C, C). shifts: the a (steps, C). networks, least: of the couplings. Not
    differentiable twice.
    """
    log_det = x.new_zeros(len(x))
    for matrix, shift, network, convs in zip(matrices, shifts, networks, gained(networks), strict=True):
        x, change = FusedStep.apply(least, x, matrix, shift, network.position, *convs)
        log_det = log_det + change
    return x, log_det


def gained(networks: Sequence[CouplingNetwork]) -> Iterator[tuple[Tensor, ...]]:
    """The convolutions of each network, multiplied by their gains, as matrices and biases.

    first (9 C / 2, width), middle (width, width), last (9 C, width), and the three biases, one number per output
    channel. A few operations for all networks.
    """
    weights, biases = zip(*(gained_layers([getattr(n, name) for n in networks]) for name in LAYERS), strict=True)
    first, middle, last = weights
    matrices = (
        first.permute(0, 3, 4, 2, 1).flatten(1, 3),
        middle.flatten(2),
        last.flip(3, 4).permute(0, 3, 4, 1, 2).flatten(1, 3),
    )
    return zip(*(tensor.unbind() for tensor in (*matrices, *biases)), strict=True)


def gained_layers(layers: Sequence[GainConv]) -> tuple[Tensor, Tensor]:
    """The weights (layers, O, I, K, K) and biases (layers, O) of convolutions, multiplied by the gains."""
    gain = (layers[0].factor * torch.stack([layer.logs for layer in layers])).exp()
    weight = torch.stack([layer.weight for layer in layers]) * gain[:, :, None, None, None]
    return weight, torch.stack([layer.bias for layer in layers]) * gain


class FusedStep(Function):
    """A step of `fused_steps`, with the convolutions of `gained`."""

    @staticmethod
    def forward(
        ctx: Any, least: float, x: Tensor, matrix: Tensor, shift: Tensor, position: Tensor | None, *convs: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns z (B, C, H, W) and the coupling's log_det (B,)."""
        images, channels, *sides = x.shape
        half, pixels = channels // 2, x.transpose(0, 1).flatten(1)
        z = torch.addmm(shift[:, None], matrix, pixels)
        patches = neighbours(z[:half].view(half, images, *sides), 3)
        first, second = hidden(convs, patches, position, images)
        result = sum_neighbours(convs[2] @ second.T, Size((channels, images, *sides)), 3).flatten(1) + convs[5][:, None]
        move, raw = result.view(half, 2, -1).unbind(1)
        moved, gate = z[half:] + move, (raw + 2).sigmoid_()
        scale = gate * (1 - least) + least
        torch.mul(moved, scale, out=z[half:])
        ctx.save_for_backward(pixels, matrix, patches, first, second, moved, gate, *convs[:3])
        ctx.least, ctx.shape, ctx.has_position = least, (channels, images, *sides), position is not None
        return z.view(ctx.shape).transpose(0, 1), scale.log().view(half, images, -1).sum((0, 2))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of forward's arguments, of those of z and log_det."""
        pixels, matrix, patches, first, second, moved, gate, *weights = ctx.saved_tensors
        d_z, (channels, images, *_) = grads[0].transpose(0, 1).flatten(1), ctx.shape
        half, least = channels // 2, ctx.least
        scale = gate * (1 - least) + least
        d_log_scale = grads[1].repeat_interleave(d_z.shape[1] // images)
        d_u = torch.cat([d_z[:half], d_z[half:] * scale])
        d_raw = (d_z[half:] * moved + d_log_scale / scale) * (gate * (1 - gate) * (1 - least))
        d_result = torch.stack([d_u[half:], d_raw], dim=1).view(ctx.shape)
        d_a, d_position, *d_convs = network_grads(weights, d_result, patches, first, second)
        d_u[:half] += d_a
        d_x = (matrix.T @ d_u).view(ctx.shape).transpose(0, 1)
        return None, d_x, d_u @ pixels.T, d_u.sum(1), d_position if ctx.has_position else None, *d_convs


def hidden(convs: Sequence[Tensor], patches: Tensor, position: Tensor | None, images: int) -> tuple[Tensor, Tensor]:
    """h_1 and h_2. position: (1, width, H, W), added to the first convolution, or None."""
    bias = convs[3] if position is None else position[0].flatten(1).T + convs[3]
    first = patches.T @ convs[0]
    first.view(images, -1, first.shape[1]).add_(bias).relu_()
    return first, torch.addmm(convs[4], first, convs[1].T).relu_()


def network_grads(
    weights: Sequence[Tensor], d_result: Tensor, patches: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, ...]:
    """d_a (C / 2, N), d_position (1, width, H, W), and the gradients of the matrices and biases of `gained`.

    weights: the matrices. d_result: of the network's result, (C, B, H, W).
    """
    channels, images, *sides = d_result.shape
    around = neighbours(d_result, 3)
    d_second = relu_grad(around.T @ weights[2], second)
    d_first = relu_grad(d_second @ weights[1], first)
    d_a = sum_neighbours(weights[0] @ d_first.T, Size((channels // 2, images, *sides)), 3)
    d_position = d_first.view(images, -1, first.shape[1]).sum(0)
    of_matrices = (patches @ d_first, tall_product(d_second, first), around @ second)
    of_biases = (d_position.sum(0), d_second.sum(0), d_result.flatten(1).sum(1))
    return d_a.flatten(1), d_position.T.reshape(1, -1, *sides), *of_matrices, *of_biases


def relu_grad(grad: Tensor, result: Tensor) -> Tensor:
    """Sets `grad` to 0 where the result of the ReLU is 0; returns it."""
    return torch.ops.aten.threshold_backward.grad_input(grad, result, 0, grad_input=grad)


def tall_product(x: Tensor, y: Tensor) -> Tensor:
    """x^T y of matrices (N, I) and (N, J)."""
    if len(x) % PARTS:
        return x.T @ y
    return torch.bmm(x.view(PARTS, -1, x.shape[1]).mT, y.view(PARTS, -1, y.shape[1])).sum(0)
