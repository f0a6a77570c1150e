"""Records: null with a reason, a torn last line, and which protocol differences forbid a comparison."""

from __future__ import annotations

import pytest

from genbench.errors import StoreError
from genbench.protocol import protocol_hash
from genbench.records import FAILED, Record, read_records, unique_records, write_records
from genbench.registry import METRICS
from genbench.report.guard import comparable, differences


def record(**more) -> Record:
    facts = {"suite": "s", "suite_version": 1, "cell": "m/d/s0", "model": "m", "dataset": "d", "seed": 0}
    return Record(**{**facts, "metric": "fid", "metric_version": 1, "value": 1.5, **more})


def test_round_trip_and_order(tmp_path):
    path = tmp_path / "records.jsonl"
    failed = record(metric="kid", status=FAILED, value=None, reason="why")
    write_records(path, [record(), record(metric="is"), failed])
    assert [r.metric for r in read_records(path)] == ["fid", "is", "kid"]
    assert read_records(path)[0] == record()


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    path = tmp_path / "records.jsonl"
    write_records(path, [record()])
    with path.open("a") as file:
        file.write('{"schema": 2, "sui')
    assert read_records(path) == [record()]


def test_two_runs_of_one_cell_and_metric_are_refused(tmp_path):
    path = tmp_path / "records.jsonl"
    old = [record(run="aaa", time="2026-01-01T00:00:00+00:00"), record(metric="is", value=9.0, run="aaa")]
    write_records(path, [*old, record(value=1.6, run="bbb", time="2026-01-02T00:00:00+00:00")])
    with pytest.raises(StoreError) as caught:
        read_records(path)
    assert str(caught.value) == (
        f"{path}:3: m/d/s0 fid: found a record of run bbb (2026-01-02T00:00:00+00:00) that differs from that of run "
        f"aaa (2026-01-01T00:00:00+00:00) at {path}:1; allowed: the records of one run for each cell"
    )


@pytest.mark.parametrize("change", [{"lo": 1.0}, {"protocol_hash": "ab"}, {"key": "k"}, {"suite": "t"}])
def test_records_that_differ_in_anything_but_provenance_are_two(change):
    with pytest.raises(StoreError, match=r"^record 2: m/d/s0 fid: .* run without an id \(time unknown\) at record 1;"):
        unique_records([record(), record(**change)])


def test_records_that_differ_in_provenance_alone_are_one(tmp_path):
    path = tmp_path / "records.jsonl"
    again = record(run="b", time="t", genbench="9", revision="c", dirty=True, seconds=7.0)
    write_records(path, [record(run="a"), again])
    assert read_records(path) == [record(run="a")]


def test_a_broken_line_in_the_middle_is_an_error(tmp_path):
    path = tmp_path / "records.jsonl"
    write_records(path, [record()])
    path.write_text("nonsense\n" + path.read_text())
    with pytest.raises(StoreError, match=r"records.jsonl:1: not a record"):
        read_records(path)


def test_another_schema_and_a_missing_file_are_refused(tmp_path):
    path = tmp_path / "records.jsonl"
    with pytest.raises(StoreError, match="not found"):
        read_records(path)
    write_records(path, [record(schema=99), record()])
    with pytest.raises(StoreError, match="schema: found 99, allowed: 2"):
        read_records(path)


@pytest.mark.parametrize(
    "wrong", [{"value": None}, {"value": float("nan")}, {"status": FAILED}, {"status": FAILED, "value": None}]
)
def test_a_value_is_finite_or_null_with_a_reason(wrong):
    with pytest.raises(ValueError, match="needs a"):
        record(**wrong)


def test_models_may_differ_in_how_they_sample_but_not_in_how_they_are_measured():
    base = {"data": {"n_fake": 2000}, "features": {"extractor": "a"}, "model": {"sampler": {"steps": 50}, "ema": 0.99}}
    assert protocol_hash(base) == protocol_hash({**base, "model": {"sampler": {"steps": 10}, "ema": 0.0}})
    assert protocol_hash(base) != protocol_hash({**base, "features": {"extractor": "b"}})
    assert protocol_hash(base) != protocol_hash({**base, "data": {"n_fake": 500}})
    assert protocol_hash(base) != protocol_hash({**base, "machine": {"threads": 2}})


@pytest.mark.parametrize("name", ["bits_per_dim_ode", "cas"])
def test_a_metrics_own_steps_decide_comparability_though_a_sampler_has_steps_too(name):
    constants = METRICS[name].protocol
    trees = [
        {"metric": {**constants, "steps": steps}, "model": {"sampler": {"steps": sampler}}}
        for steps, sampler in ((constants["steps"], 10), (constants["steps"], 20), (2 * constants["steps"], 10))
    ]
    same, other_sampler, other_steps = (record(protocol=t, protocol_hash=protocol_hash(t)) for t in trees)
    assert comparable(same) == comparable(other_sampler)
    assert comparable(same) != comparable(other_steps)
    (phrase,) = differences([("a", same), ("b", other_steps)])
    assert phrase == f"metric.steps is {constants['steps']} for a, {2 * constants['steps']} for b"


def test_a_folder_of_schema_1_names_the_command_that_converts_it(tmp_path):
    path = tmp_path / "records.jsonl"
    write_records(path, [record(schema=1), record()])
    with pytest.raises(StoreError, match=f"genbench convert {tmp_path}"):
        read_records(path)


def test_rewriting_the_same_records_leaves_the_file_alone(tmp_path):
    path = tmp_path / "records.jsonl"
    write_records(path, [record()])
    before = path.stat().st_mtime_ns
    write_records(path, [record()])
    assert path.stat().st_mtime_ns == before
