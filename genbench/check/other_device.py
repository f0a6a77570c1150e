"""A device without hardware: what a GPU refuses shows on any machine.

Tensors say that they are on DEVICE and compute on the CPU. As with a GPU, operations refuse tensors of both places and
generators of the other place, and there is no way to numpy but through the CPU. Operations that make the CPU wait for a
GPU are recorded (genbench.check.waits). Nothing is learned about kernels, memory or the speed of computing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, ClassVar, NoReturn
from unittest.mock import patch

import torch
from torch import Generator, Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map, tree_map_only

from genbench import space
from genbench.check.waits import record, waits

DEVICE = torch.device("lazy", 0)  # of those that a plain torch build lacks, the one that autograd puts up with
MAY_CROSS = ("aten::_to_copy", "aten::copy_", "aten::index", "aten::index_put_")

Operation = Any  # torch.OpOverload


class MisplacedError(RuntimeError):
    """Tensors or generators are not where an operation needs them."""


def identity(generator: Generator) -> int:
    """What tells one generator from another."""
    return generator._cdata  # type: ignore[attr-defined]


class DeviceGenerator(Generator):
    """A generator on DEVICE."""

    device = DEVICE
    alive: ClassVar[set[int]] = set()  # operations get another object for the same generator

    def __init__(self) -> None:
        self.alive.add(identity(self))

    def __del__(self) -> None:
        self.alive.discard(identity(self))


class OnDevice(Tensor):
    """A tensor on DEVICE; `raw` holds its numbers on the CPU."""

    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> OnDevice:
        """Of a tensor on the CPU."""
        with torch.inference_mode(False):  # where tensors of this kind could not be viewed
            shell = torch.Tensor._make_wrapper_subclass(
                cls, raw.shape, raw.stride(), raw.storage_offset(), dtype=raw.dtype, device=DEVICE
            )
        shell.raw = raw
        return shell

    @classmethod
    def __torch_dispatch__(cls, op: Operation, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return compute(op, args, kwargs or {})

    @property
    def data(self) -> Tensor:
        """The tensor without its history."""
        return Tensor.data.__get__(self)  # type: ignore[attr-defined]

    @data.setter  # type: ignore[override]
    def data(self, other: OnDevice) -> None:
        Tensor.data.__set__(self, other)  # type: ignore[attr-defined]
        self.raw = other.raw

    def tolist(self) -> list[Any]:
        """The numbers, as any device gives them."""
        record("tolist")
        return self.raw.tolist()

    def numpy(self, *_: Any, **__: Any) -> NoReturn:
        """Refused."""
        raise MisplacedError("numpy() of a tensor on another device than the CPU; expected .cpu() first")

    __array__ = numpy


def compute(op: Operation, args: Any, kwargs: Any) -> Any:
    """The operation on the CPU, its results where they would be; raises MisplacedError."""
    leaves = tree_leaves((args, kwargs))
    target = next((x.type for x in leaves if isinstance(x, torch.device)), None)
    inputs_there = refuse_mixtures(op, leaves)
    there = inputs_there if target is None else target == DEVICE.type
    refuse_strange_generators(op, leaves, there or inputs_there)
    if waits(op, args, kwargs, is_there, None if target is None else target == DEVICE.type):
        record(op._schema.name)
    raw_args, raw_kwargs = tree_map(on_cpu, (args, kwargs))
    out = op(*raw_args, **raw_kwargs)
    if not there:
        return out
    return args[0] if writes_to_its_first(op) else tree_map_only(Tensor, OnDevice, out)


def refuse_mixtures(op: Operation, leaves: list[Any]) -> bool:
    """Whether tensors are on DEVICE; raises MisplacedError when others with axes are not, unless `op` may cross."""
    tensors = [x for x in leaves if isinstance(x, Tensor)]
    there = [isinstance(x, OnDevice) for x in tensors]
    here = [not isinstance(x, OnDevice) and x.ndim > 0 for x in tensors]
    crosses = op._schema.name in MAY_CROSS and (there[0] or "index" not in op._schema.name)
    if any(there) and any(here) and not crosses:
        raise MisplacedError(
            f"{op} of tensors on the CPU and on another device; expected all on one: make them with "
            "device=gen.device or x.device, and keep constants as buffers"
        )
    return any(there)


def refuse_strange_generators(op: Operation, leaves: list[Any], there: bool) -> None:
    """Raises MisplacedError when a generator is not where the result is."""
    for generator in leaves:
        if isinstance(generator, Generator) and (identity(generator) in DeviceGenerator.alive) != there:
            raise MisplacedError(f"{op} and its generator are on different devices; expected device=gen.device")


def is_there(x: Any) -> bool:
    """Whether something is a tensor on DEVICE."""
    return isinstance(x, OnDevice)


def on_cpu(x: Any) -> Any:
    """Tensors' numbers, and the CPU for a device."""
    if isinstance(x, OnDevice):
        return x.raw
    return torch.device("cpu") if isinstance(x, torch.device) else x


def writes_to_its_first(op: Operation) -> bool:
    """Whether the operation returns the argument that it changed."""
    returns = op._schema.returns
    return len(returns) == 1 and returns[0].alias_info is not None and returns[0].alias_info.is_write


class Everywhere(TorchDispatchMode):
    """Hears of operations that have no tensor on DEVICE yet, such as randn(device=DEVICE)."""

    def __torch_dispatch__(self, op: Operation, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(op, args, kwargs or {})


def generator(device: torch.device | str = "cpu") -> Generator:
    """torch.Generator for every device, DEVICE too."""
    return DeviceGenerator() if torch.device(device).type == DEVICE.type else Generator(device=device)


def autocast(plain: Callable[..., Any], device_type: str, *args: Any, **kwargs: Any) -> AbstractContextManager[Any]:
    """torch.autocast, which does not know DEVICE: there it changes nothing."""
    return nullcontext() if device_type == DEVICE.type else plain(device_type, *args, **kwargs)


@contextmanager
def other_device() -> Iterator[torch.device]:
    """DEVICE, which exists within."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=DEVICE) is then made on the CPU and moved
    try:
        with (
            patch.object(space, "Generator", generator),
            patch.object(torch, "autocast", partial(autocast, torch.autocast)),
            Everywhere(),
        ):
            yield DEVICE
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
