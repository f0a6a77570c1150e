"""Devices to compute on, and two ways to make a GPU's numbers comparable with the CPU's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from tools.gpu.common import OTHER

GPU = "cuda"
TF32_BITS = 13  # of float32's 23 bits of mantissa that TF32 drops


def torch_device(name: str) -> torch.device:
    """The device of a Setting's name."""
    if name != OTHER:
        return torch.device(name)
    from genbench.check.other_device import DEVICE

    return DEVICE


@contextmanager
def available() -> Iterator[None]:
    """The simulated device exists within, and fused optimisers run on it."""
    from genbench.check.other_device import DEVICE, other_device

    optimizer = import_module("torch.optim.optimizer")  # torch.optim hides the module's name
    fused = [*optimizer._get_fused_kernels_supported_devices(), DEVICE.type]
    with other_device(), patch.object(optimizer, "_get_fused_kernels_supported_devices", lambda: fused):
        yield


def synchronise(device: torch.device) -> None:
    """Waits for what the device was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], object], device: torch.device, calls: int = 1) -> float:
    """Seconds of one of several calls in a row: CUDA events around them on a GPU, else the clock."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(calls):
            call()
        return (time.perf_counter() - start) / calls
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    torch.cuda.synchronize(device)
    return float(begin.elapsed_time(end)) / 1e3 / calls


def typical_seconds(call: Callable[[], object], device: torch.device, seconds: float, calls: int = 1) -> list[float]:
    """Lowest, median and highest seconds of a call: at least three timings after a warm-up, then for `seconds`."""
    for _ in range(2):
        call()
    synchronise(device)
    taken: list[float] = []
    begin = time.perf_counter()
    while len(taken) < 3 or (time.perf_counter() - begin < seconds and len(taken) < 200):
        taken.append(seconds_of(call, device, calls))
    return [min(taken), median(taken), max(taken)]


def writes_in_place(op: Any) -> bool:
    """Whether an operation returns the argument that it changed."""
    returns = op._schema.returns
    return len(returns) == 1 and returns[0].alias_info is not None and returns[0].alias_info.is_write


class HostRandom(TorchDispatchMode):
    """Random numbers are drawn by the CPU's generator and copied to the GPU, so both see the same ones."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation."""
        kwargs = kwargs or {}
        leaves = tree_leaves((args, kwargs))
        device = next((found for x in leaves if (found := gpu_of(x)) is not None), None)
        if device is None or not any(isinstance(x, Generator) for x in leaves):
            return op(*args, **kwargs)
        host_args, host_kwargs = tree_map(on_host, (args, kwargs))
        out = op(*host_args, **host_kwargs)
        if writes_in_place(op):
            return args[0].copy_(out)
        return tree_map_only(Tensor, lambda t: t.to(device), out)


def gpu_of(x: Any) -> torch.device | None:
    """The GPU that a tensor lies on, or that a device is."""
    device = x.device if isinstance(x, Tensor) else x
    return device if isinstance(device, torch.device) and device.type == GPU else None


def on_host(x: Any) -> Any:
    """A tensor's copy on the CPU, and the CPU for a device."""
    if isinstance(x, torch.device):
        return torch.device("cpu")
    return x.cpu() if isinstance(x, Tensor) else x


class HostGenerator(Generator):
    """A generator of the CPU that calls itself one of the GPU, for models that ask where to draw."""

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """The GPU."""
        return torch.device(GPU)


@contextmanager
def random_numbers_of_the_cpu(device: torch.device) -> Iterator[None]:
    """Within, genbench's generators on the GPU draw the CPU's numbers."""
    if device.type != GPU:
        yield
        return
    from genbench import space

    def generator(device: torch.device | str = "cpu") -> Generator:
        return HostGenerator() if torch.device(device).type == GPU else Generator(device=device)

    with patch.object(space, "Generator", generator), HostRandom():
        yield


PRODUCTS = (  # the second line: as operations are called in inference mode
    "aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::convolution", "aten::convolution_backward",
    "aten::matmul", "aten::linear", "aten::conv2d", "aten::conv_transpose2d", "aten::scaled_dot_product_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
)  # fmt: skip


class RoundedProducts(TorchDispatchMode):
    """The factors of matrix products and convolutions are rounded to TF32's ten bits of mantissa, as a GPU does."""

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """One operation."""
        if op._schema.name in PRODUCTS:
            args = tree_map_only(Tensor, tf32, args)
        return op(*args, **(kwargs or {}))


def tf32(x: Tensor) -> Tensor:
    """A float32 tensor rounded to ten bits of mantissa, to the nearest; others as they are."""
    if x.dtype != torch.float32:
        return x
    bits = x.detach().contiguous().view(torch.int32)
    half = 1 << (TF32_BITS - 1)
    kept = (bits + half) & ~((1 << TF32_BITS) - 1)
    return torch.where(x.isfinite(), kept.view(torch.float32).view(x.shape), x)
