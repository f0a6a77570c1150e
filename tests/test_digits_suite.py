"""The digits suite's promises, on the committed result and (slow) on a fresh run of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from genbench.records import Record, read_records
from genbench.runner.run import run

ROOT = Path(__file__).parent.parent
LARGEST_FID_OVER_NOISE = {
    "gan": 0.15, "dcgan": 0.15, "cgan": 0.15, "stylegan": 0.15, "ddpm": 0.15, "ddim": 0.15, "latent_diffusion": 0.15,
    "flow_matching": 0.15, "edm": 0.15, "mean_flow": 0.3,
    "vae": 0.4, "realnvp": 0.4, "glow": 0.4, "pixelcnn": 0.4,
}  # fmt: skip
MODELS = tuple(LARGEST_FID_OVER_NOISE)


def keeps_its_promises(records: list[Record]) -> None:
    found = {(r.model, r.metric): r for r in records}
    noise = found["uniform noise", "fid"].value
    assert all(r.status != "failed" for r in records)
    for model in MODELS:
        assert found[model, "fid"].n_fake >= 2_000
        assert found[model, "fid"].value <= LARGEST_FID_OVER_NOISE[model] * noise
        assert found[model, "confidence"].value >= 0.8
        assert found[model, "rarest_class"].value >= 0.02  # all ten digits, none a rarity
    for flow in ("realnvp", "glow"):
        assert found[flow, "bits_per_dim"].value < found["gaussian", "bits_per_dim"].value
        assert found[flow, "bits_per_dim"].kind == "density"
    assert found["cgan", "class_accuracy"].value >= 0.9
    assert found["latent_diffusion", "prompt_agreement"].value >= 0.9
    assert found["memorised train", "memorised"].value == 1
    assert all(found[model, "memorised"].value < 0.05 for model in MODELS)
    assert found["pixelcnn", "bits_per_dim"].kind == "mass"
    assert found["vae", "bits_per_dim"].kind == found["ddpm", "bits_per_dim"].kind == "bound"


def test_the_committed_result():
    keeps_its_promises(read_records(ROOT / "reports" / "reference" / "digits" / "records.jsonl"))


@pytest.mark.slow
def test_a_fresh_run(tmp_path):
    result = run(ROOT / "suites" / "digits.yaml", out=tmp_path)
    keeps_its_promises(list(result.records))
    assert set(result.leaderboard["model"]) >= set(MODELS)
