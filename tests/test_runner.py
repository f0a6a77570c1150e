"""Whole runs of small suites: results, failures as records, killing and continuing, and doing nothing twice."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from genbench.contract import DataSpec
from genbench.records import read_records
from genbench.sources.build import load_model, write_weights
from genbench.store import Kind, Store

TOYS = Path(__file__).parent / "toys.py"
METRICS = [
    "fid",
    "kid",
    "precision",
    "recall",
    "density",
    "coverage",
    "bits_per_dim",
    "images_per_second",
    "parameters",
]


def toy(name: str = "Diagonal", **more) -> dict:
    return {"name": name.lower(), "source": f"{TOYS}:{name}", **more}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a small dataset of its own: 8x8 images of two grey blobs."""
    rng = np.random.default_rng(0)
    images = np.clip(rng.normal(100, 20, (220, 8, 8)), 0, 255).astype(np.uint8)
    images[::2, 2:6, 2:6] = 220
    np.savez(tmp_path / "data.npz", images=images)
    return tmp_path


def write(place: Path, models: list[dict], **more) -> Path:
    suite = {"suite": "tiny", "dataset": {"name": "npz", "path": "data.npz"}, "features": "pixels", "samples": 60}
    suite |= {"speed": {"batch": 8, "seconds": 0.01}, "models": models, "metrics": METRICS, **more}
    path = place / "tiny.yaml"
    path.write_text(yaml.safe_dump(suite))
    return path


def command(path: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "genbench.cli", "run", str(path), "--out", str(path.parent / "out"), *more]


def genbench(path: Path, *more: str, rc: int = 0) -> str:
    done = subprocess.run(command(path, *more), capture_output=True, text=True, timeout=200)
    assert done.returncode == rc, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_a_run_its_folder_and_the_second_run(place):
    foreign = np.random.default_rng(1).integers(0, 256, (80, 8, 8), dtype=np.uint8)
    np.savez(place / "theirs.npz", images=foreign)
    spec = DataSpec(1, 8, 8, 256)
    write_weights(load_model("x", data=spec, source=f"{TOYS}:Diagonal"), place / "given.safetensors")
    models = [
        toy(),
        toy(label="loaded", weights="given.safetensors"),
        {"name": "theirs", "samples": "theirs.npz"},
        toy(label="shared", weights_of="diagonal"),
    ]
    path, out = write(place, models), place / "out"
    first = genbench(path)
    names = {p.name for p in out.iterdir()}
    assert names >= {"records.jsonl", "leaderboard.csv", "leaderboard.parquet", "leaderboard.md", "leaderboard.html"}
    assert names >= {"environment.json", "suite.yaml", "figures", "curves"}
    records = {(r.model, r.metric): r for r in read_records(out / "records.jsonl")}
    assert len(records) == 9 * len(METRICS)  # 4 models, 5 scale rows
    check_values(records)
    table = pd.read_csv(out / "leaderboard.csv").set_index("model")
    assert table.loc["diagonal", "fid"] == pytest.approx(records["diagonal", "fid"].value)
    assert np.isnan(table.loc["theirs", "bits_per_dim"])
    assert (out / "figures" / "samples-theirs-s0.png").is_file()
    assert json.loads((out / "environment.json").read_text())["cores"]

    stamp = (out / "leaderboard.html").stat().st_mtime_ns
    second = genbench(path)
    assert "nothing to do: 9 cells" in second
    assert (out / "leaderboard.html").stat().st_mtime_ns == stamp
    assert "train" in first
    assert "train" not in second


def check_values(records: dict) -> None:
    assert records["theirs", "bits_per_dim"].status == "n/a"
    assert records["theirs", "fid"].n_fake == 80
    assert records["held-out real", "fid"].value < records["uniform noise", "fid"].value
    assert records["uniform noise", "bits_per_dim"].value == pytest.approx(8.0)
    assert records["diagonal", "bits_per_dim"].kind == "density"
    assert records["diagonal", "fid"].protocol["features"]["extractor"] == "pixels"
    assert records["diagonal", "fid"].protocol["model"]["images_seen"] == 640
    assert records["diagonal", "fid"].protocol_hash == records["loaded", "fid"].protocol_hash
    assert records["diagonal", "fid"].protocol_hash != records["theirs", "fid"].protocol_hash  # 80 images, not 60
    assert records["diagonal", "bits_per_dim"].value == records["shared", "bits_per_dim"].value
    assert records["diagonal", "bits_per_dim"].value < records["loaded", "bits_per_dim"].value
    assert records["diagonal", "parameters"].value == 128


def test_what_fails_becomes_a_record_and_the_others_go_on(place):
    dies = toy(label="dies", config={"die_at": 3})
    path = write(place, [toy("Raises"), toy("TurnsNaN"), dies, toy()], metrics=["fid", "bits_per_dim"])
    text = genbench(path, rc=1)
    records = read_records(place / "out" / "records.jsonl")
    reasons = {r.model: r.reason for r in records if r.status == "failed"}
    assert re.fullmatch(r"RuntimeError: planted failure \(toys\.py:\d+, in loss\)", reasons["raises"])
    assert reasons["turnsnan"].startswith("loss 'nll' became nan by step")
    assert "signal 9" in reasons["dies"]
    assert {r.status for r in records if r.model == "diagonal"} == {"ok"}
    assert "failed" in text
    genbench(path, rc=1)  # failures are tried again, and fail again
    page = (place / "out" / "leaderboard.html").read_text()
    assert "planted failure" in page


def test_killed_and_continued(place):
    path = write(place, [toy(label="quick"), toy(label="slow", config={"sleep": 0.02}, budget={"images": 12_800})])
    run = subprocess.Popen(command(path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    store, deadline = Store(), time.monotonic() + 100
    scratch = store.root / "scratch" / Kind.WEIGHTS
    while not (list(scratch.glob("*/checkpoint.pt")) and list((store.root / Kind.WEIGHTS).glob("[!.]*/meta.json"))):
        assert time.monotonic() < deadline
        assert run.poll() is None
        time.sleep(0.1)
    run.send_signal(signal.SIGKILL)
    run.wait()
    weights = {p.name: p.stat().st_mtime_ns for p in (store.root / Kind.WEIGHTS).glob("[!.]*")}
    started = time.monotonic()
    while any("genbench" in name for name in children()) and time.monotonic() - started < 20:
        time.sleep(0.1)
    text = genbench(path)
    assert "quick s0 train" not in text
    assert "✓ slow s0 train: 12,800 images" in text
    for name, made in weights.items():
        assert (store.root / Kind.WEIGHTS / name).stat().st_mtime_ns == made
    assert all(r.status != "failed" for r in read_records(place / "out" / "records.jsonl"))


def children() -> list[str]:
    """Command lines of this test's workers, which must not outlive a killed run."""
    lines = []
    for entry in Path("/proc").glob("[0-9]*/environ"):
        try:
            if os.environ["GENBENCH_CACHE"].encode() in entry.read_bytes() and int(entry.parent.name) != os.getpid():
                lines.append("genbench")
        except OSError:
            continue
    return lines
