"""Scoring against torch-fidelity on the same images, the same Inception and the same cores: `make bench`.

FID, KID, IS and precision/recall of two folders of N pictures of 32x32, from files to numbers, as `genbench.score` and
`torch_fidelity.calculate_metrics` are called by their users: loading the network counts, and so do reading, checking
and every pass. The weights are random (variance-preserving), which changes no timing. GENBENCH_SCORING_IMAGES sets N
(default 300; 5,000 takes an hour). Torch-fidelity is timed once; of small N ours is timed before and
after it, as two ratios that say how steady the machine was. The pictures differ enough for every metric to be far from
0, where a ratio says nothing.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch_fidelity import calculate_metrics

import genbench

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from random_weights import blots, write_inception

INCEPTION = "inception-v3-compat"
N = int(os.environ.get("GENBENCH_SCORING_IMAGES", "300"))
ROUNDS = 2 if N < 1000 else 1
KEYS = {
    "fid": "frechet_inception_distance", "kid_subsets": "kernel_inception_distance_mean",
    "is": "inception_score_mean", "precision": "precision", "recall": "recall",
}  # fmt: skip
LIMITS = {"fp32": 0.65, "bf16": 0.4}


def write_pictures(pixels: Tensor, folder: Path) -> Path:
    folder.mkdir()
    for i, picture in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
        Image.fromarray(picture).save(folder / f"{i:05d}.png")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two folders that overlap in part, a third to score against the same reference, and the weights."""
    root = tmp_path_factory.mktemp("scoring")
    real = torch.cat([blots(N // 2, 3), 255 - blots(N - N // 2, 2, cells=5)])
    folders = {"fake": blots(N, 1), "real": real, "another": blots(N, 4, cells=3)}
    weights = write_inception(root / "inception.pth")
    return {name: write_pictures(pixels, root / name) for name, pixels in folders.items()} | {"weights": weights}


def theirs(made: dict[str, Path]) -> dict[str, float]:
    found = calculate_metrics(
        input1=str(made["fake"]), input2=str(made["real"]), feature_extractor=INCEPTION, isc=True, fid=True, kid=True,
        prc=True, feature_extractor_weights_path=str(made["weights"]), kid_subset_size=min(1000, N), cuda=False,
        cache=False, verbose=False,
    )  # fmt: skip
    return {name: found[key] for name, key in KEYS.items()}


def ours(made: dict[str, Path], precision: str, fake: str = "fake") -> dict[str, float]:
    return genbench.score(
        fake=made[fake], reference=made["real"], features=INCEPTION, metrics=list(KEYS), weights=made["weights"],
        precision=precision, device="cpu",
    ).values  # fmt: skip


def timed(function: Any, *given: Any) -> tuple[float, dict[str, float]]:
    start = time.perf_counter()
    found = function(*given)
    return time.perf_counter() - start, found


class Contest:
    """Our times and numbers by precision, each with a cache of its own, and the times of a second score."""

    def __init__(self, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.made, self.monkeypatch, self.folder, self.runs = made, monkeypatch, folder, 0
        self.first: dict[str, list[float]] = {precision: [] for precision in LIMITS}
        self.again: dict[str, list[float]] = {precision: [] for precision in LIMITS}
        self.values: dict[str, dict[str, float]] = {}

    def play(self, precision: str) -> None:
        self.runs += 1
        self.monkeypatch.setenv("GENBENCH_CACHE", str(self.folder / f"cache{self.runs}"))
        seconds, self.values[precision] = timed(ours, self.made, precision)
        self.first[precision].append(seconds)
        print(f"{precision}: {seconds:.1f} s, {self.values[precision]}", flush=True)
        if ROUNDS > 1:
            self.again[precision].append(timed(ours, self.made, precision, "another")[0])


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_scoring(benchmark, made: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    torch.set_num_threads(os.cpu_count() or 1)
    contest = Contest(made, monkeypatch, tmp_path)
    for precision in LIMITS:
        contest.play(precision)
    seconds, expected = benchmark.pedantic(timed, args=(theirs, made), rounds=1)
    print(f"\n{N} + {N} images of 32x32, {torch.get_num_threads()} threads: torch-fidelity {seconds:.1f} s, {expected}")
    for precision in LIMITS if ROUNDS > 1 else ():
        contest.play(precision)
    for precision, limit in LIMITS.items():
        report(precision, limit, contest, seconds, expected, benchmark.extra_info)


def report(
    precision: str, limit: float, contest: Contest, seconds: float, expected: dict[str, float], info: dict[str, Any]
) -> None:
    ratios = [round(s / seconds, 3) for s in contest.first[precision]]
    again = [round(b / a, 3) for a, b in zip(contest.first[precision], contest.again[precision], strict=False)]
    apart = {name: f"{contest.values[precision][name] / value - 1:+.1e}" for name, value in expected.items() if value}
    info[precision] = {"ratios": ratios, "again": again, "apart": apart}
    print(f"{precision}: {ratios} of its time (aim {limit}); numbers off by {apart}; a second score: {again} (aim 0.5)")
