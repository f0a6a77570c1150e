"""Step `peers`: DDPM and DDIM against diffusers, Glow against normflows and nflows, alternating on the device.

The same pairs as in benchmarks/peers (equal architecture, parameters and steps; the peer as it comes and tuned), and
DDPM at the published size for CIFAR-10. A round is ours, theirs, theirs, ours; its ratio is their two calls over our
two.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
import torch

from genbench.space import seeded
from tools.gpu.common import ROOT, Part, Setting, each
from tools.gpu.devices import seconds_of, synchronise, torch_device

SECONDS, LEAST_ROUNDS = 4.0, 5
SETTINGS = {"shipped": "as it comes", "tuned": "tuned"}
BATCHES = {"diffusers": 64, "normflows": 64, "nflows": 64}
TINY = ("ddim-tuned-bf16", "training-tuned-bf16")
PUBLISHED_BATCH, CHAIN = 64, 10  # images and steps of a sampling call at the published size
Call = Callable[[], object]


def parts(setting: Setting) -> list[Part]:
    """A process for each pair whose library is installed; bfloat16 first, which people train in."""
    names = []
    for precision in ("bf16",) if setting.tiny else ("bf16", "fp32"):
        for library, kinds in {"diffusers": ("ddpm", "ddim", "training"), "normflows": ("sampling", "training"),
                               "nflows": ("sampling", "training")}.items():  # fmt: skip
            names += [f"{library}-{kind}-{s}-{precision}" for kind in kinds for s in SETTINGS if installed(library)]
    if setting.tiny:
        names = [name for name in names if name.split("-", 1)[1] in TINY]
    elif installed("diffusers"):
        names = [f"published-{kind}-{s}-bf16" for kind in ("ddpm", "training") for s in SETTINGS] + names
    return each(names, "tools.gpu.peers:contest", seconds=25.0)


def installed(library: str) -> bool:
    """Whether a peer can be imported."""
    return find_spec(library) is not None


def contest(setting: Setting, item: str) -> dict[str, Any]:
    """Median seconds of both, and the ratio theirs / ours: median and quartiles over the rounds."""
    warnings.simplefilter("ignore")  # theirs: deprecated linear algebra
    sys.path.insert(0, str(ROOT / "benchmarks" / "peers"))
    library, kind, way, precision = item.split("-")
    device = torch_device(setting.device)
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")
    make = {"diffusers": diffusion, "published": published}.get(library, flow)
    images, ours, theirs = make(setting, library, kind, SETTINGS[way], precision, device)
    for call in (ours, theirs) * 2:
        call()
    synchronise(device)
    rounds: list[tuple[float, float]] = []
    spent, least = 0.0, 2 if setting.tiny else LEAST_ROUNDS
    while len(rounds) < least or spent < (0.1 if setting.tiny else SECONDS):
        a, b, c, d = (seconds_of(call, device) for call in (ours, theirs, theirs, ours))
        rounds.append(((a + d) / 2, (b + c) / 2))
        spent += a + b + c + d
    low, ratio, high = np.quantile([b / a for a, b in rounds], (0.25, 0.5, 0.75)).tolist()
    mine, other = (median(column) for column in zip(*rounds, strict=True))
    return {"images": images, "images_per_second": [images / mine, images / other], "ratio": [low, ratio, high],
            "rounds": len(rounds)}  # fmt: skip


def in_precision(precision: str, device: torch.device) -> Any:
    """Autocast to bfloat16, or nothing."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


def drawn(model: Any, n: int, precision: str) -> Call:
    """A call of ours that draws n images."""
    from genbench.draw import draw_block

    return partial(draw_block, model.to(memory_format=torch.channels_last), 0, 0, n, precision)


def piped(pipe: Any, n: int, steps: int, precision: str, device: torch.device) -> Call:
    """A call of diffusers' pipeline that draws n images."""

    def call() -> None:
        gen = seeded(0, device)
        with torch.inference_mode(), in_precision(precision, device):
            pipe(batch_size=n, generator=gen, num_inference_steps=steps, output_type="np")

    return call


def diffusion(
    setting: Setting, library: str, kind: str, way: str, precision: str, device: torch.device
) -> tuple[int, Call, Call]:
    """The small U-Net of benchmarks/peers, ours and diffusers'."""
    from genbench import load_model

    peers = import_module("test_diffusion_peers")
    n = 2 if setting.tiny else BATCHES[library]
    network = peers.their_network(way).to(device)
    if kind == "training":
        return trainings(peers.COLOUR, peers.CONFIG, peers.Adapter(network), n, precision, device)
    config, sampler = {"ddpm": ({"steps": peers.STEPS}, {}), "ddim": ({}, {"steps": peers.STEPS})}[kind]
    model = load_model(kind, data=peers.COLOUR, sampler=sampler, **peers.CONFIG, **config).to(device)
    assert peers.parameters(model) == peers.parameters(network)
    pipe = peers.pipeline(kind, network).to(device)
    return n, drawn(model, n, precision), piped(pipe, n, peers.STEPS, precision, device)


def published(
    setting: Setting, library: str, kind: str, way: str, precision: str, device: torch.device
) -> tuple[int, Call, Call]:
    """DDPM's U-Net for CIFAR-10 with 35.7 million parameters (Ho et al. 2020, appendix B), ours and diffusers'."""
    from diffusers import UNet2DModel

    from genbench import load_model

    peers = import_module("test_diffusion_peers")
    network = UNet2DModel(
        sample_size=32, in_channels=3, out_channels=3, block_out_channels=(128, 256, 256, 256), layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), attention_head_dim=None,
        downsample_padding=0, norm_eps=1e-6,
    ).to(device, memory_format=peers.LAYOUTS[way])  # fmt: skip
    model = load_model("ddpm", data=peers.COLOUR, steps=CHAIN).to(device)
    assert peers.parameters(model) == peers.parameters(network)
    if kind == "training":
        return trainings(peers.COLOUR, {}, peers.Adapter(network), 128, precision, device)
    pipe = peers.pipeline("ddpm", network).to(device)
    n = PUBLISHED_BATCH
    return n, drawn(model, n, precision), piped(pipe, n, CHAIN, precision, device)


def trainings(
    spec: Any, config: dict[str, Any], network: Any, batch: int, precision: str, device: torch.device
) -> tuple[int, Call, Call]:
    """Steps of our trainer on our network and on theirs."""
    from genbench import load_model

    mine, other = (load_model("ddpm", data=spec, **config).to(device) for _ in range(2))
    mine.to(memory_format=torch.channels_last)
    other.network = network
    return batch, *(stepper(model, spec, batch, 0.995, precision, device) for model in (mine, other))


def stepper(model: Any, spec: Any, batch: int, ema: float, precision: str, device: torch.device) -> Call:
    """A call that takes one training step."""
    from genbench.contract import Recipe
    from genbench.train.loop import FitOptions, Training
    from tools.gpu.subjects import ENDLESS, random_batches

    recipe = Recipe(batch=batch, clip=1.0, ema=ema)
    return Training(model.train(), random_batches(spec, model, device), recipe, FitOptions(ENDLESS, 0, precision)).step


def flow(
    setting: Setting, library: str, kind: str, way: str, precision: str, device: torch.device
) -> tuple[int, Call, Call]:
    """Glow of the same sizes."""
    peers = import_module("test_glow_peers")
    spec, sizes, _ = peers.SIZES["28x28" if kind == "sampling" else "32x32"]
    sizes = sizes | {"steps": 2} if setting.tiny else sizes
    n = 2 if setting.tiny else BATCHES[library]
    model, other = peers.ours(spec, **sizes).to(device), peers.peer(library, spec, way, **sizes).to(device)
    if kind == "training":
        return n, *(stepper(m, spec, n, 0.99, precision, device) for m in (model, other))
    other.eval()

    def theirs() -> None:
        with torch.inference_mode(), in_precision(precision, device):
            other.flow.draw(n)

    return n, drawn(model, n, precision), theirs
