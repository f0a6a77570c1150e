"""A pipeline of 300 million parameters: loaded once into memory, and drawn from in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

MAKE = """
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
net = UNet2DModel(32, block_out_channels=(256, 512, 768, 1024), layers_per_block=2, norm_num_groups=32,
                  down_block_types=("DownBlock2D",) * 4, up_block_types=("UpBlock2D",) * 4)
print(sum(p.numel() for p in net.parameters()))
DDPMPipeline(net, DDPMScheduler(10)).save_pretrained("large", max_shard_size="500MB")
"""
# Peak resident memory in MiB, above what the libraries need, of loading and then of drawing 2 and 6 images.
MEASURE = """
import resource
import torch
from genbench.contract import DataSpec
from genbench.registry import resolve_model
from genbench.sources.build import build
from genbench.space import seeded
from pathlib import Path
torch.set_num_threads(1)
import diffusers.pipelines.ddpm, diffusers.models.unets.unet_2d, accelerate
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
start = peak()
kind = resolve_model("large", "diffusers:./large", Path())
model = build(kind, DataSpec(3, 32, 32), {"batch": 2}, {"steps": 1, "dtype": DTYPE}, 0)
loaded = peak() - start
model.sample(2, seeded(0))
two = peak() - start
model.sample(6, seeded(0))
print(sum(p.numel() * p.element_size() for p in model.denoiser.parameters()) // 2**20, loaded, two, peak() - start)
"""


def measured(code: str, folder: Path) -> list[int]:
    ended = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return [int(word) for word in ended.stdout.split()]


@pytest.mark.slow
def test_it_is_loaded_without_a_second_copy_and_drawn_from_a_batch_at_a_time(tmp_path):
    pytest.importorskip("diffusers", reason="an optional source")
    pytest.importorskip("accelerate", reason="an optional source")
    assert measured(MAKE, tmp_path)[-1] > 300_000_000
    for dtype in ("fp32", "bf16"):
        weights, loaded, two, six = measured(MEASURE.replace("DTYPE", repr(dtype)), tmp_path)
        print(dtype, weights, loaded, two, six)
        assert loaded < 1.5 * weights + 100
        assert six < two + 200  # MiB
