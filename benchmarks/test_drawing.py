"""Drawing against the bare network evaluations it makes, block by block in turn: `make bench`.

`overhead` in each benchmark's extra_info is the ratio of their fastest rounds (a neighbour can only slow a round down);
1.05 means drawing costs 5 % more.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from genbench.build import load_model
from genbench.contract import DataSpec, Decodes, Model, Steps
from genbench.draw import draw_block
from genbench.space import seeded

DIGITS, FASHION = DataSpec(1, 8, 8, 17, 10), DataSpec(1, 28, 28, 256, 10)
BLOCK = 500
ROUNDS = 5
LEAST_SECONDS = 0.5  # a fast model gets more rounds: ROUNDS times as many as fit into this
SAMPLERS = {"ddim": {"steps": 20}}
CASES = [(name, DIGITS) for name in ("vae", "dcgan", "realnvp", "ddpm", "ddim")]
CASES += [(name, FASHION) for name in ("vae", "dcgan")]


class Recorder:
    """Keeps the inputs of every call of a module while open."""

    def __init__(self, module: nn.Module) -> None:
        self.inputs: list[tuple[Tensor, ...]] = []
        self.handle = module.register_forward_pre_hook(lambda _, given: self.inputs.append(given))


def bare(model: Model) -> Callable[[], None]:
    """The network evaluations of one block and nothing else, on the inputs that drawing gives them."""
    if isinstance(model, Steps):
        recorder = Recorder(model.denoiser)
        draw_block(model, 0, 0, BLOCK)
        recorder.handle.remove()
        return lambda: [model.denoiser(*given) for given in recorder.inputs]
    assert isinstance(model, Decodes)
    z = model.noise(BLOCK, seeded(0))
    return lambda: model.decode(z)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


@pytest.mark.parametrize(("name", "data"), CASES, ids=lambda v: v if isinstance(v, str) else f"{v.height}x{v.width}")
def test_drawing(benchmark, name: str, data: DataSpec):
    torch.set_num_threads(1)
    model = load_model(name, data=data, sampler=SAMPLERS.get(name))
    network = bare(model)
    with torch.inference_mode():
        times = math.ceil(LEAST_SECONDS / seconds(network))
        pairs = [(seconds(lambda: draw_block(model, 0, 0, BLOCK)), seconds(network)) for _ in range(ROUNDS * times)]
    fastest = [min(column) for column in zip(*pairs, strict=True)]
    benchmark.extra_info["overhead"] = round(fastest[0] / fastest[1], 3)
    benchmark.extra_info["images_a_block"] = BLOCK
    benchmark.pedantic(draw_block, args=(model, 0, 0, BLOCK), rounds=3)
    print(f"{name} {data.height}x{data.width}: drawing / bare network evaluations = {benchmark.extra_info['overhead']}")
