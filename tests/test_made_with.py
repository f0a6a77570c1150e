"""What was made with another version of torch or on another device is named wherever it is shown beside others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
import yaml

import genbench
from genbench.commands.diff import compare_results
from genbench.evaluate.score import score
from genbench.machine import made_with
from genbench.store import Kind, Store
from genbench.store.artefacts import write_description

TOYS = Path(__file__).parent / "toys.py"
OLD = {"device": "an old cpu", "torch": "1.0"}
NOW = made_with("cpu")
SHOWN = f"{NOW['device']} with torch {NOW['torch']}"


def run(folder: Path, out: str, labels: list[str]) -> list[genbench.records.Record]:
    models = [{"name": "toy", "label": label, "source": f"{TOYS}:Diagonal", "config": {"scale": 0.1 * (i + 1)}}
              for i, label in enumerate(labels)]  # fmt: skip
    keys = {"suite": "toys", "dataset": {"name": "digits"}, "features": "classifier", "samples": 60, "block": 60}
    keys |= {"budget": {"images": 64}, "likelihood_images": 20, "metrics": ["fid", "bits_per_dim"], "models": models}
    (folder / "suite.yaml").write_text(yaml.safe_dump(keys))
    return genbench.run(folder / "suite.yaml", out=folder / out, device="cpu").records


def pretend(kind: Kind) -> None:
    """As if all artefacts of a kind were made by an old version of torch."""
    for path in (Store().root / kind).glob("*/meta.json"):
        meta = json.loads(path.read_text())["meta"]
        write_description(path.parent, meta | {k: v for k, v in OLD.items() if k in meta})


def test_artefacts_of_an_older_torch_are_named_on_the_page_and_by_diff(tmp_path):
    run(tmp_path, "a", ["one"])
    for kind in (Kind.WEIGHTS, Kind.SAMPLES, Kind.FEATURES, Kind.LIKELIHOODS):
        pretend(kind)
    shutil.rmtree(Store().root / Kind.VALUES)
    records = {(r.model, r.metric): r.protocol["model"] for r in run(tmp_path, "b", ["one", "two"]) if r.value}
    assert records["one", "fid"]["features_with"] == records["one", "fid"]["reference_with"] == OLD
    assert records["one", "bits_per_dim"]["likelihoods_with"] == OLD
    assert records["two", "fid"]["features_with"] == records["one", "fid"]["measured_with"] == NOW
    assert "measured_with" not in records["one", "bits_per_dim"]
    ends = f"with different torch versions or devices: an old cpu with torch 1.0: one; {SHOWN}: two"
    page = (tmp_path / "b" / "leaderboard.html").read_text()
    for done in ("Rows were trained", "Rows were drawn", "Likelihoods were computed"):
        for name in ("html", "md", "tex"):
            assert f"{done} {ends}" in (tmp_path / "b" / f"leaderboard.{name}").read_text(encoding="utf-8")
    assert "Features of the samples were extracted with different torch versions or devices" in page
    assert "Features of the reference were extracted with" not in page  # all rows have the same
    found = compare_results(tmp_path / "a", tmp_path / "b", gate=False, tolerance=[])
    text = " ".join(" ".join(line.text for line in found.lines).split())
    assert f"one: Rows were trained on {SHOWN} for A, on an old cpu with torch 1.0 for B." in text


def test_a_reference_kept_by_an_older_torch_is_named_by_score():
    images = torch.randint(17, (40, 1, 8, 8), dtype=torch.uint8).numpy()
    scores = [score(fake=images, reference="digits", features="pixels", metrics=["fid"])]
    pretend(Kind.FEATURES)
    scores.append(score(fake=images, reference="digits", features="pixels", metrics=["fid"]))
    line = f"features of the reference were extracted on an old cpu with torch 1.0, those of the images on {SHOWN}"
    assert [line in found.table() for found in scores] == [False, True]
