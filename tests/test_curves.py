"""Loss curves, seconds and reports of a training whose losses and clock are known."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import toys

from genbench.contract import DataSpec, Loss, Recipe, Stage
from genbench.progress import Progress, silent
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, Training, fit

SPEC = DataSpec(1, 2, 2, 17)


class Rising(toys.TwoPlayers):
    """Its loss is the number of the step, whatever its weights are."""

    stages = (Stage("fit", turns=("b",)),)

    def loss(self, batch, player, step, gen):
        return Loss(0 * self.b + step)


def batches() -> Batches:
    return Batches(torch.zeros(20, *SPEC.shape, dtype=torch.uint8), None, 17, 0)


@pytest.fixture
def clock(monkeypatch):
    """Each reading is a second after the one before."""
    seconds = iter(range(1_000))
    monkeypatch.setattr("genbench.train.loop.time", SimpleNamespace(perf_counter=lambda: float(next(seconds))))


def test_points_are_means_since_the_point_before_and_the_last_step_has_one(monkeypatch, clock):
    monkeypatch.setattr("genbench.train.loop.CURVE_POINTS", 4)
    fitted = fit(Rising(SPEC), batches(), Recipe(batch=10), FitOptions(images=90, seed=0))
    assert [p.step for p in fitted.curves] == [2, 4, 6, 8, 9]
    assert [p.images for p in fitted.curves] == [20, 40, 60, 80, 90]
    assert [p.value for p in fitted.curves] == [0.5, 2.5, 4.5, 6.5, 8.0]
    assert [p.seconds for p in fitted.curves] == [2.0, 4.0, 6.0, 8.0, 9.0]
    assert {(p.stage, p.name) for p in fitted.curves} == {("fit", "b")}


def test_seconds_are_those_of_all_parts_and_of_the_wait_for_the_last_step(clock):
    seen: list[Progress] = []
    training = Training(Rising(SPEC), batches(), Recipe(batch=10), FitOptions(images=80, seed=0))
    training.fitted.seconds = 100.0
    training.run(None, seen.append)
    assert training.fitted.seconds == 109.0
    assert seen[-1] == Progress("train", 80, 80, "images", 80 / 109, {"b": 7.0})


def test_a_continued_training_has_the_curve_and_the_seconds_of_its_first_part(tmp_path, clock):
    recipe, options = Recipe(batch=10), FitOptions(images=80, seed=0)
    first = Training(Rising(SPEC), batches(), recipe, options)
    for _ in range(3):
        first.step()
        first.fitted.seconds += 5.0
        first.flush()
    first.checkpoint(tmp_path / "checkpoint.pt")
    second = Training(Rising(SPEC), batches(), recipe, options)
    second.resume(tmp_path / "checkpoint.pt")
    second.run(None, silent)
    assert [(p.step, p.images, p.value) for p in second.fitted.curves] == [(k, 10 * k, k - 1) for k in range(1, 9)]
    assert [p.seconds for p in second.fitted.curves] == [5.0, 10.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0]
