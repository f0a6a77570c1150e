"""Drawing against the network evaluations it makes: `make bench`.

`overhead` in each benchmark's extra_info is the time of a block over the part of it spent inside the network, the
median of the rounds; 1.05 means drawing costs 5 % more than its network evaluations. Both are read off the same block,
so a busy neighbour slows them alike.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from genbench.build import load_model
from genbench.contract import DataSpec, Model, Steps
from genbench.draw import draw_block

DIGITS, FASHION = DataSpec(1, 8, 8, 17, 10), DataSpec(1, 28, 28, 256, 10)
BLOCKS = {8: 1000, 28: 500}  # as the suites draw images of this size
LEAST_SECONDS = 5.0
NETWORKS: dict[str, Callable[[Any], tuple[torch.nn.Module, str]]] = {
    "VAE": lambda model: (model.decoder, "forward"),
    "DCGAN": lambda model: (model.generator, "forward"),
    "RealNVP": lambda model: (model.flow, "inverse"),
}
SAMPLERS = {"ddim": {"steps": 20}}
CASES = [(name, DIGITS) for name in ("vae", "dcgan", "realnvp", "ddpm", "ddim")]
CASES += [(name, FASHION) for name in ("vae", "dcgan")]


class Stopwatch:
    """Calls a function and adds up the seconds spent in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *given: Any, **named: Any) -> Any:
        start = time.perf_counter()
        result = self.function(*given, **named)
        self.seconds += time.perf_counter() - start
        return result


def watch_network(model: Model) -> Stopwatch:
    """A stopwatch on the network that drawing evaluates."""
    owner, name = (model.denoiser, "forward") if isinstance(model, Steps) else NETWORKS[type(model).__name__](model)
    watch = Stopwatch(getattr(owner, name))
    setattr(owner, name, watch)
    return watch


def overheads(model: Model, block: int) -> list[float]:
    """Time of a block over that of its network evaluations, in block after block."""
    watch = watch_network(model)
    draw_block(model, 0, 0, block)
    found: list[float] = []
    begin = time.perf_counter()
    while not found or time.perf_counter() - begin < LEAST_SECONDS:
        watch.seconds, start = 0.0, time.perf_counter()
        draw_block(model, 0, 0, block)
        found.append((time.perf_counter() - start) / watch.seconds)
    return found


@pytest.mark.parametrize(("name", "data"), CASES, ids=lambda v: v if isinstance(v, str) else f"{v.height}x{v.width}")
def test_drawing(benchmark, name: str, data: DataSpec):
    torch.set_num_threads(1)
    block = BLOCKS[data.height]
    model = load_model(name, data=data, sampler=SAMPLERS.get(name))
    benchmark.pedantic(draw_block, args=(model, 0, 0, block), rounds=1)
    found = overheads(model, block)
    benchmark.extra_info["overhead"] = round(statistics.median(found), 4)
    benchmark.extra_info["images_a_block"] = block
    print(f"{name} {data.height}x{data.width}: drawing / its network evaluations = {statistics.median(found):.4f}")
