"""A simulated device that refuses what a GPU refuses, on any machine.

Its tensors report DEVICE as their device and compute on the CPU. As on a GPU, operations refuse a mixture of tensors on
the two devices and generators of the other device, and only tensors on the CPU convert to numpy. Operations that make
the CPU wait for a GPU are recorded (genbench.check.waits). It does not simulate kernels, memory or speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from typing import Any, ClassVar, NoReturn
from unittest.mock import patch

import torch
from torch import Generator, Tensor

from genbench import space
from genbench.check.arguments import replaced, values_in
from genbench.check.waits import record, waits
from genbench.dispatch import Intercepts

DEVICE = torch.device("lazy", 0)  # no torch build for CPU or GPU has it, and autograd accepts it
MAY_CROSS = ("aten::_to_copy", "aten::copy_", "aten::index", "aten::index_put_")

Operation = Any  # torch.OpOverload


class MisplacedError(RuntimeError):
    """Tensors or generators are not on the device that an operation needs."""


def identity(generator: Generator) -> int:
    """A number that identifies a generator."""
    return generator._cdata  # type: ignore[attr-defined]


class DeviceGenerator(Generator):
    """A generator on DEVICE."""

    device = DEVICE
    alive: ClassVar[set[int]] = set()  # operations receive another object for the same generator

    def __init__(self) -> None:
        self.alive.add(identity(self))

    def __del__(self) -> None:
        self.alive.discard(identity(self))


class OnDevice(Tensor):
    """A tensor on DEVICE; `raw` holds its values on the CPU."""

    has_values = True  # for genbench.returned
    raw: Tensor

    @staticmethod
    def __new__(cls, raw: Tensor) -> OnDevice:
        """Makes one from a tensor on the CPU."""
        # such tensors have no views in inference mode; entering the context for each would take longer
        with torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext():
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
        """The tensor without its autograd history."""
        return Tensor.data.__get__(self)  # type: ignore[attr-defined]

    @data.setter  # type: ignore[override]
    def data(self, other: OnDevice) -> None:
        Tensor.data.__set__(self, other)  # type: ignore[attr-defined]
        self.raw = other.raw

    def tolist(self) -> list[Any]:
        """The values, as on any device."""
        record("tolist")
        return self.raw.tolist()

    def numpy(self, *_: Any, **__: Any) -> NoReturn:
        """Raises MisplacedError."""
        raise MisplacedError("numpy() of a tensor on another device than the CPU; expected .cpu() first")

    __array__ = numpy


def compute(op: Operation, args: Any, kwargs: Any) -> Any:
    """Runs an operation on the CPU and puts the result on the device where it would be. Raises MisplacedError."""
    if op is torch.ops.aten._efficientzerotensor.default:  # of forward-mode derivatives; it has no memory to compute on
        op = torch.ops.aten.zeros.default
    values = values_in((args, kwargs))
    target = next((x.type for x in values if isinstance(x, torch.device)), None)
    inputs_there = refuse_mixtures(op, values)
    there = inputs_there if target is None else target == DEVICE.type
    refuse_strange_generators(op, values, there or inputs_there)
    if waits(op, args, kwargs, is_there, None if target is None else target == DEVICE.type):
        record(op._schema.name)
    raw_args, raw_kwargs = replaced(on_cpu, (args, kwargs))
    out = op(*raw_args, **raw_kwargs)
    if not there:
        return out
    return args[0] if writes_to_its_first(op) else replaced(shown_there, out)


def shown_there(x: Any) -> Any:
    """Replaces a tensor by one on DEVICE."""
    return OnDevice(x) if isinstance(x, Tensor) else x


def refuse_mixtures(op: Operation, values: list[Any]) -> bool:
    """Whether there are tensors on DEVICE; raises MisplacedError for a mixture, unless `op` may copy between them."""
    tensors = [x for x in values if isinstance(x, Tensor)]
    there = [isinstance(x, OnDevice) for x in tensors]
    here = [not isinstance(x, OnDevice) and x.ndim > 0 for x in tensors]
    crosses = op._schema.name in MAY_CROSS and (there[0] or "index" not in op._schema.name)
    if any(there) and any(here) and not crosses:
        raise MisplacedError(
            f"{op} of tensors on the CPU and on another device; expected all on one: make them with "
            "device=gen.device or x.device, and keep constants as buffers"
        )
    return any(there)


def refuse_strange_generators(op: Operation, values: list[Any], there: bool) -> None:
    """Raises MisplacedError when a generator is not on the device of the result."""
    for generator in values:
        if isinstance(generator, Generator) and (identity(generator) in DeviceGenerator.alive) != there:
            raise MisplacedError(f"{op} and its generator are on different devices; expected device=gen.device")


def is_there(x: Any) -> bool:
    """Whether something is a tensor on DEVICE."""
    return isinstance(x, OnDevice)


def on_cpu(x: Any) -> Any:
    """Replaces a tensor on DEVICE by its values, and a device by the CPU."""
    if isinstance(x, OnDevice):
        return x.raw
    return torch.device("cpu") if isinstance(x, torch.device) else x


@cache  # the schema of an operation never changes
def writes_to_its_first(op: Operation) -> bool:
    """Whether the operation returns the argument that it writes to."""
    returns = op._schema.returns
    return len(returns) == 1 and returns[0].alias_info is not None and returns[0].alias_info.is_write


class Everywhere(Intercepts):
    """Intercepts operations without a tensor on DEVICE, such as randn(device=DEVICE)."""

    def __torch_dispatch__(self, op: Operation, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(op, args, kwargs or {})


def generator(device: torch.device | str = "cpu") -> Generator:
    """torch.Generator for every device including DEVICE."""
    return DeviceGenerator() if torch.device(device).type == DEVICE.type else Generator(device=device)


def autocast(plain: Callable[..., Any], device_type: str, *args: Any, **kwargs: Any) -> AbstractContextManager[Any]:
    """torch.autocast, without effect on DEVICE."""
    return nullcontext() if device_type == DEVICE.type else plain(device_type, *args, **kwargs)


@contextmanager
def other_device() -> Iterator[torch.device]:
    """Yields DEVICE, which can be used inside this context."""
    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=DEVICE) then makes a CPU tensor and moves it
    try:
        with (
            patch.object(space, "Generator", generator),
            patch.object(torch, "autocast", partial(autocast, torch.autocast)),
            Everywhere(),
        ):
            yield DEVICE
    finally:
        torch._C._set_only_lift_cpu_tensors(before)
