"""CPU time and peak memory of scoring many small colour images, as an array and as a folder of PNG.

    python benchmarks/scoring_cost.py --images 50000

The extractor averages blocks of 8x8 pixels, so that what is measured is reading, decoding and the linter's summary.
Each kind is scored in a process of its own with an empty store.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from genbench.features import Extractor, ExtractorSource, Features

SIDE, PART = 32, 1_000


class Pooled(Extractor):
    """The mean of each block of 8x8 pixels: 48 numbers."""

    name, weights_hash = "pooled", "none"

    def __call__(self, pixels: Tensor, levels: int, batch: int = 500) -> Features:
        """Features of grey levels (N, 3, 32, 32)."""
        return Features(F.avg_pool2d(pixels.float() / (levels - 1), 8).flatten(1).numpy())


POOLED = ExtractorSource("means of blocks", load=lambda dataset, device, options: Pooled())


def smooth_images(n: int, seed: int) -> np.ndarray:
    """Enlarged random colours with a little noise: (n, 32, 32, 3) uint8."""
    gen = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, 8, 8, generator=gen)
    x = F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic") + 0.02 * torch.randn(n, 3, SIDE, SIDE, generator=gen)
    return (255 * x.clamp(0, 1)).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()


def write_sets(folder: Path, images: int) -> None:
    """fake.npz, the same images in png/, and real.npz."""
    for name, first in (("fake", 0), ("real", images)):
        parts = [smooth_images(min(PART, images - start), first + start) for start in range(0, images, PART)]
        np.savez(folder / f"{name}.npz", images=np.concatenate(parts))
    (folder / "png").mkdir()
    with np.load(folder / "fake.npz") as arrays:
        for number, pixels in enumerate(arrays["images"]):
            Image.fromarray(pixels).save(folder / "png" / f"{number:06}.png", compress_level=1)


def peak_memory() -> float:
    """MiB of this process; Linux alone, where getrusage's value includes the process that started this one."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def score_once(fake: Path, folder: Path) -> None:
    """Scores and prints a line."""
    import genbench

    os.environ["GENBENCH_CACHE"] = str(folder / f"store-{fake.name}")
    start = time.process_time()
    scores = genbench.score(
        fake=fake, reference=folder / "real.npz", features=f"{Path(__file__).absolute()}:POOLED", metrics=["fid"]
    )
    seconds, peak = time.process_time() - start, peak_memory()
    print(f"{fake.name:8} {seconds:6.1f} s of CPU time, peak {peak:,.0f} MiB, FID {scores.values['fid']:.6g}")


def main() -> None:
    """Writes the sets and scores both."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--images", type=int, default=50_000)
    images = options.parse_args().images
    with tempfile.TemporaryDirectory() as name:
        write_sets(Path(name), images)
        for fake in ("fake.npz", "png"):
            process = multiprocessing.get_context("spawn").Process(
                target=score_once, args=(Path(name) / fake, Path(name))
            )
            process.start()
            process.join()


if __name__ == "__main__":
    main()
