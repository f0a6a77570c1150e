"""Estimates of a suite's cost: how moments become a whole, what is left out, and what is told."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genbench.commands.estimate import estimate_text
from genbench.contract import DataSpec
from genbench.estimate import RowCost, SuiteCost
from genbench.estimate.measuring import grown
from genbench.estimate.moments import seconds_of_call
from genbench.estimate.schedule import WorkItem, side_by_side
from genbench.estimate.span import TimeRange, exactly, of_repeats
from genbench.estimate.suite import estimate
from genbench.estimate.training import training_seconds
from genbench.plan.planner import make_plan
from genbench.progress import silent
from genbench.runner.launcher import Launcher, Outcome
from genbench.runner.run import run
from genbench.sources.build import load_model
from genbench.store import Store
from genbench.suite.schema import Suite
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions

SPEC = DataSpec(1, 8, 8, 17, 10)


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_jobs_side_by_side_wait_for_what_they_need():
    jobs = [
        WorkItem("train a", 10),
        WorkItem("train b", 4),
        WorkItem("a", 2, frozenset({"train a"})),
        WorkItem("b", 2, frozenset({"train b"})),
        WorkItem("real", 3),
        WorkItem("a speed", 1, alone=True),
        WorkItem("b speed", 1, alone=True),
    ]
    assert side_by_side(jobs, 2) == (12, 2)  # a worker: train a, a; the other: train b, b, real
    assert side_by_side(jobs, 1) == (21, 2)
    assert side_by_side([], 2) == (0, 0)


def test_the_range_of_a_mean_is_two_standard_errors():
    span = of_repeats([1.0, 2.0, 3.0])
    assert (span.low, span.likely, span.high) == pytest.approx((2 - 2 / 3**0.5, 2, 2 + 2 / 3**0.5))


def test_more_images_cost_between_what_two_trials_show_and_the_square():
    linear, square = grown(1.0, 2.0, 0.1), grown(1.0, 4.0, 0.1)
    assert (linear.low, linear.high) == pytest.approx((0.9 * 20, 1.1 * 200))
    assert (square.low, square.high) == pytest.approx((0.9 * 400, 1.1 * 400))
    assert linear.low < linear.likely < linear.high
    assert grown(None, 2.0, 1.0).likely == pytest.approx(2.0, rel=0.1)


def test_a_sampler_of_many_steps_is_extrapolated_from_its_first_evaluations(monkeypatch):
    """100 evaluations of 0.02 s each take 2 s, of which a part is tried."""
    model = load_model("ddpm", data=SPEC, steps=100).eval()
    called = []
    forward = model.denoiser.forward

    def slow(x, *rest, **more):
        called.append(len(x))
        busy(0.02 * len(x) / 16)
        return forward(x, *rest, **more)

    monkeypatch.setattr(model.denoiser, "forward", slow)
    monkeypatch.setattr("genbench.estimate.moments.SECONDS", 0.2)
    gen = torch.Generator().manual_seed(0)
    span = seconds_of_call(model, lambda n: model.sample(n, gen), 16)
    assert sum(n == 16 for n in called) < 20
    assert 2.0 < span.likely < 4.0


def test_a_training_is_extrapolated_from_the_steps_of_every_stage(monkeypatch):
    """Of two stages each, with losses that take 5 ms."""
    model = load_model("latent_diffusion", data=SPEC)
    monkeypatch.setattr(model, "loss", _slow(model.loss, 0.005))
    monkeypatch.setattr("genbench.estimate.training.SECONDS", 0.1)
    pixels = torch.randint(17, (64, 1, 8, 8), dtype=torch.uint8)
    texts = tuple("a seven" for _ in range(64))
    batches = Batches(pixels, torch.zeros(64, dtype=torch.long), 17, 0, texts=texts)
    recipe = replace(type(model).recipe(SPEC), batch=8)
    span = training_seconds(model, batches, recipe, FitOptions(8_000, 0))
    turns = sum(1000 * s.share * len(s.turns) for s in model.stages) / sum(s.share for s in model.stages)
    assert span.likely > 0.005 * turns
    assert span.low <= span.likely <= span.high


def _slow(loss, seconds):
    def slower(*arguments):
        busy(seconds)
        return loss(*arguments)

    return slower


def tiny(tmp_path: Path) -> Suite:
    keys = {"suite": "tiny", "dataset": {"name": "digits"}, "features": "pixels", "samples": 20, "block": 20}
    models = [{"name": "gan", "budget": {"images": 64}}]
    return Suite.model_validate({**keys, "models": models, "metrics": ["fid"], "seeds": [0, 1]})


class Here(Launcher):
    """Runs tasks in this process."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def run(self, tasks, on_progress, on_end):
        for task in tasks:
            self.names.append(task.name)
            on_end(task, Outcome(task.run(*task.args, silent)))


def test_what_the_store_holds_costs_nothing_and_seeds_are_tried_once(tmp_path, monkeypatch):
    monkeypatch.setattr("genbench.estimate.training.SECONDS", 0.01)
    monkeypatch.setattr("genbench.estimate.moments.SECONDS", 0.01)
    store, here = Store(tmp_path / "store"), Here()
    monkeypatch.setenv("GENBENCH_CACHE", str(store.root))
    suite = tiny(tmp_path)
    costs = estimate(make_plan(suite), store, "cpu", here, 1, lambda text: None)
    assert [name for name in here.names if "gan" in name] == ["train gan digits", "draw gan digits pixels"]
    assert not store.root.exists() or not [*store.entries()]
    gan = costs.rows[0]
    assert (gan.label, gan.cells) == ("gan", 2)
    assert min(gan.train.likely, gan.draw.likely, gan.measure.likely) > 0
    assert gan.timings.likely == 0
    assert gan.disk > 2 * 4 * 173_377  # float32 weights of two seeds
    run(suite, out=tmp_path / "out")
    again = estimate(make_plan(suite), store, "cpu", here, 1, lambda text: None)
    assert again.rows == ()
    assert estimate_text(again, "cpu") == "tiny: everything is in the store; a run only writes the results"


def test_the_text_fits_80_columns_and_names_the_dominant_row():
    rows = (
        RowCost("x" * 60, "digits", True, 3, exactly(4000), exactly(2), exactly(30), exactly(9), 70_000, 10**10),
        RowCost("ddim", "digits", True, 1, draw=TimeRange(8, 10, 40, at_least=True)),
        RowCost("broken", "digits", failure="KeyError: 'width' " + "and so on " * 20),
        RowCost("held-out real", "digits", False, 1, measure=exactly(2)),
    )
    costs = SuiteCost(
        "s", "cpu", 2, rows, exactly(4040), exactly(9), 70_000, 10**10, {"is": "50 generated samples"}, 30
    )
    text = estimate_text(costs, "a processor with a name that is long, " * 3)
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    assert "s takes about 67:29 min" in words
    assert f"Longest: {'x' * 60}, 67:21 min of one worker, 100 % of all work; 99 % of it is training." in words
    for part in (
        "> 10 s",
        "68.4 GiB",
        "9.3 GiB",
        "broken would fail",
        "is is not included",
        "1 scale rows",
        ", 3 seeds",
    ):
        assert part in words
