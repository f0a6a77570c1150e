"""Glow against the same Glow in normflows and in nflows: `make bench-peers`.

Same levels, steps and coupling networks. Each peer is timed as it comes, and tuned: channels_last, and 1x1 convolutions
of its fastest kind (normflows: a free matrix, nflows: a cached inverse). Training steps are our trainer's on either
side, with the same loss. The weights are random.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from contest import play
from torch import Tensor, nn

from genbench.contract import Batch, DataSpec, Loss, Model, Recipe
from genbench.draw.blocks import draw_block
from genbench.sources.build import load_model
from genbench.space import dequantise, seeded
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training

COLOUR, FASHION = DataSpec(3, 32, 32), DataSpec(1, 28, 28)
SIZES: dict[str, tuple[DataSpec, dict[str, int], int]] = {  # data, sizes of the flow, images a call
    "32x32": (COLOUR, {"levels": 2, "steps": 8, "width": 64}, 64),
    "28x28": (FASHION, {"levels": 2, "steps": 16, "width": 64}, 64),
    "32x32 wide": (COLOUR, {"levels": 3, "steps": 2, "width": 512}, 16),
}
LAYOUTS = {"as it comes": torch.contiguous_format, "tuned": torch.channels_last}
PRECISIONS = ("fp32", "bf16")
BATCH = 32
IN_EVERY_PEER = [
    pytest.mark.parametrize("setting", LAYOUTS),
    pytest.mark.parametrize("precision", PRECISIONS),
    pytest.mark.parametrize("library", ["normflows", "nflows"]),
    pytest.mark.filterwarnings("ignore"),  # theirs: deprecated linear algebra
]


def everywhere(test: Any) -> Any:
    """The test for every peer, precision and setting."""
    for mark in IN_EVERY_PEER:
        test = mark(test)
    return test


def level_shapes(data: DataSpec, levels: int) -> list[tuple[int, int, int]]:
    """Channels, height and width within each level."""
    return [(data.channels * 2 ** (i + 2), data.height >> (i + 1), data.width >> (i + 1)) for i in range(levels)]


class NormFlows(nn.Module):
    """A Glow of normflows."""

    def __init__(self, data: DataSpec, tuned: bool, levels: int, steps: int, width: int) -> None:
        super().__init__()
        library = pytest.importorskip("normflows", reason="an optional peer")
        bases, flows, merges = [], [], []
        for i, (c, h, w) in reversed(list(enumerate(level_shapes(data, levels)))):
            flows.append(
                [library.flows.GlowBlock(c, width, use_lu=not tuned) for _ in range(steps)] + [library.flows.Squeeze()]
            )
            top = i == levels - 1
            bases.append(library.distributions.GlowBase((c if top else c // 2, h, w)))
            merges += [] if top else [library.flows.Merge()]
        self.flow = library.MultiscaleFlow(bases, flows, merges, class_cond=False)

    def log_density(self, y: Tensor) -> Tensor:
        return self.flow.log_prob(y - 0.5, None)

    def draw(self, n: int) -> Tensor:
        return self.flow.sample(n)[0] + 0.5


class NFlows(nn.Module):
    """A Glow of nflows, whose coupling networks are as the others'."""

    def __init__(self, data: DataSpec, tuned: bool, levels: int, steps: int, width: int) -> None:
        super().__init__()
        pytest.importorskip("nflows", reason="an optional peer")
        from nflows import distributions, flows, transforms

        def network(inputs: int, outputs: int) -> nn.Module:
            first, middle = nn.Conv2d(inputs, width, 3, padding=1), nn.Conv2d(width, width, 1)
            return Unconditional(first, nn.ReLU(), middle, nn.ReLU(), nn.Conv2d(width, outputs, 3, padding=1))

        stack = transforms.MultiscaleCompositeTransform(levels)
        for shape in level_shapes(data, levels):
            c = shape[0]
            layers: list[Any] = [transforms.SqueezeTransform()]
            for _ in range(steps):
                layers += [transforms.ActNorm(c), transforms.OneByOneConvolution(c, using_cache=tuned)]
                layers.append(transforms.AffineCouplingTransform([0] * (c // 2) + [1] * (c // 2), network))
            stack.add_transform(transforms.CompositeTransform(layers), shape)
        self.flow = flows.Flow(stack, distributions.StandardNormal([data.dims]))

    def log_density(self, y: Tensor) -> Tensor:
        return self.flow.log_prob(y - 0.5)

    def draw(self, n: int) -> Tensor:
        return self.flow.sample(n) + 0.5


class Unconditional(nn.Sequential):
    """A sequence that nflows calls with a context."""

    def forward(self, x: Tensor, context: None = None) -> Tensor:
        return super().forward(x)


class Peer(Model):
    """A peer's flow as a model, so that the same trainer trains it on the same loss."""

    def __init__(self, data: DataSpec, flow: Any) -> None:
        super().__init__(data)
        self.flow = flow

    def loss(self, batch: Batch, player: str, step: int, gen: torch.Generator) -> Loss:
        log_p = self.flow.log_density(dequantise(batch.pixels, self.data.levels, gen)).mean()
        bits = math.log2(self.data.levels) - log_p / (self.data.dims * math.log(2))
        return Loss(bits, {"bits_per_dim": bits.detach()})

    def sample(self, n: int, gen: torch.Generator, condition: None = None) -> Tensor:
        return 2 * self.flow.draw(n) - 1


def peer(library: str, data: DataSpec, setting: str, **sizes: int) -> Peer:
    """The peer's Glow, its activation normalisations set by a first batch."""
    torch.manual_seed(0)
    model = Peer(data, {"normflows": NormFlows, "nflows": NFlows}[library](data, setting == "tuned", **sizes)).train()
    with torch.no_grad():
        model.flow.log_density(torch.rand(16, *data.shape, generator=seeded(0)))
    return model.to(memory_format=LAYOUTS[setting])


def ours(data: DataSpec, **sizes: int) -> Model:
    """Our Glow of the same sizes."""
    return load_model("glow", data=data, positions=False, constraint=0.0, **sizes).to(memory_format=torch.channels_last)


@everywhere
@pytest.mark.parametrize("size", SIZES)
def test_sampling(benchmark, size: str, library: str, precision: str, setting: str):
    data, sizes, block = SIZES[size]
    model, other = ours(data, **sizes), peer(library, data, setting, **sizes).eval()

    def theirs() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext():
            other.flow.draw(block)

    what = f"glow {size}, {block} images, {precision}, {library} {setting}"
    play(benchmark, what, block, 1.3, partial(draw_block, model, 0, 0, block, precision), theirs)


def training(model: Model, precision: str) -> Training:
    pixels = torch.randint(0, 256, (256, *model.data.shape), generator=seeded(0)).to(torch.uint8)
    recipe = Recipe(batch=BATCH, clip=1.0, ema=0.99)
    return Training(model.train(), Batches(pixels, None, 256, 0), recipe, FitOptions(10**9, 0, precision))


@everywhere
def test_training(benchmark, library: str, precision: str, setting: str):
    data, sizes, _ = SIZES["32x32"]
    model, other = ours(data, **sizes), peer(library, data, setting, **sizes)
    what = f"training glow, batch {BATCH}, {precision}, {library} {setting}"
    play(benchmark, what, BATCH, 0.9, training(model, precision).step, training(other, precision).step)
