"""A tiny suite that the campaigns run, interrupt and kill: two models, two metrics, a second or two of training.

NOISE: the file of a model without training.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import yaml

from genbench.records import OK, read_records

ROOT = Path(__file__).parents[2]
TOYS = ROOT / "tests" / "toys.py"
NOISE = '''
import torch
from genbench.contract import Draws


class Noise(Draws):
    """Draws noise."""

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def sample(self, n, gen, condition=None):
        return torch.rand(n, *self.data.shape, generator=gen, device=gen.device)
'''


def write_suite(folder: Path, images: int = 640, sleep: float = 0.02) -> Path:
    """Writes suite and data into a new folder, and returns it. sleep: seconds of each training step of 32 images."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    np.savez(folder / "data.npz", images=rng.integers(0, 256, (120, 8, 8), dtype=np.uint8))
    models = [
        {"name": "toy", "label": name, "source": f"{TOYS}:Diagonal", "config": {"sleep": sleep, "scale": scale},
         "budget": {"images": images}} for name, scale in (("narrow", 0.3), ("wide", 0.5))
    ]  # fmt: skip
    suite = {"suite": "tiny", "dataset": {"name": "npz", "path": "data.npz"}, "features": "pixels", "samples": 60}
    suite |= {"block": 20, "metrics": ["fid", "bits_per_dim"], "models": models}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(suite))
    return folder


def values(folder: Path) -> dict[tuple[str, str], float | None]:
    """The values of a folder's records that are ok, by cell and metric."""
    path = folder / "out" / "records.jsonl"
    return {(r.cell, r.metric): r.value for r in read_records(path) if r.status == OK} if path.exists() else {}


def command(folder: Path) -> list[str]:
    """The command that runs it into folder/out."""
    suite, out = folder / "tiny.yaml", folder / "out"
    return [sys.executable, "-m", "genbench", "run", str(suite), "--out", str(out), "--device", "cpu"]


def environment(cache: Path) -> dict[str, str]:
    """The environment of the command, with this store."""
    return {**os.environ, "GENBENCH_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
