"""The highest share of the rate of matrix products that a training step can reach with PyTorch's kernels on this CPU.

    python benchmarks/kernel_ceiling.py                      gan, cyclegan and glow at 28x28
    python benchmarks/kernel_ceiling.py --models ddpm --kernels          also each kernel's fastest variant

The products and convolutions of one step are recorded: shapes, layouts, arguments. Each is then timed alone, on random
numbers that stay in the caches, in every variant of `VARIANTS`: the fastest ones take as long as a step that does
nothing else.

    achieved    = operations of a step / its CPU seconds / rate of products of 1024x1024 matrices
    ceiling     = the same operations / CPU seconds of the fastest variants / the same rate
    with memory = the same, plus the bytes that the step's other operations read and write over the rate of a sum

Operations are those of the model as it is defined (training_rate.py), two for a multiplication with an addition; those
of a kernel are its own, which can be more. Every time is CPU seconds, one thread, the least of the rounds: the one that
other processes disturbed least. A second table shows how the time of a step is divided among groups of operations.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

sys.path.insert(0, str(Path(__file__).parent.parent))  # tools

from training_rate import operations

from genbench.train.loop import Training
from tools.gpu.subjects import SIZES, at_preset, training

SIDE, ADDED = 1024, 2**18  # of the products; numbers of each operand of a sum, in the second cache
ROUNDS, SECONDS = 3, 0.03
aten = torch.ops.aten
GROUPS = {  # of the operations that are neither products nor views, by what their names contain
    "normalisation": ("norm",),
    "optimiser": ("adam", "foreach", "lerp"),
    "padding": ("pad", "pixel_shuffle", "pixel_unshuffle"),
    "copies": ("clone", "copy", "cat", "index", "stack"),
}


@dataclass
class Kernel:
    """A product or convolution of a step. args: random tensors like those of the call. calls: in a step."""

    func: Any
    args: tuple[Any, ...]
    flops: int
    calls: int = 0


@dataclass
class Recording(TorchDispatchMode):
    """Notes the kernels of what runs within it, and CPU seconds and bytes of all other operations by group."""

    kernels: dict[Any, Kernel] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    moved: int = 0

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        start = time.thread_time()
        result = func(*args, **(kwargs or {}))
        seconds = time.thread_time() - start
        if func._overloadpacket in flop_registry:
            self._note(func, args, kwargs or {}, result)
            self.seconds["products"] += seconds
        elif not func.is_view:
            self.seconds[group_of(func)] += seconds
            self.moved += sum(t.numel() * t.element_size() for t in tree_leaves((args, kwargs, result)) if _stored(t))
        return result

    def _note(self, func: Any, args: Any, kwargs: Any, result: Any) -> None:
        key = (func, repr([_kind(arg) for arg in args]), repr(kwargs))
        if key not in self.kernels:
            flops = flop_registry[func._overloadpacket](*args, **kwargs, out_val=result)
            self.kernels[key] = Kernel(partial(func, **kwargs), tuple(_like(arg) for arg in args), flops)
        self.kernels[key].calls += 1


def group_of(func: Any) -> str:
    """The group of an operation by its name."""
    name = func._overloadpacket.__name__
    return next((group for group, parts in GROUPS.items() if any(part in name for part in parts)), "elementwise")


def _stored(value: Any) -> bool:
    return isinstance(value, Tensor)


def _kind(arg: Any) -> Any:
    return (tuple(arg.shape), arg.stride(), arg.dtype) if isinstance(arg, Tensor) else arg


def _like(arg: Any) -> Any:
    """Random numbers in the shape and layout of a tensor; anything else itself."""
    if not isinstance(arg, Tensor):
        return arg
    empty = torch.empty(arg.shape) if 0 in arg.stride() else torch.empty_strided(arg.shape, arg.stride())
    return empty.normal_().to(arg.dtype)


# ---- variants: names to calls, each with the share of its time that is the kernel's --------------------------------

Variants = dict[str, tuple[Callable[[], object], float]]
LAYOUTS = {"channels last": torch.channels_last, "channels first": torch.contiguous_format}


def in_layout(layout: torch.memory_format, *tensors: Tensor | None) -> list[Any]:
    """The tensors in this layout; those that have not four dimensions unchanged."""
    return [t.contiguous(memory_format=layout) if t is not None and t.ndim == 4 else t for t in tensors]


def twice(x: Tensor) -> Tensor:
    """The images of two calls."""
    return torch.cat([x, x]).contiguous(memory_format=torch.channels_last)


def plain(groups: int, dilation: list[int]) -> bool:
    """Whether products of matrices of neighbourhoods can replace a convolution here."""
    return groups == 1 and set(dilation) == {1}


def convolution(x: Tensor, weight: Tensor, bias: Any, *how: Any) -> list[Variants]:
    """Variants of a convolution."""
    stride, padding, dilation, transposed, _, groups = how
    found: Variants = {
        name: (partial(aten.convolution, *in_layout(layout, x, weight), bias, *how), 1.0)
        for name, layout in LAYOUTS.items()
    }
    found["two calls"] = partial(aten.convolution, twice(x), *in_layout(torch.channels_last, weight), bias, *how), 0.5
    if not transposed and weight.shape[2:] == (1, 1) and set(stride) == {1}:
        found["rows"] = partial(F.linear, _rows(x), weight.flatten(1), bias), 1.0
    if not transposed and plain(groups, dilation):
        matrix, first = weight.flatten(1), x.contiguous()
        found["neighbourhoods"] = (lambda: matrix @ F.unfold(first, weight.shape[2:], 1, padding, stride)), 1.0
        found.update(prepacked(x, weight, bias, stride, padding, dilation))
    return [found]


def prepacked(x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any) -> Variants:
    """oneDNN's own layout of images and weights, without the time of converting them."""
    if x.dtype != torch.float32:
        return {}
    packed = torch._C._nn.mkldnn_reorder_conv2d_weight(weight.to_mkldnn(), padding, stride, dilation, 1, x.shape)
    offsets = None if bias is None else bias.to_mkldnn()
    return {"prepacked": (partial(torch.conv2d, x.to_mkldnn(), packed, offsets, stride, padding), 1.0)}


def _rows(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).flatten(0, 2).contiguous()


def convolution_backward(g: Tensor, x: Tensor, weight: Tensor, sizes: Any, *how: Any) -> list[Variants]:
    """Variants of the gradient by the images and of that by the weights, where they are needed."""
    needed = how[-1]
    parts = []
    for mask, more in (((True, False, False), by_images), ((False, *needed[1:]), by_weights)):
        if needed[0 if mask[0] else 1]:
            found: Variants = {
                name: (partial(aten.convolution_backward, *in_layout(layout, g, x, weight), sizes, *how[:-1], mask), 1)
                for name, layout in LAYOUTS.items()
            }
            both = [twice(g), twice(x), *in_layout(torch.channels_last, weight)]
            found["two calls"] = partial(aten.convolution_backward, *both, sizes, *how[:-1], mask), 0.5
            parts.append(found | more(g, x, weight, *how[:-1]))
    return parts


def by_images(g: Tensor, x: Tensor, weight: Tensor, *how: Any) -> Variants:
    """The gradient by the images as products of matrices, summed at the neighbourhoods."""
    stride, padding, dilation, transposed, _, groups = how
    if transposed or not plain(groups, dilation):
        return {}
    if weight.shape[2:] == (1, 1) and set(stride) == {1}:
        rows, matrix = _rows(g), weight.flatten(1)
        return {"rows": (lambda: rows @ matrix, 1.0)}
    columns, matrix = g.flatten(2).contiguous(), weight.flatten(1).t().contiguous()
    fold = partial(F.fold, output_size=x.shape[2:], kernel_size=weight.shape[2:], padding=padding, stride=stride)
    return {"neighbourhoods": (lambda: fold(matrix @ columns), 1.0)}


def by_weights(g: Tensor, x: Tensor, weight: Tensor, *how: Any) -> Variants:
    """The gradient by the weights as one product of matrices."""
    stride, padding, dilation, transposed, _, groups = how
    if transposed or not plain(groups, dilation):
        return {}
    if weight.shape[2:] == (1, 1) and set(stride) == {1}:
        out, into = _rows(g), _rows(x)
        return {"rows": (lambda: out.t() @ into, 1.0)}
    columns, first = g.transpose(0, 1).flatten(1).contiguous(), x.contiguous()

    def product() -> Tensor:
        around = F.unfold(first, weight.shape[2:], 1, padding, stride)
        return columns @ around.transpose(1, 2).flatten(0, 1)

    return {"neighbourhoods": (product, 1.0)}


def matrices(*args: Any) -> list[Variants]:
    """The two factors of a product in either order of their numbers in memory."""
    *added, a, b = args
    func = aten.addmm if added else (aten.mm if a.ndim == 2 else aten.bmm)
    orders: dict[str, Callable[[Tensor], Tensor]] = {
        "by rows": lambda m: m.contiguous(),
        "by columns": lambda m: m.mT.contiguous().mT,
    }
    return [
        {f"{one}, {other}": (partial(func, *added, lay(a), lie(b)), 1.0)
         for one, lay in orders.items() for other, lie in orders.items()}
    ]  # fmt: skip


VARIANTS: dict[Any, Callable[..., list[Variants]]] = {
    aten.convolution: convolution,
    aten.convolution_backward: convolution_backward,
    aten.mm: matrices,
    aten.addmm: matrices,
    aten.bmm: matrices,
}


# ---- times ----------------------------------------------------------------------------------------------------------


def least_seconds(call: Callable[[], object], rounds: int = ROUNDS, seconds: float = SECONDS) -> float:
    """CPU seconds of a call: the least of the rounds, each the mean of the calls that fill `seconds`."""
    call()
    means = []
    for _ in range(rounds):
        calls, start = 0, time.thread_time()
        while calls == 0 or time.thread_time() - start < seconds:
            call()
            calls += 1
        means.append((time.thread_time() - start) / calls)
    return min(means)


def fastest(kernel: Kernel) -> tuple[float, float, str]:
    """CPU seconds of a call as recorded, of its fastest variants together, and their names."""
    recorded = least_seconds(lambda: kernel.func(*kernel.args))
    packet = kernel.func.func._overloadpacket
    if packet not in VARIANTS:
        return recorded, recorded, "as recorded"
    total, names = 0.0, []
    for part in VARIANTS[packet](*kernel.args):
        seconds, name = min((least_seconds(call) * share, name) for name, (call, share) in part.items())
        total, names = total + seconds, [*names, name]
    return (recorded, recorded, "as recorded") if recorded <= total else (recorded, total, "; ".join(names))


def product_rate() -> float:
    """Operations a second of a product of two matrices, two for a multiplication with an addition."""
    a, b = torch.randn(SIDE, SIDE), torch.randn(SIDE, SIDE)
    return 2 * SIDE**3 / least_seconds(lambda: a @ b)


def memory_rate() -> float:
    """Bytes a second that a sum of two tensors reads and writes."""
    a, b = torch.randn(ADDED), torch.randn(ADDED)
    out = torch.empty_like(a)
    return 3 * a.numel() * a.element_size() / least_seconds(lambda: torch.add(a, b, out=out))


@dataclass(frozen=True)
class Ceiling:
    """Of one step: its operations, and CPU seconds. recorded, best: of its kernels alone. memory: of the rest's bytes.

    groups: CPU seconds within the operations of each group; what is missing to `step` is Python and autograd.
    """

    flops: int
    rate: float
    step: float
    recorded: float
    best: float
    memory: float
    groups: dict[str, float]

    def share(self, seconds: float) -> float:
        """The share of the rate of products that the operations reach in so many seconds."""
        return self.flops / seconds / self.rate


def measure(run: Training, show: Callable[[str], None] | None = None) -> Ceiling:
    """The ceiling of the next step of a training. show: is called with a line for each kernel."""
    run.step()
    run.step()
    with Recording() as noted:
        run.step()
    recorded = best = 0.0
    for kernel in noted.kernels.values():
        one, least, name = fastest(kernel)
        recorded, best = recorded + kernel.calls * one, best + kernel.calls * least
        if show:
            show(described(kernel, one, least, name))
    rate, step = product_rate(), least_seconds(run.step, seconds=10 * SECONDS)
    return Ceiling(operations(run), rate, step, recorded, best, noted.moved / memory_rate(), dict(noted.seconds))


def described(kernel: Kernel, recorded: float, best: float, name: str) -> str:
    """A row of the table of kernels."""
    shapes = " ".join("x".join(map(str, arg.shape)) for arg in kernel.args if isinstance(arg, Tensor) and arg.ndim > 1)
    what = kernel.func.func._overloadpacket.__name__
    gflops = 1e-9 * kernel.flops
    times = f"{1e3 * recorded:.3f} | {1e3 * best:.3f} | {gflops / recorded:.0f} | {gflops / best:.0f}"
    return f"| {what} | {shapes} | {kernel.calls} | {times} | {name} |"


def cells(found: Ceiling) -> Iterator[str]:
    """A row of the table of models, without the name."""
    yield f"{1e-9 * found.flops:.2f}"
    yield from (f"{1e3 * seconds:.1f}" for seconds in (found.step, found.recorded, found.best))
    yield from (f"{found.share(seconds):.0%}" for seconds in (found.step, found.best, found.best + found.memory))
    yield f"{found.best / found.step:.0%}"
    yield f"{(found.best + found.memory) / found.step:.0%}"


def main() -> None:
    """Prints a row for each model and, where asked for, tables of groups and kernels."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--models", nargs="+", default=["gan", "cyclegan", "glow"])
    options.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options.add_argument("--kernels", action="store_true", help="a row for each kernel")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    rows, groups = [], []
    for name in chosen.models:
        run = training(at_preset(name, SIZES["28"]), torch.device("cpu"), chosen.precision)
        found = measure(run, partial(print, flush=True) if chosen.kernels else None)
        rows.append(f"| {name} | {' | '.join(cells(found))} |")
        rest = found.step - sum(found.groups.values())
        shown = {**found.groups, "Python, autograd": rest}
        groups.append(f"| {name} | " + ", ".join(f"{group} {1e3 * s:.1f}" for group, s in shown.items()) + " |")
    print("\n| model | GFLOP | step, ms | its kernels, ms | fastest, ms | achieved | ceiling | with memory | of both |")
    print("|---|" + 8 * "---:|", *rows, "", *groups, sep="\n")


if __name__ == "__main__":
    main()
