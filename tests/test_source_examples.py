"""The suites in examples/sources run on artefacts made here with the libraries' own classes and random weights."""

from __future__ import annotations

import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from genbench.evaluate.cell import evaluate
from genbench.plan.planner import make_plan
from genbench.progress import silent
from genbench.store import Store
from genbench.suite.schema import read_suite

EXAMPLES = Path(__file__).parent.parent / "examples" / "sources"


@pytest.fixture
def folder(tmp_path):
    """A copy of the examples, to write artefacts into."""
    return Path(shutil.copytree(EXAMPLES, tmp_path / "sources"))


def records(folder, name, limit):
    """The records of a suite's models by row and metric, all of one process; every one is ok or does not apply."""
    plan, store = make_plan(read_suite(folder / f"{name}.yaml"), limit_images=limit), Store()
    for fit in plan.fits:
        fit.run(plan.data, store, "cpu", silent)
    cells = [cell for cell in plan.cells if cell.source.ranked]
    found = [
        record for cell in cells for alone in (False, True) for record in evaluate(cell, alone, store, "cpu", silent)
    ]
    assert not [record.reason for record in found if record.status == "failed"]
    return {(record.model, record.metric): record for record in found}


def test_exported_graphs(folder):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    runpy.run_path(str(folder / "make_graphs.py"), run_name="make_graphs")["write_graphs"](folder)
    rows = records(folder, "graphs", limit=64)
    assert rows["script", "fid"].value == pytest.approx(rows["program", "fid"].value, rel=1e-3)
    assert {rows[name, "parameters"].value for name in ("script", "program", "graph")} == {5248}
    assert rows["classes", "class_accuracy"].status == "ok"
    assert rows["script", "class_accuracy"].status == "n/a"
    files = rows["graph", "fid"].protocol["model"]["files"]
    assert set(files) == {"generator.onnx", "generator.onnx.data"}


def test_a_program(folder):
    rows = records(folder, "program", limit=64)
    assert rows["program", "fid"].value != rows["classes", "fid"].value
    assert rows["classes", "class_accuracy"].status == "ok"
    assert "times include its start" in rows["program", "fid"].protocol["model"]["caveat"]


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers
def test_pipelines(folder):
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    with torch.random.fork_rng():
        runpy.run_path(str(folder / "make_pipelines.py"), run_name="make_pipelines")["write_pipelines"](folder)
    rows = records(folder, "pipelines", limit=16)
    assert rows["ddpm", "bits_per_dim"].kind == "bound"
    assert "bound is of the ancestral chain of all 20 steps" in rows["ddim", "bits_per_dim"].reason
    assert rows["ddpm", "bits_per_dim_ode"].value == rows["ddim", "bits_per_dim_ode"].value
    assert [rows[name, "evaluations"].value for name in ("ddpm", "ddim", "dit", "stable")] == [20, 5, 8, 8]
    assert rows["dit", "class_accuracy"].status == rows["stable", "prompt_agreement"].status == "ok"
    assert "of diffusers" in rows["stable", "fid"].protocol["model"]["caveat"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers
def test_further_kinds_of_pipelines(folder, monkeypatch):
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    monkeypatch.syspath_prepend(folder)
    with torch.random.fork_rng():
        runpy.run_path(str(folder / "make_kinds.py"), run_name="make_kinds")["write_kinds"](folder)
    rows = records(folder, "kinds", limit=16)
    evaluations = {"latent": 2, "consistency": 1, "digits": 1, "large": 4, "stable_3": 4, "flux": 2, "pixart": 4}
    assert {name: rows[name, "evaluations"].value for name in evaluations} == evaluations
    assert rows["digits", "class_accuracy"].status == "ok"
    texts = ("large", "stable_3", "flux", "pixart")
    assert {rows[name, "prompt_agreement"].status for name in texts} == {"ok"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers
def test_weights_and_images_made_elsewhere(folder):
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    with torch.random.fork_rng():
        runpy.run_path(str(folder / "make_weights.py"), run_name="make_weights")["write_weights"](folder)
    rows = records(folder, "weights", limit=30)
    assert rows["vae", "bits_per_dim"].value != rows["last", "bits_per_dim"].value
    assert rows["latent_diffusion", "prompt_agreement"].status == "ok"
    assert rows["elsewhere", "class_accuracy"].status == "ok"
    assert [rows[name, "evaluations"].value for name in ("ddim", "latent_diffusion")] == [4, 8]


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers
def test_prompts(folder):
    pytest.importorskip("diffusers")
    pytest.importorskip("transformers")
    with torch.random.fork_rng():
        made = runpy.run_path(str(folder / "make_pipelines.py"), run_name="make_pipelines")
        made["write_stable"](folder / "stable")
        made = runpy.run_path(str(folder / "make_clip.py"), run_name="make_clip")
        made["write_clip"](folder / "clip")
        made["write_captioned"](folder / "captioned")
    rows = records(folder, "prompts", limit=24)
    asked = ["latent_diffusion", "stable", "elsewhere"]
    scores = [rows[name, metric] for name in asked for metric in ("clip_score@clip", "clip_agreement@clip")]
    assert {record.status for record in scores} == {"ok"}
    assert {record.protocol["data"]["prompts"] for record in scores} == {6}
    assert len({record.protocol_hash for record in scores}) == 2  # one for each metric: the rows are comparable
    assert rows["stable", "fid@classifier"].protocol["model"]["prompts"]["count"] == 6
    assert rows["gan", "clip_score@clip"].reason == "its samples were drawn without texts"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")  # of diffusers
def test_repositories_of_a_hub_without_a_connection(folder, monkeypatch):
    """As a user runs it: another process, with the hub's own variables."""
    pytest.importorskip("diffusers")
    pytest.importorskip("huggingface_hub")
    monkeypatch.syspath_prepend(folder)
    with torch.random.fork_rng():
        runpy.run_path(str(folder / "make_hub.py"), run_name="make_hub")["write_hub"](folder / "hub")

    def ended(suite, cache, *more):
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "COLUMNS": "200"}
        command = [sys.executable, "-m", "genbench", *more, suite]
        root = str(EXAMPLES.parent.parent)
        process = subprocess.run(
            command, cwd=folder, env={**environment, "PYTHONPATH": root}, capture_output=True, text=True, check=False
        )
        return process.returncode, process.stdout + process.stderr

    code, text = ended("hub.yaml", folder / "none", "run")
    assert code == 2
    assert "models[0].source: examples/ddpm: revision main is not in the cache" in text
    assert "genbench run SUITE --download" in text
    code, text = ended("hub.yaml", folder / "hub", "run", "--device", "cpu", "--limit-images", "16")
    assert code == 0, text
    stored = folder / "reports" / "hub" / "suite.yaml"
    assert yaml.safe_load(stored.read_text())["models"][0]["source"] == f"diffusers:examples/ddpm@{'1' * 40}"
    (folder / "hub" / "models--examples--ddpm" / "refs" / "main").write_text("3" * 40)
    code, text = ended(str(stored), folder / "hub", "plan")
    assert code == 0, text
    assert "to draw" not in text
