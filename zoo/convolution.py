"""Convolutions that preserve the sides of images, computed on a CPU in the ways that are fast for few channels.

On a CPU torch computes up to 16 channels in the time of one: those of the result forwards and in the gradient of the
weights, those of the input in its gradient. `conv` has the value and gradients of F.conv2d, up to rounding. Shapes: B
images, C (I, O) channels, H height, W width, K side of the kernel, odd.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Size, Tensor
from torch.autograd import Function

FEW, MANY = 4, 4_096  # channels up to which, and pixels of a batch from which, gradients are faster as products


def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, relu: bool = False) -> Tensor:
    """F.conv2d with padding that preserves the sides: x (B, I, H, W), weight (O, I, K, K) to (B, O, H, W).

    relu: applies it to the result. A 1x1 convolution of small images is fastest as a matrix product.
    """
    if x.device.type == "cpu" and weight.shape[2] == 1:
        rows = F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias)
        return (F.relu(rows, inplace=True) if relu else rows).permute(0, 3, 1, 2)
    convolution = NarrowConv.apply if has_fast_gradients(x, weight) else convolve
    result = convolution(x, weight, bias)
    return F.relu(result, inplace=True) if relu else result


def has_fast_gradients(x: Tensor, weight: Tensor) -> bool:
    """Whether the gradients of conv are asked for and are faster by NarrowConv than by torch, in float32 on a CPU."""
    if x.device.type != "cpu" or not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
        return False
    return min(weight.shape[:2]) <= FEW and len(x) * x.shape[2] * x.shape[3] >= MANY


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution of conv, with those of torch.

    On a CPU, for at most 4 output channels and even sides, a convolution with a kernel larger by one and stride 2,
    whose output channels are the four pixels of each 2x2 block, computes the same sums in half the time.
    """
    outputs, padding = len(weight), weight.shape[2] // 2
    if x.device.type != "cpu" or outputs > 4 or x.shape[2] % 2 or x.shape[3] % 2 or min(x.shape[2:]) < 8:
        return F.conv2d(x, weight, bias, padding=padding)
    shifted = [F.pad(weight, (right, 1 - right, down, 1 - down)) for down in (0, 1) for right in (0, 1)]
    biases = None if bias is None else bias.repeat_interleave(4)
    blocks = F.conv2d(x, torch.stack(shifted, dim=1).flatten(0, 1), biases, stride=2, padding=padding)
    return F.pixel_shuffle(blocks, 2)


class NarrowConv(Function):
    """convolve for few channels of the input or of the result, whose gradients are products of matrices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """(B, I, H, W) to (B, O, H, W)."""
        ctx.save_for_backward(x, weight)
        return convolve(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of x, weight and bias, each None where autograd needs none; differentiable themselves."""
        (x, weight), (grad,) = ctx.saved_tensors, grads
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            input_grad(grad, x, weight) if of_x else None,
            weight_grad(grad, x, weight) if of_weight else None,
            grad.sum((0, 2, 3)) if of_bias else None,
        )


def input_grad(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The gradient (B, I, H, W) of x for the gradient `grad` (B, O, H, W) of the result."""
    outputs, inputs, kernel, _ = weight.shape
    if inputs > FEW:
        return torch_grads(grad, x, weight, (True, False, False))[0]
    by_offset = weight.permute(2, 3, 1, 0).reshape(-1, outputs)
    shape = Size((inputs, len(x), *x.shape[2:]))
    return sum_neighbours(by_offset @ channels_last_rows(grad).T, shape, kernel).transpose(0, 1)


def weight_grad(grad: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """The gradient (O, I, K, K) of the weights for the gradient `grad` (B, O, H, W) of the result."""
    outputs, inputs, kernel, _ = weight.shape
    if outputs > FEW:
        return torch_grads(grad, x, weight, (False, True, False))[1]
    by_offset = neighbours(grad.transpose(0, 1), kernel) @ channels_last_rows(x)
    return by_offset.view(kernel, kernel, outputs, inputs).flip(0, 1).permute(2, 3, 0, 1)


def torch_grads(grad: Tensor, x: Tensor, weight: Tensor, wanted: tuple[bool, bool, bool]) -> tuple[Tensor, ...]:
    """The gradients of x, weight and bias by torch, of those that are wanted."""
    padding = [weight.shape[2] // 2] * 2
    arguments = ([len(weight)], [1, 1], padding, [1, 1], False, [0, 0], 1, wanted)
    return torch.ops.aten.convolution_backward(grad, x, weight, *arguments)


def channels_last_rows(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B H W, C)."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def neighbours(x: Tensor, kernel: int) -> Tensor:
    """The pixels around each pixel of x (C, B, H, W), 0 outside the image: (K K C, B H W).

    Row (i, j, c) has those of channel c that are i - K // 2 below and j - K // 2 to the right.
    """
    around = x.new_empty(kernel, kernel, *x.shape)
    row, middle = around[kernel // 2], kernel // 2
    row[middle] = x
    for k in others(kernel):
        shift(row[middle], row[k], -1, k - middle)
    for k in others(kernel):
        shift(row, around[k], -2, k - middle)
    return around.view(-1, x[0].numel())


def sum_neighbours(values: Tensor, shape: Size, kernel: int) -> Tensor:
    """The adjoint of neighbours: adds values (K K C, B H W) at their offsets, to `shape` (C, B, H, W).

    The values are changed.
    """
    around = values.contiguous().view(kernel, kernel, *shape)
    row, middle = around[kernel // 2], kernel // 2
    for k in others(kernel):
        add_shifted(around[k], row, -2, k - middle)
    for k in others(kernel):
        add_shifted(row[k], row[middle], -1, k - middle)
    return row[middle]


def others(kernel: int) -> list[int]:
    """The indices of a kernel's pixels along a side, without the middle one."""
    return [k for k in range(kernel) if k != kernel // 2]


def shift(x: Tensor, into: Tensor, dim: int, by: int) -> None:
    """Sets each pixel of `into` to that of x that is `by` further along dim, to 0 where that is outside the image."""
    further, pixels = lagged(x, into, dim, by)
    pixels.copy_(further)
    without_partner(into, dim, by).zero_()


def add_shifted(x: Tensor, to: Tensor, dim: int, by: int) -> None:
    """The adjoint of shift: adds each pixel of x to that of `to` that is `by` further along dim, if there is one."""
    without_partner(x, dim, by).zero_()
    further, pixels = lagged(to, x, dim, by)
    further.add_(pixels)


def lagged(x: Tensor, y: Tensor, dim: int, by: int) -> tuple[Tensor, Tensor]:
    """The numbers of x and of y in two rows, those of x `by` further along dim: long rows are fast to copy and add.

    At the borders of images the rows pair a pixel with one of another line or image.
    """
    step = by * x.stride(dim)
    length = max(x.numel() - abs(step), 0)
    return pixels_from(x, max(step, 0), length), pixels_from(y, max(-step, 0), length)


def pixels_from(x: Tensor, start: int, length: int) -> Tensor:
    """x.view(-1)[start : start + length] of a contiguous x, in one operation."""
    return x.as_strided((length,), (1,), x.storage_offset() + start)


def without_partner(x: Tensor, dim: int, by: int) -> Tensor:
    """The pixels of x for which the one `by` further along dim is outside the image."""
    size, width = x.shape[dim], min(abs(by), x.shape[dim])
    return x.narrow(dim, size - width if by > 0 else 0, width)
