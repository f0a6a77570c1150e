"""Step `score`: a large score on the device against torch-fidelity's, and the set-level metrics at full size.

Both get the same images and the same randomly initialised Inception. PyTorch's own initialisation would let its
features collapse to a point, so the weights keep the signal's variance (He et al. 2015).
"""

from __future__ import annotations

import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from tools.gpu.common import Part, Setting
from tools.gpu.devices import torch_device

SIDE, IMAGES, TINY_IMAGES = 32, 10_000, 24
ROWS, WIDTH, CLASSES = 50_000, 2_048, 1_008
NAMES = {
    "fid": "frechet_inception_distance", "kid": "kernel_inception_distance_mean", "is": "inception_score_mean",
}  # fmt: skip
SET_LEVEL = ("frechet", "inception-score", "kernel-subsets", "precision-recall", "kernel")


def parts(setting: Setting) -> list[Part]:
    """Ours, theirs without and with TF32 (on the CPU where the device is not CUDA), each metric on random features."""
    images = Part(("ours", "theirs-fp32", "theirs-as-shipped"), "tools.gpu.score:scored", seconds=40.0)
    return [images, Part(SET_LEVEL, "tools.gpu.score:set_level", seconds=30.0)]


def scored(setting: Setting, item: str) -> dict[str, Any]:
    """Values and seconds of one implementation."""
    fake, real = images(count(setting), 1, 4), images(count(setting), 2, 5)
    weights = inception_file(Path(setting.work) / "inception.pth")
    start = time.perf_counter()
    values = (ours if item == "ours" else theirs)(setting, item, fake, real, weights)
    return {"images": 2 * count(setting), "seconds": time.perf_counter() - start, "values": values}


def compared(setting: Setting) -> list[str]:
    """The metrics; a rehearsal has fewer images than the inception score needs."""
    return [name for name in NAMES if not (setting.tiny and name == "is")]


def count(setting: Setting) -> int:
    """Images of a set."""
    return TINY_IMAGES if setting.tiny else IMAGES


def ours(setting: Setting, item: str, fake: Tensor, real: Tensor, weights: Path) -> dict[str, float]:
    """Values of genbench."""
    import genbench

    found = genbench.score(
        fake=fake.numpy(), reference=real.numpy(), features="inception-v3-compat", weights=weights,
        metrics=compared(setting), device=str(torch_device(setting.device)),
    )  # fmt: skip
    return {name: found.values[name] for name in compared(setting)}


def theirs(setting: Setting, item: str, fake: Tensor, real: Tensor, weights: Path) -> dict[str, float]:
    """Values of torch-fidelity."""
    from torch_fidelity import calculate_metrics

    with torch.backends.cudnn.flags(enabled=True, allow_tf32=item == "theirs-as-shipped"):
        found = calculate_metrics(
            input1=Images(fake), input2=Images(real), feature_extractor_weights_path=str(weights), isc=True, fid=True,
            kid=True, kid_subsets=1, kid_subset_size=len(fake), cuda=setting.device == "cuda", cache=False,
            feature_extractor="inception-v3-compat", verbose=False, save_cpu_ram=setting.device != "cuda",
        )  # fmt: skip
    return {name: float(found[NAMES[name]]) for name in compared(setting)}


class Images(Dataset[Tensor]):
    """Images as torch-fidelity takes them: uint8 (3, H, W)."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Tensor:
        return self.pixels[index]


def images(n: int, seed: int, cells: int) -> Tensor:
    """Images (n, 3, SIDE, SIDE) uint8 of a few blurred blots, which random features tell apart."""
    gen = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 3, cells, cells, generator=gen) * torch.rand(n, 1, 1, 1, generator=gen)
    return (255 * torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear")).to(torch.uint8)


def inception_file(path: Path) -> Path:
    """A file of random weights in torch-fidelity's format, written once."""
    if not path.is_file():
        from genbench.features.inception import Inception

        gen = torch.Generator().manual_seed(0)
        state = Inception().state_dict()
        for name, tensor in state.items():
            if tensor.ndim > 1:
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=gen)
            elif name.endswith(("bn.weight", "running_var")):
                tensor.uniform_(0.6, 1.4, generator=gen)
            elif tensor.is_floating_point():
                tensor.normal_(0, 0.1, generator=gen)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path)
    return path


@cache
def features(rows: int, width: int, seed: int) -> np.ndarray:
    """Correlated Gaussian features (rows, width) float32: as many directions as columns, of falling variance."""
    gen = torch.Generator().manual_seed(seed)
    scale = (1 + torch.arange(width)) ** -0.5
    mixing = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(9)))[0]
    x = torch.randn(rows, width, generator=gen) * scale + 0.02 * seed
    return (x @ mixing).numpy()


def set_level(setting: Setting, item: str) -> dict[str, Any]:
    """Seconds and value of one metric, of two sets of ROWS x WIDTH features."""
    from genbench import metrics
    from genbench.metrics.computing import computing_on

    rows, width = (60, 8) if setting.tiny else (ROWS, WIDTH)
    pair = {"fake": features(rows, width, 0), "real": features(rows, width, 1)}
    subsets = {"subsets": 10 if setting.tiny else 100, "subset_size": 20 if setting.tiny else 1000, "seed": 0}
    classes = np.exp(features(rows, 10 if setting.tiny else CLASSES, 3).astype(np.float64))
    calls = {
        "frechet": lambda: metrics.frechet_distance(**pair),
        "inception-score": lambda: metrics.inception_score(
            probabilities=classes / classes.sum(1, keepdims=True), splits=10, seed=0
        ),
        "kernel-subsets": lambda: metrics.kernel_distance(**pair, **subsets),
        "precision-recall": lambda: metrics.precision_recall(**pair, k=3).precision,
        "kernel": lambda: metrics.kernel_distance(**pair),
    }
    start = time.perf_counter()
    with computing_on(torch_device(setting.device)):
        value = calls[item]()
    return {"rows": rows, "width": width, "seconds": time.perf_counter() - start, "value": float(value)}
