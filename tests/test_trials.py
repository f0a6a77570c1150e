"""A run tries all of its models before it trains any: what cannot work fails first, and its row alone."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import genbench
from genbench.plan.planner import make_plan
from genbench.progress import silent
from genbench.records import FAILED, OK
from genbench.runner import run as runner
from genbench.runner import trials, tryouts
from genbench.runner.execution import Execution, LaunchRequest
from genbench.runner.tryouts import Trial, TrialResult
from genbench.screen import Screen
from genbench.sources.pace import Pace
from genbench.store import Store
from genbench.suite.schema import Suite

MODELS = """
import os
import time

import torch
from genbench.contract import Decodes, DequantisedDensity, Loss, Model, Recipe, Steps


class Base(Model):
    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        self.net = torch.nn.Linear(16, 16)

    @classmethod
    def recipe(cls, data):
        return Recipe(lr=1e-3, batch=32, images=320)

    def loss(self, batch, player, step, gen):
        return Loss(self.net(batch.x.flatten(1)).square().mean())

    def sample(self, n, gen, condition=None):
        return self.net(torch.randn(n, 16, generator=gen)).view(n, *self.data.shape)


class Wide(Base):
    def sample(self, n, gen, condition=None):
        return torch.zeros(n, 1, 28, 28)


class Lossy(Base):
    def loss(self, batch, player, step, gen):
        return Loss(self.net(batch.x).mean())


class Dies(Base):
    def loss(self, batch, player, step, gen):
        os._exit(3)


class Hangs(Base):
    def loss(self, batch, player, step, gen):
        time.sleep(600)


class Free(Base):
    evaluations = -5


class Pixels(Base):
    evaluations = 16


class Denoises(Base, Steps):
    evaluations = 3

    @property
    def denoiser(self):
        return self.net


class Hungry(Base):
    def loss(self, batch, player, step, gen):
        raise MemoryError


class Mean(Base, DequantisedDensity):
    def log_prob(self, pixels, gen=None):
        return pixels.float().mean()
"""


class Lines(Screen):
    """Keeps what it prints."""

    def __init__(self) -> None:
        self.stream = io.StringIO()
        super().__init__(Console(file=self.stream, soft_wrap=True, width=400))

    @property
    def text(self) -> str:
        return self.stream.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=pixels)
    (tmp_path / "m.py").write_text(MODELS)
    return tmp_path


def suite(folder: Path, *models: dict[str, object] | str, **more: object) -> Suite:
    entries = [{"name": m.lower(), "source": f"{folder}/m.py:{m}"} if isinstance(m, str) else m for m in models]
    keys = {"suite": "s", "dataset": {"name": "npz", "path": str(folder / "data.npz")}, "features": "pixels"}
    return Suite.model_validate({**keys, "samples": 20, "metrics": ["fid"], "models": entries, **more})


def run(folder: Path, wanted: Suite) -> tuple[dict[tuple[str, str, int], genbench.records.Record], str]:
    screen = Lines()
    result = genbench.run(wanted, out=folder / "out", device="cpu", screen=screen)
    return {(r.model, r.metric, r.seed): r for r in result.records if r.role == "model"}, screen.text


REASONS = {
    "lossy": "mat1 and mat2 shapes cannot be multiplied",
    "wide": "Wide.sample(): returned float32 tensor of shape (2, 1, 28, 28)",
    "dies": "its worker died (exit code 3)",
    "free": "Free.evaluations: returned -5, required: a whole number",
    "shared": "Wide.sample(): returned float32 tensor of shape (2, 1, 28, 28)",
}


def test_rows_that_cannot_work_fail_before_anything_is_trained(folder):
    shared = {"name": "shared", "source": f"{folder}/m.py:Wide", "weights_of": "base"}
    wanted = suite(folder, "Base", "Lossy", "Wide", "Dies", "Mean", "Free", shared,
                   metrics=["fid", "bits_per_dim", "parameters"], seeds=[0, 1])  # fmt: skip
    records, text = run(folder, wanted)
    for label, words in REASONS.items():
        for seed in (0, 1):
            assert records[label, "fid", seed].status == records[label, "parameters", seed].status == FAILED
            assert words in records[label, "fid", seed].reason
    assert {records[label, "fid", seed].status for label in ("base", "mean") for seed in (0, 1)} == {OK}
    assert "Mean.log-likelihood: returned" in records["mean", "bits_per_dim", 0].reason
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if " train" in line)
    early = "\n".join(lines[:first])
    for label in REASONS:
        assert f"✗ {label} s0, {label} s1: cannot work: " in early
        assert f"{label} s0 train" not in text
    assert "mean s0, mean s1: the likelihood cannot be computed: Mean.log_prob(): returned" in early


def test_nothing_is_tried_where_nothing_is_trained(folder, monkeypatch):
    wanted = suite(folder, "Base")
    run(folder, wanted)
    monkeypatch.setattr(runner, "verdicts_of", None)  # calling it would raise
    records, _ = run(folder, suite(folder, "Base", metrics=["fid", "kid"]))
    assert {r.status for r in records.values()} == {OK}


def test_what_was_drawn_before_is_not_tried_again(folder, monkeypatch):
    run(folder, suite(folder, "Base"))
    tried = []
    monkeypatch.setattr(runner, "verdicts_of", lambda trials, *_: tried.extend(trials) or {})
    run(folder, suite(folder, "Base", "Mean", metrics=["fid", "kid"]))
    assert [trial.network.name for trial in tried] == ["mean"]


def test_a_lack_of_memory_is_left_to_the_training(folder):
    records, text = run(folder, suite(folder, "Hungry"))
    assert "cannot work" not in text
    assert "out of memory" in records["hungry", "fid", 0].reason


def verdicts(folder: Path, *names: str) -> list[TrialResult]:
    """Of trials of the models, in order."""
    planned = runner.make_plan(suite(folder, *names))
    store = genbench.store.Store(folder / "store")
    wanted = list(trials.cells_by_trial(planned.cells, store))
    launch = LaunchRequest(Execution(), ("genbench.runner.tasks",), folder, None, lambda *_: None)
    by_trial: dict[Trial, TrialResult] = trials.verdicts_of(wanted, launch)
    return [by_trial[trial] for trial in wanted]


def test_a_trial_that_takes_too_long_says_nothing(folder, monkeypatch):
    monkeypatch.setattr(trials, "SECONDS", 5.0)
    good, hangs, wide = verdicts(folder, "Base", "Hangs", "Wide")
    assert good == hangs == TrialResult()
    assert "returned float32 tensor" in wide.failure


def test_a_failure_in_a_process_leaves_the_models_after_it_to_another(folder):
    judged = verdicts(folder, "Dies", "Base", "Lossy", "Mean", "Free")
    assert [bool(verdict.failure) for verdict in judged] == [True, False, True, False, True]


def test_a_training_is_tried_once_and_one_in_the_store_is_only_timed(folder, monkeypatch):
    tried = []
    monkeypatch.setattr(tryouts, "try_training", lambda model, *_: tried.append(type(model).__name__))
    monkeypatch.setattr(tryouts, "pace_of", lambda *_: Pace(3.0, 0.5))
    again = {"name": "again", "source": f"{folder}/m.py:Mean", "weights_of": "base"}
    planned = make_plan(suite(folder, "Base", again, "Lossy"))
    store = Store(folder / "store")
    first = list(trials.cells_by_trial(planned.cells, store))
    assert [verdict.image for verdict in tryouts.try_task(tuple(first[:2]), "cpu", silent)] == [0.5, 0.5]
    assert tried == ["Base"]
    monkeypatch.setattr(store, "intact", lambda *_: True)
    (trained, *_) = trials.cells_by_trial(planned.cells, store)
    assert tryouts.try_task((trained,), "cpu", silent)[0].image == 0.5
    assert tried == ["Base"]
    assert trained != first[0]


def test_only_evaluations_of_a_denoiser_multiply_the_time_of_an_image(folder, monkeypatch):
    monkeypatch.setattr(tryouts, "pace_of", lambda *_: Pace(3.0, 0.5))
    planned = make_plan(suite(folder, "Base", "Pixels", "Denoises"))
    wanted = tuple(trials.cells_by_trial(planned.cells, Store(folder / "store")))
    assert [verdict.image for verdict in tryouts.try_task(wanted, "cpu", silent)] == [0.5, 0.5, 1.5]
