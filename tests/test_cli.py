"""The program as a user meets it: one line and exit code 2 for a mistake, never a traceback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SUITE = """suite: s
dataset: {name: digits}
models:
  - {name: vae}
metrics: [fid]
"""


def genbench(*arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "genbench.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **environment})


CASES = {
    "unknown key": (
        SUITE + "metrcs: [fid]\n",
        "s.yaml:6: metrcs: unknown key; did you mean 'metrics'?",
    ),
    "wrong type": (SUITE + "samples: many\n", "s.yaml:6: samples: found 'many' (str), allowed: an integer"),
    "unknown model": (
        SUITE.replace("vae", "vea"),
        "s.yaml:4: models[0].name: unknown model 'vea'; did you",
    ),
    "duplicate key": (SUITE + "suite: t\n", "s.yaml:6: suite: duplicate key, first on line 1; allowed: once"),
    "empty file": ("", "s.yaml:1: found an empty file"),
    "impossible metric": (
        SUITE.replace("vae", "dcgan").replace("[fid]", "[bits_per_dim]"),
        "s.yaml:5: metrics[0]: bits_per_dim: not available for any model of this suite; needs ExactLikelihood or",
    ),
    "unknown metric": (
        SUITE.replace("[fid]", "[fidd]"),
        "s.yaml:5: metrics[0]: unknown metric 'fidd'; did you mean 'fid'?",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake_in_a_suite_is_one_line(tmp_path, name):
    text, message = CASES[name]
    (tmp_path / "s.yaml").write_text(text)
    done = genbench("run", "s.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"genbench: {message}"), done.stderr
    assert not (tmp_path / "reports").exists()


def test_a_missing_file_and_a_folder_that_cannot_be_written(tmp_path):
    done = genbench("run", tmp_path / "no.yaml")
    assert (done.returncode, done.stderr) == (2, f"genbench: {tmp_path}/no.yaml: not found\n")
    (tmp_path / "s.yaml").write_text(SUITE)
    (tmp_path / "taken").write_text("")
    done = genbench("run", tmp_path / "s.yaml", "--out", tmp_path / "taken")
    assert done.returncode == 2
    assert done.stderr.startswith(f"genbench: {tmp_path}/taken: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "s.yaml", "--device", "tpu"], "--device: found 'tpu', allowed: auto, cuda, mps, cpu"),
        (["run", "s.yaml", "--seeds", "one"], "--seeds: found 'one', allowed: whole numbers separated by commas"),
        (["run", "s.yaml", "--models", "vea"], "--models: unknown 'vea'; did you mean 'vae'? allowed: vae"),
        (["ls", "model"], "ls: unknown 'model'; did you mean 'models'? allowed: models, datasets,"),
        (["check", "vea"], "unknown model 'vea'; did you mean 'vae'? allowed: cgan,"),
        (["report", "."], "records.jsonl: not found; `genbench run SUITE` writes it"),
        (
            ["sample", "vae", "--suite", "s.yaml"],
            "vae: its weights are missing: training failed or was not run;",
        ),
        (["sample", "cyclegan"], "cyclegan translates images and draws none without a source;"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(tmp_path, arguments, message):
    (tmp_path / "s.yaml").write_text(SUITE)
    done = genbench(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"genbench: {message}"), done.stderr
    assert done.stderr.count("\n") == 1


def test_plan_runs_nothing_and_tells_what_does_not_apply(tmp_path):
    (tmp_path / "s.yaml").write_text(SUITE.replace("- {name: vae}", "- {name: vae}\n  - {name: dcgan}")
                                     .replace("[fid]", "[fid, bits_per_dim]"))  # fmt: skip
    done = genbench("plan", tmp_path / "s.yaml", cwd=tmp_path)
    assert done.returncode == 0
    assert "vae/digits/s0" in done.stdout
    assert (
        "n/a: bits_per_dim: needs ExactLikelihood or DequantisedDensity or\n  LikelihoodBound: dcgan\n" in done.stdout
    )
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not (tmp_path / "reports").exists()


def test_listings_schema_and_cache(tmp_path):
    assert "realnvp" in genbench("ls", "models").stdout
    assert "fashion-mnist" in genbench("ls", "datasets").stdout
    assert "bits_per_dim" in genbench("ls", "metrics").stdout
    assert json.loads(genbench("schema").stdout)["properties"]["models"]
    assert "0 B" in genbench("cache").stdout
    assert genbench("cache", "--store", tmp_path / "other").stdout == f"{tmp_path}/other: 0 B\n"
    assert "freed" in genbench("cache", "--prune").stdout


def test_samples_as_a_picture_an_array_or_a_folder(tmp_path):
    options = ["-n", "4", "--shape", "3x16x16", "--seed", "5"]
    for name in ("grid.png", "x.npz", "x.npy", "folder"):
        done = genbench("sample", "dcgan", *options, "--out", tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")
    images = np.load(tmp_path / "x.npy")
    assert images.shape == (4, 16, 16, 3)
    np.testing.assert_array_equal(images, np.load(tmp_path / "x.npz")["images"])
    pictures = sorted((tmp_path / "folder").iterdir())
    assert [path.name for path in pictures] == ["0.png", "1.png", "2.png", "3.png"]
    np.testing.assert_array_equal(images, [np.asarray(Image.open(path)) for path in pictures])
    done = genbench("sample", "dcgan", *options, "--out", tmp_path / "folder")
    assert (done.returncode, "found a folder with files" in done.stderr) == (2, True)


def test_an_untrained_class_of_a_file_is_sampled_and_shown(tmp_path):
    target = f"{Path(__file__).parent / 'toys.py'}:Diagonal"
    done = genbench("sample", target, "-n", "3", "--shape", "1x4x4", "--out", tmp_path / "x.npz")
    assert done.returncode == 0, done.stderr
    assert np.load(tmp_path / "x.npz")["images"].shape == (3, 4, 4)
    assert "toys.Diagonal" in genbench("show", target, "--shape", "1x4x4").stdout


def test_a_model_is_shown_with_its_options():
    shown = genbench("show", "vae", "--shape", "1x8x8", "--levels", "17").stdout
    assert "vae: zoo.vae.VAE" in shown
    assert re.search(r"parameters +197,938\n", shown)
    assert re.search(r"  likelihood +logistic +\S", shown)
    assert re.search(r"  warmup +\d+ +an integer", shown)
