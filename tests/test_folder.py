"""The folder of a result: rows that were not run stay, others are kept apart, another suite's are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from genbench.errors import GenbenchError
from genbench.plan.planner import make_plan
from genbench.records import read_records
from genbench.runner.folder import ResultFolder
from genbench.runner.run import run
from genbench.screen import Screen
from genbench.store import Store
from genbench.suite.schema import Suite

METRICS = ["precision", "recall"]


@pytest.fixture
def files(tmp_path):
    """Two files of images and a dataset: suites of files need no training."""
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        np.savez(tmp_path / f"{name}.npz", images=rng.integers(0, 256, (60, 4, 4), dtype=np.uint8))
    np.savez(tmp_path / "data.npz", images=rng.integers(0, 256, (120, 4, 4), dtype=np.uint8))
    return tmp_path


def suite(files: Path, labels: str = "ab", **more) -> Suite:
    models = [{"name": label, "samples": str(files / f"{label}.npz")} for label in labels]
    whole = {
        "suite": "s", "dataset": {"name": "npz", "path": str(files / "data.npz")}, "features": "pixels", "samples": 60,
        "models": models, "metrics": METRICS,
    }  # fmt: skip
    return Suite.model_validate({**whole, **more})


def rows(folder: Path, name: str = "records.jsonl") -> list[str]:
    return list(dict.fromkeys(r.model for r in read_records(folder / name) if r.role == "model"))


def go(files, which: Suite, **more):
    return run(which, out=files / "out", device="cpu", screen=Screen(), **more)


def test_rows_that_were_not_run_stay_and_removed_rows_are_kept_apart(files, capsys):
    go(files, suite(files))
    before = (files / "out" / "records.jsonl").read_text()
    result = go(files, suite(files), models=["a"])
    assert (files / "out" / "records.jsonl").read_text() == before
    assert {r.model for r in result.records} >= {"a", "b"}
    go(files, suite(files, "ac"))
    assert rows(files / "out") == ["a", "c"]
    assert rows(files / "out", "removed.jsonl") == ["b"]
    assert "no longer in the suite, kept in" in capsys.readouterr().out


def test_seeds_that_were_not_run_stay(files):
    both = suite(files, "a", seeds=[0, 1])
    go(files, both)
    go(files, both, seeds=[1])
    assert {r.seed for r in read_records(files / "out" / "records.jsonl") if r.model == "a"} == {0, 1}


def test_another_suite_of_the_same_name_is_refused(files):
    go(files, suite(files, "a"))
    with pytest.raises(GenbenchError, match="holds results of another suite: 's' on npz with a; choose another --out"):
        go(files, suite(files, "c"))
    assert rows(files / "out") == ["a"]


def test_values_on_other_data_under_the_same_names_are_named_when_they_are_replaced(files, capsys):
    go(files, suite(files))
    assert "replaced" not in capsys.readouterr().out
    np.savez(files / "data.npz", images=np.random.default_rng(9).integers(0, 256, (120, 4, 4), dtype=np.uint8))
    go(files, suite(files))
    assert "replaced values of another configuration, code, machine or data: a, b" in capsys.readouterr().out


def test_a_limited_run_does_not_replace_a_whole_one(files):
    go(files, suite(files, "a"))
    with pytest.raises(GenbenchError, match="holds results with no --limit-images, found --limit-images 30"):
        go(files, suite(files, "a"), limit_images=30)
    assert json.loads((files / "out" / "environment.json").read_text())["limit_images"] is None


def test_a_page_that_was_cut_short_is_written_again(files):
    go(files, suite(files, "a"))
    page = files / "out" / "leaderboard.html"
    text = page.read_text()
    page.write_text(text[: len(text) // 2])
    (files / "out" / "leaderboard.md").unlink()
    go(files, suite(files, "a"))
    assert page.read_text() == text
    assert (files / "out" / "leaderboard.md").is_file()


def test_values_stay_until_their_replacements_exist(files, monkeypatch):
    go(files, suite(files, "a"))
    monkeypatch.setenv("GENBENCH_CACHE", str(files / "other-cache"))
    monkeypatch.setattr("genbench.runner.pool.Pool.run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        go(files, suite(files, "a"))
    assert all(r.status == "ok" for r in read_records(files / "out" / "records.jsonl") if r.model == "a")


def test_a_killed_run_leaves_one_record_for_each_cell_and_metric(files):
    old = go(files, suite(files, "a")).records
    folder = ResultFolder(files / "out", make_plan(suite(files, "a")), Store())
    folder.start([])
    new = replace(old[0], value=0.125, lo=None, hi=None, run="new")
    folder.add([new])
    records = read_records(folder.records_path)
    assert len(records) == len(old)
    assert new in records


def test_nothing_unfinished_is_left_behind(files):
    go(files, suite(files, "a"))
    assert [p.name for p in (files / "out").rglob("*") if p.name.startswith(".")] == []
