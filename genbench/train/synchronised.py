"""A batch that several processes compute together: batch normalisation and random numbers are those of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from genbench.processes.group import Shares, mean_across_processes, together
from genbench.processes.noise import NoiseOfTheBatch


@contextmanager
def one_batch(shares: Shares) -> Iterator[None]:
    """While it is open, the images of this process are its rows of the batch of all processes."""
    with together(shares), _OneBatch(shares):
        yield


class _OneBatch(NoiseOfTheBatch):
    def __init__(self, shares: Shares) -> None:
        super().__init__(*shares.group.rows(shares.n), shares.n)
        self.shares = shares

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """As NoiseOfTheBatch, and F.batch_norm, which nn.BatchNorm calls, with moments of the whole batch."""
        if func is F.batch_norm and _measures(*args, **kwargs or {}):
            return batch_norm(self.shares, *args, **kwargs or {})
        return super().__torch_function__(func, types, args, kwargs)


def _measures(
    input: Tensor, running_mean: Tensor | None, running_var: Tensor | None, weight: Tensor | None = None,
    bias: Tensor | None = None, training: bool = False, momentum: float = 0.1, eps: float = 1e-5,
) -> bool:  # fmt: skip
    return training


def batch_norm(
    shares: Shares,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """F.batch_norm in training with the moments of all processes' rows: input (B / N, C, ...) to the same shape.

    torch.nn.SyncBatchNorm, which does the same, does not support a CPU.
    """
    x = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
    axes, shape = [i for i in range(x.ndim) if i != 1], [1, -1] + [1] * (x.ndim - 2)
    mean = mean_across_processes(x.mean(axes))
    centred = x - mean.view(shape)
    variance = mean_across_processes(centred.square().mean(axes))
    y = centred * (variance + eps).rsqrt().view(shape)
    if running_mean is not None and running_var is not None:
        count = x.numel() // x.shape[1] * shares.n / shares.own
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    y = y if weight is None else y * weight.view(shape)
    return (y if bias is None else y + bias.view(shape)).to(input.dtype)
