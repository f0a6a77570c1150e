"""`genbench speed` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from genbench.cli import app
from genbench.errors import CellFailure, GenbenchError
from genbench.speed import baseline, commands
from genbench.speed.client import Worker
from genbench.speed.commands import Request, speed
from genbench.speed.comparison import read_tolerance
from genbench.speed.subjects import subjects
from genbench.suite.schema import read_suite

SUITE = """suite: s
dataset: {name: digits}
features: inception-v3-compat
models:
  - {name: vae}
  - {name: cgan}
  - {name: theirs, samples: x.npy}
metrics: [fid, images_per_second]
samples: 20
"""


@pytest.fixture
def suite(tmp_path) -> Path:
    np.save(tmp_path / "x.npy", np.arange(20 * 64, dtype=np.uint8).reshape(20, 1, 8, 8) % 17)
    (tmp_path / "s.yaml").write_text(SUITE)
    return tmp_path / "s.yaml"


def test_random_weights_need_neither_training_nor_an_extractor(suite):
    found, left_out = subjects(read_suite(suite), None, random_weights=True)
    assert [s.label for s in found] == ["vae", "cgan"]
    assert left_out == {"theirs": "samples only: there is no network"}


def test_trained_weights_that_are_missing_are_named(suite):
    with pytest.raises(GenbenchError, match="s: vae is not trained; allowed: --random-weights"):
        subjects(read_suite(suite), None, random_weights=False)


def test_modes_exclude_each_other(suite):
    with pytest.raises(GenbenchError, match="found --save and --base, allowed: one of"):
        speed(Request(suite, save=Path("x"), base="HEAD"), print)


@pytest.mark.parametrize(("text", "share"), [("5%", 0.05), ("0.02", 0.02), ("0", 0.0)])
def test_tolerances(text, share):
    assert read_tolerance(text) == share


@pytest.mark.parametrize("text", ["5", "-1%", "much", "nan"])
def test_what_is_no_tolerance(text):
    with pytest.raises(GenbenchError, match="--tolerance: found"):
        read_tolerance(text)


def test_a_baseline_is_written_and_judged_against(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(baseline, "PROCESSES", 2)
    monkeypatch.setattr(baseline, "SLICE_SECONDS", 0.05)
    file, found = tmp_path / "b.json", tmp_path / "found.json"
    common = ["--models", "cgan", "--random-weights", "--batch", "8", "--device", "cpu"]
    done = CliRunner().invoke(app, ["speed", str(suite), "--save", str(file), *common])
    assert done.exit_code == 0, done.output
    assert f"written: {file}" in done.stdout
    assert len(baseline.read_baseline(file).timings["cgan"].processes) == 2
    done = CliRunner().invoke(app, ["speed", str(suite), "--against", str(file), *common, "--tolerance", "90%",
                                    "--json", str(found)])  # fmt: skip
    assert "noise" in done.stdout
    assert json.loads(found.read_text())["comparisons"][0]["label"] == "cgan"
    text = file.read_text().replace('"threads": 1', '"threads": 7')
    file.write_text(text)
    done = CliRunner().invoke(app, ["speed", str(suite), "--against", str(file), *common])
    assert isinstance(done.exception, GenbenchError)
    assert "threads: 7 in the baseline, 1 here" in str(done.exception)


def test_the_table_of_costs(suite, tmp_path, monkeypatch):
    monkeypatch.setattr(commands, "PROFILE_SECONDS", 0.02)
    request = Request(suite, models=["cgan"], random_weights=True, json_file=tmp_path / "found.json", device="cpu")
    text, passed = speed(request, lambda line: None)
    assert passed
    assert text.splitlines()[0].startswith("model  first image")
    found = json.loads((tmp_path / "found.json").read_text())["profiles"]["cgan"]
    assert [p["batch"] for p in found["sweep"]][:3] == [1, 4, 16]
    assert 0 < found["network_share"] <= 1
    assert found["flops"] > 0


def test_a_worker_that_dies_or_refuses_says_why():
    with Worker("cpu", 1) as worker:
        with pytest.raises(CellFailure, match="AttributeError: 'Bench' object has no attribute 'nothing'"):
            worker.request("nothing")
        worker.process.kill()
        with pytest.raises(CellFailure, match="its process ended with code -9"):
            worker.request("build")
