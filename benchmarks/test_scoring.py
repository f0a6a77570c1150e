"""Scoring against torch-fidelity on the same images, the same Inception and the same cores: `make bench`.

FID, KID, IS and precision/recall of N + N images of 32x32, from pixels to numbers: loading the network counts, and so
does every pass of it. The weights are random (variance-preserving), which changes no timing. GENBENCH_SCORING_IMAGES
sets N (default 300; 5,000 is the size of a paper's small table and takes half an hour). Torch-fidelity is timed once,
ours before and after it: the ratios of the two say how steady the machine was.
"""

from __future__ import annotations

import os
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_fidelity import calculate_metrics

from genbench import features, metrics
from genbench.features import FeatureOptions

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from random_weights import blots, write_inception

INCEPTION = "inception-v3-compat"
N = int(os.environ.get("GENBENCH_SCORING_IMAGES", "300"))
SUBSETS, SUBSET_SIZE = 100, min(1000, N // 2)
KEYS = {
    "fid": "frechet_inception_distance", "kid": "kernel_inception_distance_mean", "is": "inception_score_mean",
    "precision": "precision", "recall": "recall",
}  # fmt: skip
LIMITS = {"fp32": 0.65, "bf16": 0.4}


class Listed(torch.utils.data.Dataset):
    """Images as torch-fidelity takes them."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, i: int) -> Tensor:
        return self.pixels[i]


@cache
def images() -> tuple[Tensor, Tensor]:
    return blots(N, 1), 255 - blots(N, 2, cells=5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inception(tmp_path_factory.mktemp("weights") / "inception.pth")


def theirs(weights: Path) -> dict[str, float]:
    fake, real = map(Listed, images())
    found = calculate_metrics(
        input1=fake, input2=real, feature_extractor=INCEPTION, feature_extractor_weights_path=str(weights), isc=True,
        fid=True, kid=True, prc=True, kid_subset_size=SUBSET_SIZE, cuda=False, cache=False, verbose=False,
    )  # fmt: skip
    return {name: found[key] for name, key in KEYS.items()}


def ours(weights: Path, precision: str) -> dict[str, float]:
    extractor = features.load(INCEPTION, "folder", "cpu", FeatureOptions(weights, precision=precision))
    fake, real = (extractor(pixels, 256) for pixels in images())
    both: dict[str, Any] = {"fake": fake.vectors, "real": real.vectors}
    manifold = metrics.precision_recall(**both, k=3)
    return {
        "fid": metrics.frechet_distance(**both),
        "kid": metrics.kernel_distance(**both, subsets=SUBSETS, subset_size=SUBSET_SIZE, seed=2020),
        "is": metrics.inception_score(probabilities=fake.probabilities, splits=10, seed=2020),
        "precision": manifold.precision,
        "recall": manifold.recall,
    }


def timed(function: Any, *given: Any) -> tuple[float, dict[str, float]]:
    start = time.perf_counter()
    found = function(*given)
    return time.perf_counter() - start, found


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_scoring(benchmark, weights: Path):
    torch.set_num_threads(os.cpu_count() or 1)
    before = {precision: timed(ours, weights, precision) for precision in LIMITS}
    seconds, expected = benchmark.pedantic(timed, args=(theirs, weights), rounds=1)
    after = {precision: timed(ours, weights, precision) for precision in LIMITS}
    print(f"\n{N} + {N} images of 32x32, {torch.get_num_threads()} threads: torch-fidelity {seconds:.1f} s, {expected}")
    for precision, limit in LIMITS.items():
        ratios = [run[precision][0] / seconds for run in (before, after)]
        apart = {name: f"{before[precision][1][name] / value - 1:+.1e}" for name, value in expected.items() if value}
        benchmark.extra_info[precision] = [round(ratio, 3) for ratio in ratios]
        print(f"{precision}: {ratios[0]:.3f} and {ratios[1]:.3f} of its time (aim {limit}); numbers off by {apart}")
