"""One real run of each smoke suite: every system of the zoo is trained, drawn from and scored, in seconds."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from genbench.records import NOT_APPLICABLE, OK, read_records
from genbench.registry import MODELS
from genbench.runner.run import run
from genbench.suite.schema import read_suite

SUITES = Path(__file__).parent.parent / "suites"
SMOKE = ("smoke", "smoke_translation")


def test_every_system_of_the_zoo_is_in_one_of_them():
    entries = [entry for name in SMOKE for entry in read_suite(SUITES / f"{name}.yaml").models]
    assert {entry.name for entry in entries} == set(MODELS.built_in)


@pytest.mark.parametrize("name", SMOKE)
def test_every_cell_gives_every_number_that_applies(tmp_path, name, device):
    suite = read_suite(SUITES / f"{name}.yaml")
    result = run(suite, out=tmp_path, device=device)
    assert [f"{r.cell} {r.metric}: {r.reason}" for r in result.failed] == []
    assert {r.model for r in result.records if r.role == "model"} == {entry.label for entry in suite.models}
    assert {r.metric for r in result.records if r.status == OK} == set(suite.metrics)
    for record in result.records:
        assert record.status == NOT_APPLICABLE or math.isfinite(record.value)
        assert record.role == "scale" or record.metric != "fid" or record.value > 0
    samplers = {r.model: r.protocol["model"]["sampler"] for r in result.records if r.role == "model" and r.status == OK}
    assert all(samplers[entry.label].items() >= entry.sampler.items() for entry in suite.models)
    assert "ddim" not in samplers or samplers["ddim"] == {"steps": 5, "eta": 0.0, "spacing": "trailing", "clip": True}
    kept = [(r.cell, r.metric, r.value) for r in read_records(tmp_path / "records.jsonl")]
    assert kept == [(r.cell, r.metric, r.value) for r in result.records]
    pictures = {path.name for path in (tmp_path / "figures").glob("*.png")}
    assert pictures >= {f"samples-{entry.label}-s0.png" for entry in suite.models}
    compared = [entry.label for entry in suite.models if "memorised" in suite.metrics]
    assert pictures >= {f"neighbours-{label}-s0.png" for label in compared}
    assert (tmp_path / "leaderboard.html").stat().st_size > 10_000
