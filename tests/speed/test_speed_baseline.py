"""Baselines: what is kept, what is refused, and verdicts on times that are known."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from speed_fakes import FakeWorker, subject

from genbench.errors import GenbenchError, StoreError
from genbench.speed import baseline
from genbench.speed.baseline import Baseline, Timing
from genbench.speed.comparison import NOT_COMPARED, summary
from genbench.speed.judge import SLOWER, UNCLEAR

HERE = {"processor": "P", "cores": 2, "system": "Linux x86_64", "device": "cpu", "threads": 1, "torch": "2.15"}
QUIET = (1.0, 1.01, 0.99, 1.005, 0.995)


def timing(factor: float = 1.0, key: str = "k", batch: int = 64) -> Timing:
    return Timing(key, batch, tuple((round(factor * x, 4), round(factor * x + 0.001, 4)) for x in QUIET))


def kept(**timings: Timing) -> Baseline:
    return Baseline("s", HERE, timings)


def test_a_slowdown_beyond_the_noise_is_slower_and_one_within_it_cannot_be_told():
    compared = baseline.judge(kept(a=timing(), b=timing()), {"a": timing(1.1), "b": timing(1.005)}, {})
    assert [o.verdict for o in compared] == [SLOWER, UNCLEAR]
    assert compared[0].ratio.value == pytest.approx(1.1, rel=1e-3)
    assert compared[0].closes(0.05)
    assert not compared[0].closes(0.1)
    text = summary(compared, 0.05)
    assert "gate closed: slower by more than 5 %: a\n" not in text
    assert text.splitlines()[-1] == "gate closed: slower by more than 5 %: a"


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({}, "only in the baseline"),
        ({"a": timing(key="other")}, "not the same model"),
        ({"a": timing(batch=8)}, "batch 64 in the baseline, 8 now"),
    ],
)
def test_what_cannot_be_compared_says_why(now, reason):
    (comparison,) = baseline.judge(kept(a=timing()), now, {})
    assert comparison.verdict == NOT_COMPARED
    assert comparison.reason.startswith(reason)
    assert summary([comparison], 0.05).splitlines()[-1] == "nothing was compared"


def test_a_model_that_is_new_or_failed_is_named():
    compared = baseline.judge(kept(), {"new": timing()}, {"broken": "A: ModelError: x"})
    assert {o.label: o.reason for o in compared} == {"new": "not in the baseline", "broken": "A: ModelError: x"}


def test_the_file_holds_raw_timings_machine_and_noise(tmp_path):
    path = tmp_path / "deep" / "b.json"
    baseline.write(path, kept(a=timing()))
    assert baseline.read_baseline(path) == kept(a=timing())
    data = json.loads(path.read_text())
    assert data["machine"] == HERE
    assert data["models"]["a"]["noise"] == pytest.approx(0.0079, rel=0.01)


def test_what_is_no_baseline_is_refused_in_one_line(tmp_path):
    path = tmp_path / "b.json"
    with pytest.raises(StoreError, match=r"not found; `genbench speed SUITE --save"):
        baseline.read_baseline(path)
    for text, words in (
        ("[]", "found list, allowed: a JSON object"),
        ("{", "JSON"),
        ('{"schema": 1}', "not a baseline"),
    ):
        path.write_text(text)
        with pytest.raises(StoreError, match=words):
            baseline.read_baseline(path)
    path.write_text('{"schema": 9}')
    with pytest.raises(StoreError, match="schema: found 9, allowed: 1"):
        baseline.read_baseline(path)


@pytest.mark.parametrize("field", baseline.HARDWARE)
def test_another_machine_is_refused_with_what_to_do(tmp_path, field):
    with pytest.raises(GenbenchError, match=rf"{field}: 'other' in the baseline, .* here\); use `--base REV`"):
        baseline.refuse_other_machine(tmp_path / "b.json", {**HERE, field: "other"}, HERE)
    baseline.refuse_other_machine(tmp_path / "b.json", {**HERE, "torch": "other"}, HERE)


def test_every_process_times_every_model_and_a_broken_one_leaves_the_others(monkeypatch):
    class Broken(FakeWorker):
        breaks = ("b",)

    monkeypatch.setattr(baseline, "Worker", Broken)
    timings, failed = baseline.measure([subject(x) for x in "abc"], "cpu", 1, 16, lambda line: None, processes=3)
    assert failed == {"b": "ModelError: no such model"}
    assert list(timings) == ["a", "c"]
    assert [len(t.processes) for t in timings.values()] == [3, 3]
    assert len(timings["a"].processes[0]) == 100
    assert timings["a"].times[0] == pytest.approx(0.01, rel=0.05)
    assert Broken.opened == 4


def test_what_is_drawn_makes_the_key():
    one = subject()
    assert replace(one, label="other", folder="/elsewhere").key == one.key
    changed = [{"sampler": {"steps": 3}}, {"config": {"width": 1}}, {"precision": "bf16"}, {"weights": "w.safetensors"},
               {"spec": {**one.spec, "height": 16}}]  # fmt: skip
    assert len({replace(one, **change).key for change in changed} | {one.key}) == len(changed) + 1
