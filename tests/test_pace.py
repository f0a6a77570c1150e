"""The pace of a training: extrapolated from losses of few images, unknown where they fail."""

from __future__ import annotations

import pytest

from genbench.plan.planner import make_plan
from genbench.sources import pace
from genbench.suite.schema import read_suite


@pytest.fixture(scope="module")
def planned():
    """A cell that trains for 1,875 steps of 32 images, and its model."""
    cell = make_plan(read_suite("digits"), models=["stylegan"]).cells[0]
    assert (cell.source.fit.images, cell.source.fit.recipe.batch) == (60_000, 32)
    return cell, cell.source.fit.network.build(cell.data, 0)


def test_a_pace_follows_from_losses_of_two_sizes(planned, monkeypatch):
    (cell, model), now = planned, [0.0]

    def loss(batch, player, step, gen):
        now[0] += (0.5 if player == "generator" else 0.1) + 0.01 * len(batch.x)

    monkeypatch.setattr(pace, "clock_of", lambda device: lambda: now[0])
    monkeypatch.setattr(model, "loss", loss)
    shown = pace.pace_of(model, cell.data, cell.source.fit)
    assert shown.training == pytest.approx(1_875 * pace.STEP * (0.5 + 0.1 + 2 * 32 * 0.01))
    assert shown.image == pytest.approx(0.01)


def test_a_loss_that_fails_has_no_pace(planned, monkeypatch):
    cell, model = planned

    def loss(batch, player, step, gen):
        raise ValueError("planted")

    monkeypatch.setattr(model, "loss", loss)
    assert pace.pace_of(model, cell.data, cell.source.fit) == pace.Pace()
