"""The colour pictures of tools/preset_trial.py, and a classifier that says how many of a model's samples are garments.

The pictures are Fashion-MNIST's garments in one colour on a background of two others, 10,000 of 64x64 pixels, in a
folder with their captions; a suite reads them in the wanted size. The classifier has one class for each garment and one
for spoiled pictures, so that it need not call everything a garment (Hendrycks, Mazeika and Dietterich 2019,
arXiv:1812.04606): pictures in shuffled blocks, bent pictures, and spots of colour on the mean of several pictures.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from genbench import data
from genbench.metrics.frechet import frechet_distance
from genbench.space import seeded

GARMENTS = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
COUNT, SIDE, JUDGED_SIDE = 10_000, 64, 16
EPOCHS, BATCH, BLOCK = 8, 64, 4  # of the classifier; pixels of a shuffled block
BENT, SPOTTED = 0.25, 0.4  # half widths of a picture; standard deviation of the colours


# ---- pictures ---------------------------------------------------------------------------------------------------


def coloured(grey: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A garment (28, 28) uint8 in a random colour on a background of two colours: (64, 64, 3) uint8."""
    mask = np.zeros((SIDE, SIDE, 1))
    mask[4:-4, 4:-4, 0] = np.asarray(Image.fromarray(grey).resize((SIDE - 8, SIDE - 8), Image.Resampling.BICUBIC)) / 255
    above, below, garment = (rng.uniform(*ends, 3) for ends in ((0.5, 1.0), (0.5, 1.0), (0.0, 0.6)))
    slope = np.linspace(0, 1, SIDE)[:, None, None]
    background = (1 - slope) * above + slope * below
    cloth = garment * (0.4 + 0.6 * mask)
    cover = (mask / 0.25).clip(0, 1)
    return ((cover * cloth + (1 - cover) * background) * 255).astype(np.uint8)


def write_pictures(out: Path) -> None:
    """OUT/pictures with labels and captions, and OUT/domains, the two domains of a translation from grey to colour."""
    folder, domains, rows = out / "pictures", out / "domains", []
    if (folder / "metadata.jsonl").exists():
        return
    garments = data.load({"name": "fashion-mnist"}).train
    assert garments.labels is not None
    rng = np.random.default_rng(0)
    for name in ("trainA", "trainB", "testA", "testB"):
        (domains / name).mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(COUNT):
        grey, label = garments.pixels[i, 0].numpy(), GARMENTS[int(garments.labels[i])]
        picture = Image.fromarray(coloured(grey, rng))
        picture.save(folder / f"{i:05}.png")
        rows.append({"file_name": f"{i:05}.png", "text": f"a {label}", "label": label})
        if i < COUNT // 2:
            split = "test" if i % 20 == 0 else "train"
            picture.convert("L").save(domains / f"{split}A" / f"{i:05}.png")
            picture.save(domains / f"{split}B" / f"{i:05}.png")
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


def entry_of(model: str, size: str, out: Path) -> dict[str, Any]:
    """The dataset entry for a model at a size such as 32 or 40x48 (height x width)."""
    sides = [int(side) for side in size.split("x")]
    name, folder = ("domains", "domains") if model == "cyclegan" else ("folder", "pictures")
    fit = {"fit": "stretch"} if name == "folder" else {}
    return {"name": name, "path": str((out / folder).absolute()), "size": sides if len(sides) > 1 else sides[0], **fit}


# ---- spoiled pictures -------------------------------------------------------------------------------------------


def shuffled(x: Tensor, gen: Generator) -> Tensor:
    """Pictures (N, 3, S, S) whose blocks of 4x4 pixels are in random order."""
    n, channels, side, _ = x.shape
    blocks = side // BLOCK
    parts = x.view(n, channels, blocks, BLOCK, blocks, BLOCK).permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    order = torch.rand(n, blocks**2, generator=gen).argsort(1)
    moved = torch.stack([part[row] for part, row in zip(parts, order, strict=True)])
    return moved.unflatten(1, (blocks, blocks)).permute(0, 3, 1, 4, 2, 5).reshape(x.shape)


def bent(x: Tensor, gen: Generator) -> Tensor:
    """Pictures (N, 3, S, S) bent by random distances, different at 5x5 points."""
    distances = F.interpolate(BENT * torch.randn(len(x), 2, 5, 5, generator=gen), x.shape[2:], mode="bicubic")
    same = F.affine_grid(torch.eye(2, 3).expand(len(x), 2, 3), list(x.shape), align_corners=False)
    return F.grid_sample(x, same + distances.permute(0, 2, 3, 1), padding_mode="border", align_corners=False)


def spotted(x: Tensor, gen: Generator) -> Tensor:
    """Means of four of the pictures (N, 3, S, S) under spots of random colours."""
    mixed = torch.stack([x[torch.randperm(len(x), generator=gen)] for _ in range(4)]).mean(0)
    colours = SPOTTED * torch.randn(len(x), x.shape[1], 7, 7, generator=gen)
    return (mixed + F.interpolate(colours, x.shape[2:], mode="bicubic")).clamp(-1, 1)


SPOIL: tuple[Callable[[Tensor, Generator], Tensor], ...] = (shuffled, bent, spotted)


def spoiled(x: Tensor, gen: Generator) -> Tensor:
    """A third of the pictures in each of these ways."""
    return torch.cat([way(part, gen) for way, part in zip(SPOIL, x.tensor_split(len(SPOIL)), strict=True)])


# ---- classifier -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """On pictures. garments: the share that is most probably one of the garments. classes: exp of the entropy of their
    mean probabilities, 10 for as many of each. distance: squared Frechet distance of features to held-out pictures.
    """

    garments: float
    classes: float
    distance: float


class Judge(nn.Sequential):
    """Classifies pictures, brought to 16x16 pixels, as one of the garments or as spoiled."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, 11),
        )  # fmt: skip

    @torch.no_grad()
    def features(self, pixels: Tensor) -> Tensor:
        """Of pixels (N, 3, H, W) uint8: (N, 64)."""
        return nn.Sequential(*list(self.eval())[:-1])(brought_to_judge(pixels))

    def verdict(self, pixels: Tensor, real: Tensor) -> Verdict:
        """On pixels (N, 3, H, W) uint8; real: the features of held-out pictures."""
        features = self.features(pixels)
        with torch.no_grad():
            outputs = self[-1](features)
        mean = outputs[:, : len(GARMENTS)].softmax(1).mean(0)
        share = float((outputs.argmax(1) < len(GARMENTS)).float().mean())
        distance = frechet_distance(fake=features.numpy(), real=real.numpy())
        return Verdict(share, float(torch.special.entr(mean).sum().exp()), distance)


def brought_to_judge(pixels: Tensor) -> Tensor:
    """Pixels (N, 3, H, W) uint8 as (N, 3, 16, 16) in [-1, 1]."""
    size = (JUDGED_SIDE, JUDGED_SIDE)
    return F.interpolate(pixels.float() / 127.5 - 1, size, mode="bilinear", antialias=True)


def to_bytes(x: Tensor) -> Tensor:
    """Pictures in [-1, 1] as uint8."""
    return ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def make_judge(out: Path, pixels: Tensor, labels: Tensor) -> Judge:
    """The classifier, trained in about a minute on pixels (N, 3, H, W) uint8 and labels (N,), or read from OUT."""
    judge, file = Judge(), out / "judge.pt"
    if file.exists():
        judge.load_state_dict(torch.load(file, weights_only=True))
        return judge
    gen, spoilt = seeded(0), torch.full((BATCH,), len(GARMENTS))
    pictures, optimiser = brought_to_judge(pixels), torch.optim.Adam(judge.parameters(), 1e-3)
    for order in (torch.randperm(len(pictures), generator=gen) for _ in range(EPOCHS)):
        for rows in order.split(BATCH):
            x = torch.cat([pictures[rows], spoiled(pictures[rows], gen)])
            optimiser.zero_grad()
            F.cross_entropy(judge.train()(x), torch.cat([labels[rows], spoilt[: len(rows)]])).backward()
            optimiser.step()
    torch.save(judge.state_dict(), file)
    return judge
