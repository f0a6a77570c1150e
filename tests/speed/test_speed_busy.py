"""`genbench speed` on a busy machine: times are marked, repeated where the patience allows it, and judge nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from speed_fakes import FakeMeter, FakeWorker, subject

from genbench.draw.cost import TimedBatch
from genbench.speed import baseline, commands, paired, profile
from genbench.speed.baseline import Baseline, Timing
from genbench.speed.comparison import summary
from genbench.speed.judge import LOOKS
from genbench.speed.profile import Profile

A, B = Path("/a"), Path("/b")


class Slower(FakeWorker):
    """Side B takes half as long again."""

    each = staticmethod(lambda tree: 0.015 if tree == B else 0.01)


def compared(monkeypatch, meter):
    monkeypatch.setattr(paired, "Worker", Slower)
    monkeypatch.setattr(paired, "meter_for", lambda *_: meter)
    (comparison,) = paired.compare([subject(folder=str(B))], (A, B), paired.Options("cpu", 1, 16, 0.02), print)
    return comparison


def test_a_round_beside_others_is_measured_again(monkeypatch):
    comparison = compared(monkeypatch, FakeMeter("x", "x", patience=2))
    assert (comparison.busy, comparison.verdict, comparison.ratio.n) == ("", "slower", LOOKS[0])


def test_a_comparison_on_a_busy_machine_refuses_the_gate_and_judges_nothing(monkeypatch):
    comparison = compared(monkeypatch, FakeMeter("others took 1.0 of 1 core"))
    assert comparison.verdict == comparison.plain()["verdict"] == "busy"
    assert not comparison.closes(0.02)
    text = summary([comparison], 0.02)
    assert "busy     others took 1.0 of 1 core" in text
    assert text.splitlines()[-1].startswith("gate refused: timed on a busy machine: vae; run it again")
    assert not commands._judged([comparison], 0.02).passed
    other = replace(comparison, label="b", busy="")
    assert summary([comparison, other], 0.02).splitlines()[-1] == "gate closed: slower by more than 2 %: b"


@pytest.mark.parametrize(("patience", "mark"), [(1, ""), (0, "x")])
def test_a_slice_of_a_baseline_beside_others_is_measured_again_or_marked(monkeypatch, patience, mark, tmp_path):
    monkeypatch.setattr(baseline, "Worker", FakeWorker)
    monkeypatch.setattr(baseline, "meter_for", lambda *_: FakeMeter("x", patience=patience))
    timings, _ = baseline.measure([subject("a"), subject("b")], "cpu", 1, 16, print, processes=2)
    assert {label: t.busy for label, t in timings.items()} == {"a": mark, "b": ""}
    baseline.write(tmp_path / "b.json", Baseline("s", {}, timings))
    assert {k: t.busy for k, t in baseline.read_baseline(tmp_path / "b.json").timings.items()} == {"a": mark, "b": ""}


def test_a_busy_baseline_judges_nothing():
    quiet = Timing("k", 64, ((1.0, 1.1), (1.01, 1.0), (0.99, 1.0)))
    slow = replace(quiet, processes=tuple((2 * a, 2 * b) for a, b in quiet.processes))
    (comparison,) = baseline.judge(Baseline("s", {}, {"a": replace(quiet, busy="x")}), {"a": slow}, {})
    assert (comparison.verdict, comparison.busy) == ("busy", "x (baseline)")
    assert not comparison.closes(0.05)


def test_the_best_batch_of_a_profile_is_a_quiet_one():
    sweep = (TimedBatch(1, (0.1,), None), TimedBatch(4, (0.1,), None), TimedBatch(16, (0.1,), None, "x"))
    one = Profile(0.0, None, sweep, "", 1.0, None, 0, 1.0, None, 0)
    assert (one.best.batch, one.busy) == (4, "")
    disturbed = replace(one, sweep=tuple(replace(timing, busy="others") for timing in sweep))
    assert (disturbed.best.batch, disturbed.busy) == (16, "others")
    assert commands._row("gan", disturbed)[-1] == "busy: others"
    assert commands._sweep(one) == "1: 10, 4: 40, 16: 160 busy ()"


def test_each_batch_of_a_sweep_is_watched(monkeypatch):
    monkeypatch.setattr(profile, "BATCHES", (1, 4, 16))
    sweep, _ = profile.batch_sweep(lambda n: None, torch.device("cpu"), 0.001, FakeMeter("", "x"))
    assert [timing.busy for timing in sweep] == ["", "x", ""]
