"""Drawing against the network evaluations it makes: `make bench`.

`overhead` in each benchmark's extra_info is the time of a block over the part of it spent inside the networks, the
median of the rounds; 1.05 means drawing costs 5 % more than its network evaluations. Both are read off the same block
and are CPU seconds, so a busy neighbour slows them alike. A flow is measured twice: against its inverse as a whole, and
against the bare networks of its couplings, which shows what its own arithmetic costs.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from subjects import fresh
from torch import nn

from genbench.contract import DataSpec, Model, Steps
from genbench.draw.blocks import draw_block

DIGITS, FASHION, COLOUR = DataSpec(1, 8, 8, 17, 10), DataSpec(1, 28, 28, 256, 10), DataSpec(3, 32, 32, 256, 10)
LEAST_SECONDS, LEAST_ROUNDS = 3.0, 5
Network = tuple[nn.Module, str]
NETWORKS: dict[str, Callable[[Any], list[Network]]] = {
    "VAE": lambda model: [(model.decoder, "forward")],
    "DCGAN": lambda model: [(model.generator, "forward")],
    "RealNVP": lambda model: [(model.flow, "inverse")],
    "Glow": lambda model: [(model.flow, "inverse")],
    "LatentDiffusion": lambda model: [(part, "forward") for part in (model.network, model.decoder, model.text)],
}
SAMPLERS: dict[str, dict[str, Any]] = {
    "ddim": {"steps": 20},
    "latent_diffusion": {"steps": 5},
    "flow_matching": {"steps": 20},
    "edm": {"steps": 10, "churn": 5.0},
    "mean_flow": {"steps": 4},
}
U_NET: dict[str, Any] = {"channels": 32, "multipliers": (1, 2), "blocks": 1, "attention": ()}
CONFIGS: dict[tuple[str, int], dict[str, Any]] = {
    ("ddpm", 32): {**U_NET, "steps": 20},
    ("ddim", 32): U_NET,
    ("latent_diffusion", 32): {"width": 16, "depth_blocks": 1, "channels": 32, "blocks": 1, "heads": 4},
    ("glow", 32): {"steps": 8, "width": 64},
    **{(name, 32): U_NET for name in ("flow_matching", "edm", "mean_flow")},
}
CASES = [(name, DIGITS, 1000) for name in ("vae", "dcgan", "realnvp", "glow", "ddpm", "ddim")]
CASES += [(name, FASHION, 500) for name in ("vae", "dcgan")]
CASES += [(name, data, 16) for data in (DIGITS, COLOUR) for name in ("ddpm", "ddim", "latent_diffusion")]
CASES += [(name, data, 16) for data in (DIGITS, COLOUR) for name in ("flow_matching", "edm", "mean_flow")]
COUPLINGS = [(name, block) for name in ("realnvp", "glow") for block in (16, 64)]


class Stopwatch:
    """Calls a function and adds up the CPU seconds spent in it."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.seconds = function, 0.0

    def __call__(self, *given: Any, **named: Any) -> Any:
        start = time.process_time()
        result = self.function(*given, **named)
        self.seconds += time.process_time() - start
        return result


def sampling_networks(model: Model) -> list[Network]:
    """The networks that drawing evaluates."""
    known = NETWORKS.get(type(model).__name__)
    if known is not None:
        return known(model)
    assert isinstance(model, Steps)
    return [(model.denoiser, "forward")]


def coupling_networks(model: Model) -> list[Network]:
    """The network of every coupling of a flow."""
    return [
        (layer.network, "forward")
        for layer in model.modules()
        if isinstance(getattr(layer, "network", None), nn.Module)
    ]


def watched(networks: Iterable[Network]) -> list[Stopwatch]:
    """A stopwatch on each network."""
    watches = []
    for owner, name in networks:
        watches.append(Stopwatch(getattr(owner, name)))
        setattr(owner, name, watches[-1])
    return watches


def overheads(model: Model, block: int, networks: list[Network]) -> list[float]:
    """Time of a block over that of its network evaluations, in block after block."""
    watches = watched(networks)
    draw_block(model, 0, 0, block)
    found: list[float] = []
    begin = time.process_time()
    while len(found) < LEAST_ROUNDS or time.process_time() - begin < LEAST_SECONDS:
        for watch in watches:
            watch.seconds = 0.0
        start = time.process_time()
        draw_block(model, 0, 0, block)
        found.append((time.process_time() - start) / sum(watch.seconds for watch in watches))
    return found


def measure(benchmark: Any, what: str, model: Model, block: int, networks: list[Network]) -> None:
    """One call for pytest-benchmark's table, then the overheads into extra_info and onto the screen."""
    benchmark.pedantic(draw_block, args=(model, 0, 0, block), rounds=1)
    found = statistics.median(overheads(model, block, networks))
    benchmark.extra_info.update(overhead=round(found, 4), images=block)
    print(f"{what}, {block} images of {model.data.height}x{model.data.width}: {found:.4f}")


@pytest.mark.parametrize(("name", "data", "block"), CASES, ids=str)
def test_drawing(benchmark, name: str, data: DataSpec, block: int):
    model = fresh(name, data, SAMPLERS.get(name), **CONFIGS.get((name, data.height), {}))
    measure(benchmark, f"{name}: drawing over its network evaluations", model, block, sampling_networks(model))


@pytest.mark.parametrize(("name", "block"), COUPLINGS, ids=str)
def test_couplings(benchmark, name: str, block: int):
    model = fresh(name, COLOUR, **CONFIGS.get((name, 32), {}))
    measure(benchmark, f"{name}: drawing over its couplings' networks", model, block, coupling_networks(model))


@pytest.mark.parametrize("data", [DIGITS, COLOUR], ids=str)
def test_adaptive_solver(benchmark, data: DataSpec):
    model: Any = fresh(
        "flow_matching",
        data,
        {"solver": "adaptive", "tolerance": 1e-4},
        **CONFIGS.get(("flow_matching", data.height), {}),
    )
    torch.nn.init.normal_(model.network.last.weight, std=0.01)  # an untrained velocity is 0, and one step is enough
    measure(benchmark, "flow_matching, adaptive: drawing over its evaluations", model, 16, sampling_networks(model))


@pytest.mark.parametrize("block", [16, 256])
def test_pixels(benchmark, block: int):
    """An autoregressive model's images over one pass of its network over as many."""
    model: Any = fresh("pixelcnn", DIGITS)
    x = torch.zeros(block, *DIGITS.shape)

    def one_pass() -> None:
        with torch.inference_mode():
            model.network(x)

    found = []
    for _ in range(LEAST_ROUNDS):
        drawing, passing = Stopwatch(draw_block), Stopwatch(one_pass)
        drawing(model, 0, 0, block)
        passing()
        found.append(drawing.seconds / passing.seconds)
    benchmark.pedantic(draw_block, args=(model, 0, 0, block), rounds=1)
    passes = statistics.median(found)
    benchmark.extra_info.update(passes=round(passes, 3), images=block)
    print(f"pixelcnn: {block} images of 8x8 cost {passes:.2f} passes")
