"""Operations after which the CPU waits for a GPU, recorded on the simulated device.

A GPU works through a queue of kernels while Python prepares the next ones. An operation whose result Python needs, or
that copies from memory the system may move, waits until the queue is empty. One such operation per training step can
cost more time than the step of a small model. Recorded are:

    number of a tensor     item(), float(), int(), bool(), tolist(), torch.equal()
    copy to the CPU        cpu(), to("cpu"), copy_() into a tensor on the CPU
    copy to the device     to(device) and copy_() without non_blocking=True, torch.tensor(..., device=device)
    unknown size           nonzero(), unique(), masked_select(), an index by a mask, repeat_interleave() by a tensor
    index on the CPU       indexing a tensor on the device by one on the CPU
    check of a result      torch.linalg.inv() and others that raise an error for a singular matrix
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from genbench.check.arguments import values_in

LISTENERS: list[list[str]] = []
ALWAYS = (
    "aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal", "aten::_linalg_check_errors",
    "aten::nonzero", "aten::masked_select", "aten::_unique", "aten::_unique2", "aten::unique_dim",
    "aten::unique_consecutive", "aten::bincount",
)  # fmt: skip
COPIES = ("aten::_to_copy", "aten::to", "aten::copy_")  # inference mode does not reduce `to` to the first
INDEXED = ("aten::index", "aten::index_put_", "aten::_index_put_impl_")
MASKS = (torch.bool, torch.uint8)


@contextmanager
def recorded_waits() -> Iterator[list[str]]:
    """The operations within that wait, `aten::nonzero at zoo/vae.py:31`, in order, from all threads."""
    waits: list[str] = []
    LISTENERS.append(waits)
    try:
        yield waits
    finally:
        LISTENERS.remove(waits)


def record(name: str) -> None:
    """Adds an operation to the open records, with the file and line that called it."""
    if not LISTENERS:
        return
    inside = (Path(torch.__file__).parent, Path(__file__).parent)
    frames = [f for f in traceback.extract_stack() if not any(Path(f.filename).is_relative_to(p) for p in inside)]
    caller = frames[-1]
    for waits in LISTENERS:
        waits.append(f"{name} at {'/'.join(Path(caller.filename).parts[-2:])}:{caller.lineno}")


def waits(op: Any, args: Any, kwargs: Any, there: Callable[[Any], bool], target: bool | None) -> bool:
    """Whether an operation with these arguments waits.

    there: whether something is a tensor on the device. target: whether the result was requested on the device, None
    without a request.
    """
    name = op._schema.name
    if name in COPIES:
        parameters = [parameter.name for parameter in op._schema.arguments]
        blocking = not {**dict(zip(parameters, args, strict=False)), **kwargs}.get("non_blocking")
        return blocking and (
            there(args[0]) != there(args[1]) if name == "aten::copy_" else target == (not there(args[0]))
        )
    of_unknown_size = name == "aten::repeat_interleave" and kwargs.get("output_size") is None
    if not (name in INDEXED or name in ALWAYS or of_unknown_size):
        return False  # first, because nearly all operations end here
    if not any(there(leaf) for leaf in values_in((args, kwargs))):
        return False
    return name not in INDEXED or index_waits(args, there)


def index_waits(args: Any, there: Callable[[Any], bool]) -> bool:
    """Whether an index is on the CPU, or a mask whose ones must be counted; filling a mask is neither."""
    indices = [index for index in args[1] if index is not None]
    if any(not there(index) for index in indices):
        return True
    fills = len(args) > 2 and args[2].numel() == 1 and len(indices) == 1
    return any(index.dtype in MASKS for index in indices) and not fills
