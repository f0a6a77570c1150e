"""A value that was timed on a busy machine is shown with its mark, and neither ranked nor compared."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from genbench.records import write_records
from genbench.report import difference, leaderboard, render
from genbench.report.aggregate import boards, over_seeds
from genbench.report.claims import NOT_COMPARABLE, Claim, judge_claim
from genbench.report.latex import latex
from genbench.report.markdown import markdown
from genbench.report.plot import quality_cost

WHY = "other processes took 1.0 of 2 cores"
SPEED = "images_per_second"


@pytest.fixture
def records(digits):
    """The fastest model's speed was measured beside another process."""
    return [replace(r, busy=WHY) if (r.model, r.metric) == ("gan", SPEED) else r for r in digits]


def test_it_has_no_rank_and_the_others_rank_without_it(records):
    column = next(c for c in boards(records)[0].columns if c.metric == SPEED)
    assert column.ranks == {"vae": 1, "flow": 2}
    assert f"gan: timed on a busy machine (seed 0 {WHY}), so it is not ranked." in column.notes


def test_one_busy_seed_marks_the_mean(record):
    seeds = [record("gan", SPEED, 10.0, seed=s, busy=WHY if s == 1 else "") for s in range(3)]
    assert over_seeds(seeds).busy == f"seed 1 {WHY}"
    assert "busy machine" in over_seeds(seeds).why_no_rank
    assert not over_seeds(seeds[:1]).why_no_rank


def test_the_mark_is_in_every_file(records, tmp_path):
    frame = leaderboard(records).set_index("model")
    assert frame.loc["gan", "busy"] == SPEED
    assert frame["busy"].isna().sum() == len(frame) - 1
    assert pd.isna(frame.loc["gan", f"{SPEED}_rank"])
    assert any("52,000 ± 900 busy |" in line for line in markdown(boards(records)).splitlines())
    assert r"52{,}000 \pm 900$ busy" in latex(boards(records))
    write_records(tmp_path / "records.jsonl", records)
    render(tmp_path)
    assert '<span class="mark-word">busy</span>' in (tmp_path / "leaderboard.html").read_text()
    assert (tmp_path / "leaderboard.csv").read_text().count(f",{SPEED}\n") == 1


def test_it_is_on_no_pareto_front(records, digits):
    fronts = []
    for found in (digits, records):
        plot = quality_cost(boards(found)[0], None)
        fronts.append({mark.model for mark in plot.marks if mark.on_front})
    assert fronts == [{"gan"}, {"flow", "vae"}]


def test_nothing_is_concluded_from_it(record, tmp_path):
    quiet, busy = record("gan", SPEED, 100.0), record("gan", SPEED, 50.0, busy=WHY)
    verdict = judge_claim(Claim("gan", SPEED, 50.0, "a paper"), over_seeds([busy]))
    assert (verdict.word, verdict.why) == (NOT_COMPARABLE, f"timed on a busy machine: seed 0 {WHY}")
    for name, one in {"a": quiet, "b": busy}.items():
        (tmp_path / name).mkdir()
        write_records(tmp_path / name / "records.jsonl", [one])
    (found,) = difference.metric_differences(tmp_path / "a", tmp_path / "b")
    assert (found.verdict, found.reason) == ("not compared", f"B was timed on a busy machine: seed 0 {WHY}")
    assert not difference.closed([found], {})
