"""Trains every model with `preset: small` on colour pictures of several sizes for some minutes of one core.

    python -m tools.preset_trial OUT --minutes 15                           every model at every size: about 19 hours
    python -m tools.preset_trial OUT --minutes 3 --sizes 32 --models ddpm,vae
    python -m tools.preset_trial OUT --draw 40 --models pixelcnn            fewer samples: it draws slowly
    python -m tools.preset_trial OUT --cost                                 only milliseconds for one image of training

Run it in the repository; OUT is a scratch folder for the pictures (tools/preset_pictures.py) and the trainings. Minutes
are of the processor's time of training. The images of a training follow from the cost of one, measured first. Each
training adds a row to docs/presets/trials.csv, writes samples to docs/presets/MODEL-SIZE.jpg and renews docs/presets.md
(tools/preset_page.py). A case that was tried with the present preset for as many minutes, or whose samples were
recognisable after fewer, is skipped: the same command continues.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genbench import data
from genbench.errors import CellFailure
from genbench.machine import processor_name
from genbench.plan.planner import Plan, make_plan
from genbench.progress import silent
from genbench.sources.base import Opened
from genbench.sources.trained import Trained
from genbench.space import seeded
from genbench.store import Store
from genbench.suite.schema import Suite
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training
from tools.preset_page import (
    CLASSIFIER,
    MODELS,
    PAGE,
    SIZES,
    TRIALS,
    Trial,
    is_present,
    preset_key,
    read_trials,
    write_page,
    write_trials,
)
from tools.preset_pictures import (
    SPOIL,
    Judge,
    Verdict,
    brought_to_judge,
    entry_of,
    make_judge,
    to_bytes,
    write_pictures,
)

HELD_OUT, COLUMNS, SHOWN = 100, 10, 20  # pictures that show what the classifier does; columns and number of those shown
STEPS, LONG = 18, 2.0  # steps of a stage that measure the cost of an image, and seconds after which they end
SAMPLERS = {"ddpm": ("ddim",)}  # that draw with the weights of a model
NOTHING = Verdict(0.0, 0.0, float("nan"))  # of a model that draws no picture


class Trials:
    """The cases that one command tries: pictures in OUT, and the classifier of them."""

    def __init__(self, out: Path, drawn: int) -> None:
        write_pictures(out)
        self.out, self.drawn, dataset = out, drawn, data.load(entry_of("ddpm", "32", out))
        train, test = dataset.train, dataset.test
        assert train.labels is not None
        self.judge: Judge = make_judge(out, train.pixels, train.labels)
        self.real = self.judge.features(test.pixels)
        self.shown = brought_to_judge(test.pixels[-HELD_OUT:])

    def about_judge(self) -> str:
        """A sentence on what the classifier makes of held-out pictures and of spoiled ones."""
        shares = [self.judge.verdict(to_bytes(way(self.shown, seeded(1))), self.real).garments for way in SPOIL]
        own = self.judge.verdict(to_bytes(self.shown), self.real)
        numbers = f"{own.garments:.0%}, {own.classes:.1f} classes and a distance of {own.distance:.0f}"
        most = f"at most {max(shares):.0%} of spoiled ones are garments for it"
        return f"For {HELD_OUT} held-out pictures these are {numbers}; {most}."

    def try_out(self, model: str, size: str, minutes: float) -> list[Trial]:
        """Trains one model at one size and draws with it, also with other samplers; writes the pictures."""
        seconds, parameters = cost_of(planned(model, size, self.out, 100_000))
        plan, store = planned(model, size, self.out, max(1, int(60 * minutes / seconds)), self.drawn), Store()
        source = plan.cells[0].source
        assert isinstance(source, Trained)
        start = time.process_time()
        source.fit.run(plan.data, store, "cpu", silent)
        spent, trials = time.process_time() - start, []
        for cell in plan.cells[: 1 + len(SAMPLERS.get(model, ()))]:
            opened = Opened(cell.source, cell.data, cell.drawing, store, "cpu", silent)
            verdict = self.judged(opened, PAGE.parent / "presets" / f"{cell.source.label}-{size}.jpg")
            trials.append(Trial(
                cell.source.label, size, minutes, round(spent), source.fit.images, round(1000 * seconds, 2), parameters,
                round(verdict.garments, 2), round(verdict.classes, 1), round(verdict.distance, 1),
                preset_key(model, size), processor_name(), self.drawn,
            ))  # fmt: skip
        return trials

    def judged(self, opened: Opened, path: Path) -> Verdict:
        """Draws, writes the samples to path, and judges them; NOTHING, and no file, where drawing fails."""
        try:
            pixels = opened.source.draw(opened).images.pixels
        except CellFailure as error:
            print(error, flush=True)
            path.unlink(missing_ok=True)
            return NOTHING
        write_samples(pixels, path)
        return self.judge.verdict(pixels, self.real)


def planned(model: str, size: str, out: Path, images: int, drawn: int = 100) -> Plan:
    """The plan of a suite with one model and its samplers, `preset: small`, and images to train on and to draw."""
    samplers = [{"name": name, "weights_of": model} for name in SAMPLERS.get(model, ())]
    suite = Suite.model_validate({
        "suite": "trial", "dataset": entry_of(model, size, out), "features": "pixels", "metrics": ["parameters"],
        "preset": "small", "budget": {"images": images}, "samples": drawn, "block": drawn,
        "models": [{"name": model}, *samplers],
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


def write_samples(pixels: Tensor, path: Path) -> None:
    """The first pictures (N, 3, H, W) uint8 as a grid of two rows."""
    rows = [np.concatenate(list(row), axis=2) for row in np.split(pixels[:SHOWN].numpy(), SHOWN // COLUMNS)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, axis=1).transpose(1, 2, 0)).save(path, quality=70, subsampling=0)


def is_settled(trials: list[Trial], model: str, size: str, minutes: float) -> bool:
    """Whether a trial of the present preset was as long, or recognisable after fewer minutes.

    With the model those that draw with its weights, as far as they were tried.
    """
    present = [t for t in trials if t.size == size and is_present(t)]
    known = [t.model for t in present if t.minutes >= minutes or t.judgement == "recognisable"]
    needed = {model} | {t.model for t in present if t.model in SAMPLERS.get(model, ())}
    return needed <= set(known)


def print_costs(cases: list[tuple[str, str]], out: Path) -> None:
    """Milliseconds for an image of training."""
    write_pictures(out)
    for model, size in cases:
        seconds, parameters = cost_of(planned(model, size, out, 100_000))
        print(f"{model:16} {size:6} {1000 * seconds:8.2f} ms {parameters:12,} parameters", flush=True)


def main() -> None:
    """Reads the arguments and tries what is not settled."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="scratch folder of the pictures and the trainings")
    parser.add_argument("--minutes", type=float, default=15.0, help="processor time of each training")
    parser.add_argument("--sizes", default=",".join(SIZES), help="sides, or height x width, separated by commas")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--draw", type=int, default=100, help="samples of each training, from 20 on")
    parser.add_argument("--cost", action="store_true", help="only print the cost of an image of training")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault("GENBENCH_CACHE", str(asked.out / "store"))
    cases = [(model, size) for size in asked.sizes.split(",") for model in asked.models.split(",")]
    if asked.cost:
        print_costs(cases, asked.out)
        return
    trials = Trials(asked.out, asked.draw)
    CLASSIFIER.write_text(trials.about_judge() + "\n", encoding="utf-8")
    for model, size in cases:
        if not is_settled(read_trials(TRIALS), model, size, asked.minutes):
            tried = trials.try_out(model, size, asked.minutes)
            write_trials(TRIALS, [*read_trials(TRIALS), *tried])
            write_page(PAGE, read_trials(TRIALS))
            print(*tried, sep="\n", flush=True)


if __name__ == "__main__":
    main()
