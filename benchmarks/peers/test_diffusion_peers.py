"""DDPM and DDIM against diffusers' pipelines and U-Net of the same architecture: `make bench-peers`.

Both sides have as many parameters, take the same number of steps and run in the same precision; diffusers' network is
timed as it comes, and tuned: in channels_last. In the training step both networks are in our model and our
trainer: the same loss, optimiser and average. The weights are random.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from contest import play
from torch import Tensor, nn

from genbench.contract import DataSpec, Recipe
from genbench.draw.blocks import draw_block
from genbench.sources.build import load_model
from genbench.space import seeded
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training

diffusers = pytest.importorskip("diffusers", reason="an optional peer")

COLOUR = DataSpec(3, 32, 32)
STEPS, BLOCK, BATCH = 10, 16, 16
WIDTHS, GROUPS = (32, 64), 8
CONFIG: dict[str, Any] = {
    "channels": WIDTHS[0], "multipliers": (1, 2), "blocks": 1, "attention": (), "groups": GROUPS, "dropout": 0.0,
}  # fmt: skip
LAYOUTS = {"as it comes": torch.contiguous_format, "tuned": torch.channels_last}
PRECISIONS = ("fp32", "bf16")


def their_network(setting: str) -> Any:
    """The same U-Net in diffusers: one attention head, in the middle."""
    torch.manual_seed(0)
    network = diffusers.UNet2DModel(
        sample_size=COLOUR.height, in_channels=COLOUR.channels, out_channels=COLOUR.channels, block_out_channels=WIDTHS,
        layers_per_block=len(WIDTHS) // 2, down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=GROUPS, attention_head_dim=WIDTHS[-1], downsample_padding=0,
    )  # fmt: skip
    return network.to(memory_format=LAYOUTS[setting])


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


class Adapter(nn.Module):
    """Their network as ours is called."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, gen: torch.Generator | None = None) -> Tensor:
        return self.network(x, t).sample


def pipeline(name: str, network: Any) -> Any:
    """Their pipeline, silent."""
    kinds = {
        "ddpm": (diffusers.DDPMPipeline, diffusers.DDPMScheduler),
        "ddim": (diffusers.DDIMPipeline, diffusers.DDIMScheduler),
    }
    make, scheduler = kinds[name]
    found = make(unet=network.eval(), scheduler=scheduler())
    found.set_progress_bar_config(disable=True)
    return found


@pytest.mark.parametrize("setting", LAYOUTS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["ddpm", "ddim"])
def test_sampling(benchmark, name: str, precision: str, setting: str):
    options = {"ddpm": ({"steps": STEPS}, {}), "ddim": ({}, {"steps": STEPS})}
    config, sampler = options[name]
    model = load_model(name, data=COLOUR, sampler=sampler, **CONFIG, **config)
    network = their_network(setting)
    assert parameters(model) == parameters(network)
    pipe = pipeline(name, network)

    def theirs() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext():
            pipe(batch_size=BLOCK, generator=seeded(0), num_inference_steps=STEPS, output_type="np")

    what = f"{name}, {STEPS} steps of {BLOCK} images, {precision}, diffusers {setting}"
    play(benchmark, what, BLOCK, 1.0, lambda: draw_block(model, 0, 0, BLOCK, precision), theirs)


def training(model: Any, precision: str) -> Training:
    pixels = torch.randint(0, 256, (256, *COLOUR.shape), generator=seeded(0)).to(torch.uint8)
    recipe = Recipe(batch=BATCH, clip=1.0, ema=0.995)
    return Training(model.train(), Batches(pixels, None, 256, 0), recipe, FitOptions(10**9, 0, precision))


@pytest.mark.parametrize("setting", LAYOUTS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_training(benchmark, precision: str, setting: str):
    ours, theirs = (load_model("ddpm", data=COLOUR, **CONFIG) for _ in range(2))
    theirs.network = Adapter(their_network(setting))
    assert parameters(ours) == parameters(theirs)
    what = f"training ddpm, batch {BATCH}, {precision}, diffusers {setting}"
    play(benchmark, what, BATCH, 0.9, training(ours, precision).step, training(theirs, precision).step)
