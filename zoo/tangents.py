"""Directional derivatives of convolutions and group normalisation in fewer operations than torch's.

torch's forward-mode differentiation (torch.autograd.forward_ad) computes for a convolution also the one with the
tangent of its weights, which is 0, and for a group normalisation about twenty operations over all pixels. Inside
`FewerOperations()` the tangents are

    convolution            x' * w
    group normalisation    w J x'; the Jacobian J of the normalisation is symmetric, so J x' is its backward pass

Values, gradients and tangents are those of torch, up to rounding. Only x may have a tangent, others raise
NotImplementedError; the tangents themselves have no gradient. Under autocast, and on devices other than a CPU and CUDA,
torch's own are used.

Symbols   x (B, C, H, W), x' its tangent     w weights
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode


class FewerOperations(TorchFunctionMode):
    """A context in which the functions of FASTER replace torch's, for code with dual tensors."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Calls func or what replaces it."""
        is_replaced = func in FASTER and args and is_supported(args[0].device.type)
        return (FASTER[func] if is_replaced else func)(*args, **(kwargs or {}))


def is_supported(device: str) -> bool:
    """Whether there are kernels for this type of device, with float32 or float64 as they are."""
    return device in ("cpu", "cuda") and not torch.is_autocast_enabled(device)


class Convolution(Function):
    """F.conv2d; options: stride, padding, dilation, groups."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None, options: tuple[Any, ...]) -> Tensor:
        """(B, I, H, W) and (O, I / groups, K, K) to (B, O, ...)."""
        return F.conv2d(x, weight, bias, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keeps what both derivatives need."""
        x, weight, _, ctx.options = inputs
        keep(ctx, x, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight and bias."""
        (x, weight), needed = ctx.saved_tensors, ctx.needs_input_grad[:3]
        stride, padding, dilation, groups = ctx.options
        sides = [[side, side] if isinstance(side, int) else list(side) for side in (stride, padding, dilation)]
        arguments = ([len(weight)], *sides, False, [0, 0], groups, needed)
        return *torch.ops.aten.convolution_backward(grads[0], x, weight, *arguments), None

    @staticmethod
    @torch.no_grad()
    def jvp(ctx: Any, tangent: Tensor, *others: Tensor | None) -> Tensor:
        """X' * w."""
        refuse(others)
        return F.conv2d(tangent, ctx.saved_tensors[1], None, *ctx.options)


class Normalisation(Function):
    """F.group_norm with weight and bias; also its means and reciprocal deviations (B, groups), without derivative."""

    @staticmethod
    def forward(x: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, H, W) to the same shape."""
        return torch.native_group_norm(x, weight, bias, *extents(x), groups, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keeps what both derivatives need."""
        x, ctx.groups, weight, _, _ = inputs
        ctx.mark_non_differentiable(*output[1:])
        keep(ctx, x, weight, *output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, weight and bias."""
        x, weight, mean, scale = ctx.saved_tensors
        of_x, _, of_weight, of_bias, _ = ctx.needs_input_grad
        needed = (of_x, of_weight, of_bias)
        d_x, d_weight, d_bias = normalisation_grads(grads[0], x, weight, mean, scale, ctx.groups, needed)
        return d_x, None, d_weight, d_bias, None

    @staticmethod
    @torch.no_grad()
    def jvp(ctx: Any, tangent: Tensor, *others: Tensor | None) -> tuple[Tensor, None, None]:
        """W J x'."""
        refuse(others)
        x, weight, mean, scale = ctx.saved_tensors
        product = normalisation_grads(tangent, x, None, mean, scale, ctx.groups, (True, False, False))[0]
        return product * weight[:, None, None], None, None


def keep(ctx: Any, *tensors: Tensor) -> None:
    """Keeps tensors for backward and jvp, which get None for what has no gradient or tangent."""
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)


def refuse(tangents: tuple[Tensor | None, ...]) -> None:
    """Raises NotImplementedError for tangents of anything but the images."""
    if any(tangent is not None for tangent in tangents):
        raise NotImplementedError("FewerOperations: found a tangent of a weight or bias, allowed: only of the images")


def extents(x: Tensor) -> tuple[int, int, int]:
    """B, C, and H W."""
    return x.shape[0], x.shape[1], x[0, 0].numel()


def normalisation_grads(
    grad: Tensor, x: Tensor, weight: Tensor | None, mean: Tensor, scale: Tensor, groups: int, needed: tuple[bool, ...]
) -> tuple[Tensor | None, ...]:
    """The gradients of x, weight and bias of a group normalisation, those that are needed; without a weight it is 1."""
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    layout = torch.channels_last if last else torch.contiguous_format
    grad, x = (t.contiguous(memory_format=layout) for t in (grad, x))
    return torch.ops.aten.native_group_norm_backward(grad, x, mean, scale, weight, *extents(x), groups, list(needed))


def convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """F.conv2d by Convolution, but for padding by a word."""
    options = (stride, padding, dilation, groups)
    if isinstance(padding, str):
        return F.conv2d(x, weight, bias, *options)
    return Convolution.apply(x, weight, bias, options)


def normalised(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """F.group_norm by Normalisation, where it has weight and bias."""
    if weight is None or bias is None or x.dim() != 4:
        return F.group_norm(x, num_groups, weight, bias, eps)
    return Normalisation.apply(x, num_groups, weight, bias, eps)[0]


FASTER: Mapping[Any, Callable[..., Tensor]] = {torch.conv2d: convolved, F.group_norm: normalised}
