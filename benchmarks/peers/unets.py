"""What the benchmarks of diffusions share: 32x32 colour images, a U-Net and diffusers' of the same architecture."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genbench.contract import DataSpec, Model, Recipe
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
    """Their network as ours is called; of MeanFlow's two times it receives the first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, t: Tensor, gen: torch.Generator | None = None) -> Tensor:
        return self.network(x, t if t.dim() == 1 else t[:, 0]).sample


def autocast(precision: str) -> AbstractContextManager[Any]:
    """The precision in which genbench draws."""
    return torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext()


def training(model: Model, precision: str, batch: int = BATCH) -> Training:
    pixels = torch.randint(0, 256, (256, *COLOUR.shape), generator=seeded(0)).to(torch.uint8)
    recipe = Recipe(batch=batch, clip=1.0, ema=0.995)
    return Training(model.train(), Batches(pixels, None, 256, 0), recipe, FitOptions(10**9, 0, precision))
