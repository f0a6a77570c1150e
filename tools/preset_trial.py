"""Trains every model with `preset: small` on colour pictures of several sizes for some minutes of one core.

    python tools/preset_trial.py OUT --minutes 15                           every model at every size: about 19 hours
    python tools/preset_trial.py OUT --minutes 3 --sizes 32 --models ddpm,vae
    python tools/preset_trial.py OUT --cost                                 only milliseconds for one image of training

The pictures are Fashion-MNIST's garments in one colour on a background of two others, 10,000 of 64x64 pixels, in a
folder OUT/pictures with their captions; a suite reads them in the wanted size. Minutes are of the processor's time of
training. The images of a training follow from the cost of one, measured first. Writes a grid of samples for each
training and a row of OUT/trial.csv; what has a row is skipped, so that a run can be continued.

The column `confidence` is the mean probability of the most probable class according to a small classifier of these
pictures, whose accuracy and confidence for held-out ones are printed at the end.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from genbench import data
from genbench.plan.planner import Plan, make_plan
from genbench.progress import silent
from genbench.report.grids import save_grid
from genbench.sources.base import Opened
from genbench.sources.trained import Trained
from genbench.space import seeded
from genbench.store import Store
from genbench.suite.schema import Suite
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training

GARMENTS = ("t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
MODELS = ("gan", "dcgan", "cgan", "stylegan", "vae", "realnvp", "glow", "ddpm", "latent_diffusion", "flow_matching",
          "edm", "mean_flow", "pixelcnn", "cyclegan")  # fmt: skip
SIZES = ("16", "28", "32", "40x48", "64")
COUNT, SIDE, SHOWN, JUDGED = 10_000, 64, 60, 100
COLUMNS = ("model", "size", "minutes", "ms_per_image", "images", "parameters", "confidence", "preset")
STEPS, LONG = 18, 2.0  # steps of a stage that measure the cost of an image, and seconds after which they end


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


def write_pictures(folder: Path) -> None:
    """The pictures with labels and captions, and the two domains of a translation from grey to colour."""
    if (folder / "metadata.jsonl").exists():
        return
    garments = data.load({"name": "fashion-mnist"}).train
    assert garments.labels is not None
    rng, rows = np.random.default_rng(0), []
    for name in ("trainA", "trainB", "testA", "testB"):
        (folder.parent / "domains" / name).mkdir(parents=True, exist_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(COUNT):
        grey, label = garments.pixels[i, 0].numpy(), GARMENTS[int(garments.labels[i])]
        picture = Image.fromarray(coloured(grey, rng))
        picture.save(folder / f"{i:05}.png")
        rows.append({"file_name": f"{i:05}.png", "text": f"a {label}", "label": label})
        if i < COUNT // 2:
            split = "test" if i % 20 == 0 else "train"
            picture.convert("L").save(folder.parent / "domains" / f"{split}A" / f"{i:05}.png")
            picture.save(folder.parent / "domains" / f"{split}B" / f"{i:05}.png")
    (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))


# ---- judge ------------------------------------------------------------------------------------------------------


class Judge(nn.Sequential):
    """Classifies pictures, brought to 16x16 pixels."""

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1024, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10),
        )  # fmt: skip

    def probabilities(self, pixels: Tensor) -> Tensor:
        """Of each class, for pixels (N, 3, H, W) uint8: (N, 10)."""
        with torch.no_grad():
            return self.eval()(brought_to_judge(pixels)).softmax(1)


def brought_to_judge(pixels: Tensor) -> Tensor:
    """Pixels (N, 3, H, W) uint8 as (N, 3, 16, 16) in [-1, 1]."""
    return F.interpolate(pixels.float() / 127.5 - 1, (16, 16), mode="bilinear", antialias=True)


def make_judge(out: Path) -> Judge:
    """The classifier, trained in about a minute or read from OUT; prints what it makes of held-out pictures."""
    dataset, judge = data.load(entry_of("ddpm", "32", out)), Judge()
    train, test = dataset.train, dataset.test
    assert train.labels is not None
    assert test.labels is not None
    if (out / "judge.pt").exists():
        judge.load_state_dict(torch.load(out / "judge.pt", weights_only=True))
    else:
        optimiser, gen = torch.optim.Adam(judge.parameters(), 1e-3), seeded(0)
        for order in (torch.randperm(len(train.pixels), generator=gen) for _ in range(8)):
            for rows in order.split(64):
                optimiser.zero_grad()
                F.cross_entropy(judge.train()(brought_to_judge(train.pixels[rows])), train.labels[rows]).backward()
                optimiser.step()
        torch.save(judge.state_dict(), out / "judge.pt")
    found = judge.probabilities(test.pixels)
    right = float((found.argmax(1) == test.labels).float().mean())
    print(f"held-out pictures: accuracy {right:.3f}, confidence {confidence(found):.3f}")
    return judge


def confidence(probabilities: Tensor) -> float:
    """The mean probability of the most probable class."""
    return float(probabilities.amax(1).mean())


# ---- trials -----------------------------------------------------------------------------------------------------


def entry_of(model: str, size: str, out: Path) -> dict[str, Any]:
    """The dataset entry for a model at a size such as 32 or 40x48 (height x width)."""
    sides = [int(side) for side in size.split("x")]
    name, folder = ("domains", "domains") if model == "cyclegan" else ("folder", "pictures")
    fit = {"fit": "stretch"} if name == "folder" else {}
    return {"name": name, "path": str((out / folder).absolute()), "size": sides if len(sides) > 1 else sides[0], **fit}


def planned(model: str, size: str, out: Path, images: int) -> Plan:
    """The plan of a suite with one model, `preset: small` and a budget of images."""
    suite = Suite.model_validate({
        "suite": "trial", "dataset": entry_of(model, size, out), "features": "pixels", "metrics": ["parameters"],
        "preset": "small", "budget": {"images": images}, "samples": JUDGED, "block": 50, "models": [{"name": model}],
    })  # fmt: skip
    return make_plan(suite)


def cost_of(plan: Plan) -> tuple[float, int]:
    """Seconds of processor time for one image of training, and the number of parameters."""
    fit, dataset = plan.fits[0], data.load(plan.data.entry, plan.data.folder)
    model, train, source = fit.network.build(plan.data, 0), dataset.train, dataset.source
    other = None if source is None else source.train.pixels
    batches = Batches(train.pixels, train.labels, dataset.spec.levels, 0, False, dataset.texts(train), other)
    training = Training(model, batches, fit.recipe, FitOptions(STEPS * len(model.stages) * fit.recipe.batch, 0))
    training.step()
    start, begun = time.process_time(), training.batches.taken
    while training.fitted.steps < training.total_steps:
        training.step()
        if len(model.stages) == 1 and time.process_time() - start > LONG:
            break
    seconds = (time.process_time() - start) / (training.batches.taken - begun)
    return seconds, sum(p.numel() for p in model.parameters())


def try_out(model: str, size: str, minutes: float, out: Path, judge: Judge) -> dict[str, Any]:
    """Trains one model at one size; writes its grid and returns its row."""
    seconds, parameters = cost_of(planned(model, size, out, 100_000))
    plan, store = planned(model, size, out, max(1, int(60 * minutes / seconds))), Store()
    cell = plan.cells[0]
    assert isinstance(cell.source, Trained)
    start = time.process_time()
    cell.source.fit.run(plan.data, store, "cpu", silent)
    spent = time.process_time() - start
    opened = Opened(cell.source, cell.data, cell.drawing, store, "cpu", silent)
    pixels = cell.source.draw(opened).images.pixels
    save_grid(pixels[:SHOWN].numpy(), 256, out / f"{model}-{size}-{minutes:g}min.png", columns=12)
    fit = cell.source.fit
    return {"model": model, "size": size, "minutes": round(spent / 60, 2), "ms_per_image": round(1000 * seconds, 2),
            "images": fit.images, "parameters": parameters, "preset": fit.preset,
            "confidence": round(confidence(judge.probabilities(pixels)), 3)}  # fmt: skip


def main() -> None:
    """Reads the arguments and runs what has no row yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the pictures, grids and the table")
    parser.add_argument("--minutes", type=float, default=15.0, help="processor time of each training")
    parser.add_argument("--sizes", default=",".join(SIZES), help="sides, or height x width, separated by commas")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--cost", action="store_true", help="only print the cost of an image of training")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("GENBENCH_CACHE", str(asked.out / "store"))
    write_pictures(asked.out / "pictures")
    wanted = [(model, size) for size in asked.sizes.split(",") for model in asked.models.split(",")]
    if asked.cost:
        for model, size in wanted:
            seconds, parameters = cost_of(planned(model, size, asked.out, 100_000))
            print(f"{model:16} {size:6} {1000 * seconds:8.2f} ms {parameters:12,} parameters", flush=True)
        return
    table, judge = asked.out / "trial.csv", make_judge(asked.out)
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    done = {(row["model"], row["size"], row["asked"]) for row in rows}
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, ["asked", *COLUMNS])
        if not rows:
            writer.writeheader()
        for model, size in wanted:
            if (model, size, f"{asked.minutes:g}") not in done:
                row = try_out(model, size, asked.minutes, asked.out, judge)
                writer.writerow({"asked": f"{asked.minutes:g}", **row})
                file.flush()
                print(row, flush=True)


if __name__ == "__main__":
    main()
