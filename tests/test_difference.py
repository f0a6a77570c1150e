"""Two results: differences with their intervals, verdicts, refusals in words, and the gate."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from genbench.cli import app
from genbench.errors import GenbenchError, StoreError
from genbench.protocol import protocol_hash
from genbench.records import Record, write_records
from genbench.report import difference
from genbench.report.difference import Tolerance
from genbench.report.difference_text import difference_lines
from genbench.report.grids import save_grid

PROTOCOL = {"data": {"n_fake": 2000}, "features": {"extractor": "digits-classifier"}}


def record(metric: str, value: float | None, half: float | None = None, **more) -> Record:
    protocol = more.pop("protocol", PROTOCOL)
    lo, hi = (None, None) if half is None or value is None else (value - half, value + half)
    cell = ("s", 1, "vae/digits/s0", "vae", "digits", 0, metric, 1)
    return Record(
        *cell,
        value=value,
        lo=lo,
        hi=hi,
        protocol=protocol,
        protocol_hash=protocol_hash(protocol),
        **more,
    )


@pytest.fixture
def results(tmp_path):
    def write(a: list[Record], b: list[Record]) -> tuple[Path, Path]:
        for name, records in (("a", a), ("b", b)):
            (tmp_path / name).mkdir(exist_ok=True)
            write_records(tmp_path / name / "records.jsonl", records)
        return tmp_path / "a", tmp_path / "b"

    return write


def only(results, a: Record, b: Record) -> difference.Difference:
    (found,) = difference.metric_differences(*results([a], [b]))
    return found


def test_the_interval_of_a_difference(results):
    found = only(results, record("fid", 2.0, 0.3), record("fid", 3.0, 0.4))
    assert (found.verdict, found.change) == ("worse", 1.0)
    assert (found.lo, found.hi) == (pytest.approx(0.5), pytest.approx(1.5))
    assert found.least == pytest.approx(0.5)


def test_uneven_intervals_count_on_the_side_that_faces_the_other(results):
    a, b = replace(record("fid", 2.0), lo=1.9, hi=2.3), replace(record("fid", 3.0), lo=2.6, hi=3.1)
    found = only(results, a, b)
    assert (found.lo, found.hi) == (pytest.approx(1 - 0.5), pytest.approx(1 + 0.02**0.5))


@pytest.mark.parametrize(
    ("metric", "better", "change", "verdict"),
    [
        ("fid", "lower", -1.0, "better"),
        ("fid", "lower", 0.4, "cannot tell"),
        ("precision", "higher", 1.0, "better"),
        ("precision", "higher", -1.0, "worse"),
    ],
)
def test_verdicts(results, metric, better, change, verdict):
    found = only(results, record(metric, 2.0, 0.3, better=better), record(metric, 2.0 + change, 0.4, better=better))
    assert found.verdict == verdict


def test_numbers_without_an_interval_are_exact(results):
    assert only(results, record("evaluations", 20.0), record("evaluations", 21.0)).verdict == "worse"
    assert only(results, record("evaluations", 20.0), record("evaluations", 20.0)).verdict == "same"


def test_other_protocols_are_not_compared_and_the_fields_are_named(results):
    found = only(
        results, record("fid", 2.0, 0.3), record("fid", 9.0, 0.3, protocol={**PROTOCOL, "data": {"n_fake": 500}})
    )
    assert (found.verdict, found.change) == ("not compared", None)
    assert found.reason == "data.n_fake is 2000 for A, 500 for B"


def test_kinds_of_likelihood_are_not_compared(results):
    found = only(results, record("bits_per_dim", 2.0, 0.1, kind="mass"), record("bits_per_dim", 1.0, 0.1, kind="bound"))
    assert (found.verdict, found.reason) == ("not compared", "kind of likelihood is mass for A, bound for B")


def test_what_is_missing(results):
    failed = record("fid", None, status="failed", reason="out of memory")
    found = difference.metric_differences(*results([record("fid", 2.0), record("kid", 1.0)], [failed]))
    assert [(d.verdict, d.reason) for d in found] == [
        ("missing", "no value in B: out of memory"), ("missing", "no value in B: not measured"),
    ]  # fmt: skip
    assert len(difference.closed(found, {})) == 2
    back = difference.metric_differences(*results([failed], [record("fid", 2.0)]))
    assert difference.closed(back, {}) == []


def test_a_model_that_is_gone(results):
    other = replace(record("fid", 2.0), model="gan", cell="gan/digits/s0")
    a, b = results([record("fid", 2.0), other], [record("fid", 2.0)])
    (gone,) = (d for d in difference.metric_differences(a, b) if d.verdict == "missing")
    assert (gone.model, gone.reason) == ("gan", f"only in {a}")
    assert difference.closed([gone], {}) == [gone]


@pytest.mark.parametrize(
    ("tolerance", "shut"),
    [(Tolerance(), True), (Tolerance(0.49), True), (Tolerance(0.51), False), (Tolerance(0.26, True), False)],
)
def test_the_gate_closes_when_the_whole_interval_is_beyond_the_tolerance(results, tolerance, shut):
    found = difference.metric_differences(*results([record("fid", 2.0, 0.3)], [record("fid", 3.0, 0.4)]))
    assert bool(difference.closed(found, {"fid": tolerance})) == shut


def test_a_fall_of_what_should_be_high_closes_the_gate(results):
    given = record("recall", 0.9, 0.01, better="higher"), record("recall", 0.8, 0.01, better="higher")
    found = difference.metric_differences(*results([given[0]], [given[1]]))
    assert difference.closed(found, {"recall": Tolerance(0.05)})
    assert not difference.closed(found, {"recall": Tolerance(0.10)})


def test_tolerances_are_numbers_or_shares():
    assert difference.tolerances(["fid=0.2", "kid=5%"]) == {"fid": Tolerance(0.2), "kid": Tolerance(0.05, True)}
    for text, message in (
        ("fidd=1", "unknown metric 'fidd'; did you mean 'fid'"),
        ("fid", "found 'fid', allowed: fid=NUMBER or fid=NUMBER%"),
        ("fid=-1", "at least 0"),
        ("fid=x%", "at least 0"),
    ):
        with pytest.raises(GenbenchError, match=message):
            difference.tolerances([text])


def speed(value: float) -> Record:
    return record("images_per_second", value, 1.0, better="higher")


@pytest.mark.parametrize(
    ("fid", "rate", "start"),
    [
        (3.0, 200.0, "The gain in speed does not count: quality fell (vae (fid))."),
        (1.0, 50.0, "The gain in quality does not count by itself: speed fell (vae (images_per_second))."),
        (3.0, 50.0, "B is worse: vae (fid) and vae (images_per_second)."),
        (2.0, 200.0, "B is better, and nothing is detectably worse: vae (images_per_second)."),
        (2.05, 100.0, "No difference is detected"),
        (2.0, 100.0, "A and B are the same"),
    ],
)
def test_speed_and_quality_are_judged_together(results, fid, rate, start):
    a, b = [record("fid", 2.0, 0.1), speed(100.0)], [record("fid", fid, 0.1), speed(rate)]
    assert difference.sentence(difference.metric_differences(*results(a, b))).startswith(start)


def test_the_command(results):
    a, b = map(str, results([record("fid", 2.0, 0.3)], [record("fid", 3.0, 0.4)]))
    shown = CliRunner().invoke(app, ["diff", a, b])
    assert shown.exit_code == 0
    verdict, *lines = shown.output.splitlines()
    assert verdict == "B is worse: vae (fid)."
    assert [line.split() for line in lines][1:] == [["vae"], ["fid", "2", "3", "+0.5", "to", "+1.5", "worse"]]
    assert lines[0].split()[:3] == ["metric", "A", "B"]
    assert CliRunner().invoke(app, ["diff", a, b, "--gate"]).exit_code == 1
    assert CliRunner().invoke(app, ["diff", a, b, "--gate", "--tolerance", "fid=0.6"]).exit_code == 0
    plain = CliRunner().invoke(app, ["diff", a, b, "--json"])
    assert json.loads(plain.stdout)[0]["change"] == 1.0


def test_only_changes_are_shown_in_80_columns_unless_all_is_asked_for(results):
    long = "a_metric_with_a_name_that_is_far_too_long"
    a = [record("fid", 2.0, 0.3), record("kid", 1.0, 0.5), record("is", 9.0, 0.1), record(long, 123456.789, 1000.0)]
    b = [record("fid", 3.0, 0.4), record("kid", 1.1, 0.5), record("is", 9.0, 0.1), record(long, -98765.4321, 1000.0)]
    other = {"data": {"n_fake": 500}, "features": {"extractor": "an extractor with a long name of many words " * 3}}
    a, b = map(str, results([*a, record("recall", 0.5)], [*b, record("recall", 0.5, protocol=other)]))
    few, everything = (CliRunner().invoke(app, ["diff", a, b, *more]).output for more in ((), ("--all",)))
    assert max(map(len, everything.splitlines())) <= 80
    assert "not shown: 1 the same, 1 not detectably different; --all shows them" in few
    assert "kid" not in few
    assert "a difference would be detectable from 0.707" in everything
    assert "not shown" not in everything


def test_what_was_not_compared_has_each_reason_once(results, tmp_path, monkeypatch):
    """Models with the same metrics share a line; one with other metrics has its own; so has a missing model."""

    def rows(label, *names, version=1):
        return [
            replace(record(name, 1.0), cell=f"{label}/digits/s0", model=label, suite_version=version) for name in names
        ]

    protocol = PROTOCOL | {"features": {"extractor": "pixels"}}
    other = {"protocol": protocol, "protocol_hash": protocol_hash(protocol)}
    results(
        [*rows("a", "fid", "kid"), *rows("b", "fid", "kid"), *rows("c", "fid", "kid", "is"), *rows("d", "fid")],
        [*rows("a", "fid", "kid", version=2), *rows("b", "fid", "kid", version=2),
         *(replace(r, **other) for r in rows("c", "fid", "kid")), *rows("c", "is")],
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    text = [line.text for line in difference_lines(difference.metric_differences(Path("a"), Path("b")))]
    assert text == [
        "missing: only in a", "  d",
        "not compared: suite version is 1 for A, 2 for B", "  a, b: every metric",
        "not compared: features.extractor is digits-classifier for A, pixels for B", "  c: fid, kid",
        "not shown: 1 the same; --all shows them",
    ]  # fmt: skip


def test_the_page_of_a_comparison_has_the_verdict_and_both_grids(results, tmp_path):
    a, b = results([record("fid", 2.0, 0.3), record("<b>", 1.0)], [record("fid", 3.0, 0.4), record("<b>", 1.0)])
    for path, level in ((a, 3), (b, 9)):
        save_grid(np.full((4, 1, 8, 8), level, dtype=np.uint8), 17, path / "figures" / "samples-vae-s0.png")
    shown = CliRunner().invoke(app, ["diff", str(a), str(b), "--html", str(tmp_path / "page.html")])
    assert shown.exit_code == 0
    html = (tmp_path / "page.html").read_text()
    assert "B is worse: vae (fid)." in html
    assert html.count("data:image/png") == 2 * 2  # in the overview and in the model's section
    assert "&lt;b&gt;" in html
    assert '<a href="#row-1">vae</a>' in html
    assert "http" not in html.replace("http-equiv", "")


def test_a_result_with_two_runs_of_a_cell_is_refused(results):
    a, b = results([record("fid", 2.0)], [record("fid", 3.0), record("fid", 3.5)])
    with pytest.raises(StoreError, match=r"b/records\.jsonl:2: .* fid: found a record of run"):
        difference.metric_differences(a, b)


def test_a_result_with_itself_is_no_different():
    place = Path(__file__).parent.parent / "reports" / "reference" / "digits"
    found = difference.metric_differences(place, place)
    assert {d.verdict for d in found} <= {"same", "no value"}
    assert difference.sentence(found) == "A and B are the same."
    assert difference.closed(found, {}) == []
