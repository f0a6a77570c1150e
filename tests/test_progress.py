"""Stalls: what takes long without progress is listed; loops without a Report count as progress where they say so."""

from __future__ import annotations

import pytest
import toys

from genbench import progress
from genbench.evaluate.cell import evaluate
from genbench.plan.planner import make_plan
from genbench.progress import Progress, StallWatch, alive, silent
from genbench.store import Store
from genbench.suite.schema import Suite


@pytest.fixture
def clock(monkeypatch):
    """The time as a list of one number that a test changes."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_stalls_are_listed_with_their_place(clock):
    seen = []
    watch = StallWatch(seen.append)
    clock[0] += 299
    watch(Progress("draw", 5, 10))
    clock[0] += 301
    watch(Progress("measure fid", 0, 0))
    clock[0] += 500
    expected = ("no progress for 301 s before 'measure fid'", "no progress for 500 s in 'measure fid'")
    assert watch.stalls == expected
    assert watch.stalls == expected  # looking changes nothing
    assert [p.phase for p in seen] == ["draw", "measure fid"]


def test_a_loop_without_a_report_counts_as_progress(clock):
    seen = []
    watch = StallWatch(seen.append)
    watch(Progress("measure kid", 0, 0))
    for _ in range(100):
        clock[0] += 15
        alive()
    assert watch.stalls == ()
    assert len(seen) == 1 + 50  # the pool hears of it every ALIVE_SECONDS


def test_a_stall_is_in_the_records_of_its_cell_and_stays_there(clock):
    """Of the training in all records; of the cell in those that were measured after it began."""

    toy = {"name": "toy", "source": f"{toys.__file__}:Diagonal", "budget": {"images": 64}}
    entries = {"dataset": {"name": "digits"}, "models": [toy], "metrics": ["parameters", "fid", "bits_per_dim"]}
    plan = make_plan(Suite.model_validate({"suite": "s", "samples": 40, **entries}))
    cell, store = next(c for c in plan.cells if c.label == "toy"), Store()

    def slow(phase, seconds):
        def report(p):
            clock[0] += seconds if p.phase == phase else 0

        return report

    plan.fits[0].run(plan.data, store, "cpu", slow("train", 400))
    measured = {r.metric: r for alone in (False, True) for r in evaluate(cell, alone, store, "cpu", slow("draw", 999))}
    again = {r.metric: r for alone in (False, True) for r in evaluate(cell, alone, store, "cpu", silent)}
    assert measured == again
    assert "no progress for 400 s in 'train'" in measured["parameters"].warnings
    assert any(w.startswith("no progress for 999 s") for w in measured["fid"].warnings)
    assert measured["fid"].protocol_hash
