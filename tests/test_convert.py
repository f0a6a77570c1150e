"""Results of schema 1 are rewritten without a change of value, and fields go to the branch they belong to."""

from __future__ import annotations

import json

import pytest

from genbench.commands.convert import branches, convert_result
from genbench.errors import StoreError
from genbench.records import read_records


def old(metric, value=1.0, **more):
    record = {
        "suite": "s", "suite_version": 1, "cell": "m/d/s0", "model": "m", "dataset": "d", "seed": 0, "metric": metric,
        "metric_version": 1, "status": "ok", "value": value, "reason": "", "kind": "=", "protocol": {},
        "protocol_hash": "x", "warnings": [], "schema": 1,
    }  # fmt: skip
    return record | more


def write(folder, *records):
    (folder / "records.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))


def test_values_stay_and_kinds_are_corrected(tmp_path):
    write(
        tmp_path, old("fid", 3.5), old("bits_per_dim", 2.0), old("bits_per_dim", 4.0, model="uniform noise"),
        old("bits_per_dim", 3.0, seed=1, kind="<="), old("bits_per_dim_ode", 2.5, kind="~"),
        old("kid", None, status="n/a", reason="why"),
    )  # fmt: skip
    convert_result(tmp_path)
    records = read_records(tmp_path / "records.jsonl")
    assert [r.value for r in records] == [3.5, 2.0, 4.0, 3.0, 2.5, None]
    assert [r.kind for r in records] == ["", "density", "mass", "bound", "estimate", ""]
    assert "already" in convert_result(tmp_path)


def test_a_field_belongs_to_the_metric_that_declares_it_and_to_the_model_otherwise():
    flat = {"steps": 16, "sampler": {"steps": 50}, "config": {}, "dataset": "d", "n_real": 9, "precision": "fp32"}
    tree = branches("bits_per_dim_ode", flat)
    assert tree["metric"] == {"steps": 16}
    assert tree["model"] == {"sampler": {"steps": 50}, "config": {}, "precision": "fp32"}
    assert tree["data"] == {"name": "d", "n_real": 9}
    assert branches("cas", {"steps": 500, "batch": 64})["metric"] == {"steps": 500, "batch": 64}
    timed = {"batch": 64, "threads": 2}
    assert branches("latency", timed)["machine"] == {"threads": 2}  # one image at a time, whatever the batch
    assert branches("images_per_second", timed)["machine"] == timed
    assert branches("parameters", timed)["machine"] == {}


def test_claims_are_converted_too(tmp_path):
    write(tmp_path, old("bits_per_dim"))
    claims = [
        {"metric": "bits_per_dim", "value": 3.35, "source": "p", "protocol": {"dims": 4}},
        {"metric": "fid", "value": 3.0, "source": "p", "protocol": {"n_fake": 10, "extractor": "e"}},
    ]
    (tmp_path / "suite.yaml").write_text(json.dumps({"suite": "s", "models": [{"name": "m", "claims": claims}]}))
    convert_result(tmp_path)
    text = (tmp_path / "suite.yaml").read_text()
    assert "kind: density" in text
    assert "n_fake: 10" in text.split("data:")[-1]


def test_what_is_no_result_is_refused(tmp_path):
    with pytest.raises(StoreError, match="not found"):
        convert_result(tmp_path)
    (tmp_path / "records.jsonl").write_text('{"schema": 1}\n')
    with pytest.raises(StoreError, match="not records of schema 1"):
        convert_result(tmp_path)
