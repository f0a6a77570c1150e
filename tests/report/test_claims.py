"""Published figures: each verdict against records made by hand, on the page and in the Markdown."""

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from genbench.errors import StoreError, SuiteError
from genbench.records import write_records
from genbench.report import render
from genbench.report.aggregate import boards, over_seeds
from genbench.report.claims import Claim, Verdict, judge_claim, read_claims, unlike, verdicts
from genbench.report.markdown import markdown
from genbench.report.tables import claim_cells
from genbench.runner.run import run
from genbench.suite.schema import ClaimEntry, Suite

TOYS = Path(__file__).parent.parent / "toys.py"

FULL = {
    "data": {"reference": "train", "n_fake": 50_000, "n_real": 50_000},
    "features": {"extractor": "inception-v3-compat"},
}
SAMPLER = {"model": {"sampler": {"steps": 50, "eta": 0.0}, "images_seen": 102_400_000}}


@pytest.fixture
def measured(record):
    """What judge_claim says of a claim, given one measured FID of 3.3 +- 0.1 with this protocol."""

    def verdict(value=3.17, tolerance=0.0, protocol=FULL, **claim) -> Verdict:
        found = over_seeds([record("ddpm", "fid", 3.3, half=0.1, protocol={**FULL, **SAMPLER})])
        return judge_claim(
            Claim("ddpm", "fid", value, "A paper, table 1", tolerance, protocol=protocol, **claim), found
        )

    return verdict


@pytest.mark.parametrize(
    ("value", "tolerance", "text"),
    [
        (3.3, 0.0, "reproduced"),
        (3.2, 0.0, "reproduced"),  # the interval's lower end
        (3.17, 0.0, "not reproduced: worse by 0.13"),
        (3.17, 0.05, "reproduced"),
        (3.5, 0.05, "not reproduced: better by 0.2"),  # a lower FID than published is no reproduction either
        (3.5, 0.1, "reproduced"),
    ],
)
def test_a_figure_is_reproduced_within_the_interval_and_the_tolerance(measured, value, tolerance, text):
    assert measured(value, tolerance).text == text


def test_better_is_up_for_a_metric_of_which_more_is_better(record):
    entry = over_seeds([record("ddpm", "is", 9.2, half=0.1, protocol=FULL)])
    assert judge_claim(Claim("ddpm", "is", 9.46, "p"), entry).text == "not reproduced: worse by 0.26"
    assert judge_claim(Claim("ddpm", "is", 9.46, "p", tolerance=0.2), entry).text == "reproduced"


@pytest.mark.parametrize(
    ("branch", "field", "wanted", "why"),
    [
        ("data", "n_fake", 10_000, "data n_fake is 50000, published with 10000"),
        (
            "features",
            "extractor",
            "dinov2-vit-b-14",
            "features extractor is inception-v3-compat, published with dinov2-vit-b-14",
        ),
        ("model", "images_seen", 5, "model images_seen is 102400000, published with 5"),
        ("data", "split", "test", "data split is not stated, published with test"),
        ("model", "sampler", {"steps": 10}, "model sampler steps is 50, published with 10"),
        ("data", "fingerprint", "ab" * 32, f"data fingerprint is not stated, published with {'ab' * 6}"),
    ],
)
def test_another_protocol_is_not_comparable_and_the_reason_names_the_field(measured, branch, field, wanted, why):
    found = measured(3.3, protocol={**FULL, branch: {**FULL.get(branch, {}), field: wanted}})
    assert (found.word, found.why) == ("not comparable", why)


def test_of_a_nested_field_only_what_is_claimed_must_agree():
    assert list(unlike({"sampler": {"steps": 50}}, SAMPLER["model"])) == []
    assert list(unlike({"sampler": {"steps": 50, "eta": 1.0}}, SAMPLER["model"])) == [
        "sampler eta is 0.0, published with 1.0"
    ]


def test_every_reason_is_given(measured):
    found = measured(
        3.3, protocol={"data": {"n_fake": 10, "reference": "test"}}, differs="the best of many checkpoints"
    )
    assert found.why == (
        "the best of many checkpoints; data n_fake is 50000, published with 10; "
        "data reference is train, published with test"
    )


def test_a_bound_is_no_value(record):
    bound = over_seeds([record("ddpm", "bits_per_dim", 3.7, half=0.1, protocol={}, kind="bound")])
    assert judge_claim(Claim("ddpm", "bits_per_dim", 3.75, "p", kind="bound"), bound).word == "reproduced"
    assert judge_claim(Claim("ddpm", "bits_per_dim", 3.75, "p", kind="mass"), bound).text == (
        "not comparable: published is: mass, measured: bound"
    )


def test_a_published_flow_is_compared_with_a_measured_one(record):
    flow = over_seeds([record("glow", "bits_per_dim", 3.36, half=0.02, protocol={}, kind="density")])
    claim = Claim("glow", "bits_per_dim", 3.35, "p", kind="density")
    assert judge_claim(claim, flow).word == "reproduced"
    assert claim_cells(Verdict(claim, flow, "reproduced"))[2:4] == ("≤ᵈ 3.35", "≤ᵈ 3.360 ± 0.020")


def test_what_was_not_measured_has_no_verdict(record):
    absent = over_seeds([record("gan", "fid", status="failed", reason="loss is NaN")])
    assert judge_claim(Claim("gan", "fid", 3.17, "p"), absent).text == "not measured: loss is NaN"
    assert judge_claim(Claim("gan", "fid", 3.17, "p"), None).text == "not measured"


def test_the_mean_over_seeds_is_judged_and_a_missing_seed_is_a_reason(record):
    values = [record("ddpm", "fid", v, seed=s, protocol=FULL) for s, v in enumerate((3.1, 3.2, 3.3))]
    assert judge_claim(Claim("ddpm", "fid", 3.17, "p"), over_seeds(values)).word == "reproduced"
    failed = record("ddpm", "fid", seed=3, status="failed", reason="out of memory")
    found = judge_claim(Claim("ddpm", "fid", 3.17, "p"), over_seeds([*values, failed]))
    assert found.text == "not comparable: not all seeds have a value: seed 3 failed: out of memory"


SUITE = """\
suite: s
dataset: {name: digits}
models:
  - name: ddpm
    claims:
      - metric: fid
        value: 3.17
        tolerance: 0.2
        source: "Ho et al. 2020, Table 1"
        protocol: {data: {n_fake: 50_000}}
      - {metric: bits_per_dim, value: 3.75, kind: bound, source: "<b>Ho</b> et al. 2020"}
  - {name: ddim, label: "ddim 10", weights_of: ddpm}
metrics: [fid, bits_per_dim]
"""


@pytest.fixture
def result(record, tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE)
    records = [
        record("ddpm", "fid", 400.0, half=1.0, protocol={"data": {"n_fake": 10}}, n_fake=10),
        record("ddpm", "bits_per_dim", 3.8, half=0.1, protocol={}, kind="bound"),
        record("noise", "fid", 421.0, role="scale"),
    ]
    write_records(tmp_path / "records.jsonl", records)
    return tmp_path


def test_the_page_and_the_markdown_show_claim_measurement_verdict_and_source(result):
    render(result)
    text = (result / "leaderboard.md").read_text()
    assert "### Published figures" in text
    assert (
        "| ddpm | FID | 3.17 (tolerance 0.2) | 400.0 ± 1.0 | "
        "not comparable: data n\\_fake is 10, published with 50000 | Ho et al. 2020, Table 1 |"
    ) in text
    assert "| ddpm | Bits/dim | ≤ 3.75 | ≤ 3.80 ± 0.10 | reproduced | \\<b\\>Ho\\</b\\> et al. 2020 |" in text
    html = (result / "leaderboard.html").read_text()
    assert '<span class="verdict good">reproduced</span>' in html
    assert "n_fake is 10, published with 50000" in html
    assert "<b>Ho</b>" not in html


def test_without_claims_there_is_no_section(result):
    (result / "suite.yaml").write_text("suite: s\nmodels: [{name: ddpm}]\n")
    render(result)
    assert "Published figures" not in (result / "leaderboard.md").read_text()
    assert "<h2>Published figures" not in (result / "leaderboard.html").read_text()
    (result / "suite.yaml").unlink()
    assert read_claims(result / "suite.yaml") == []


@pytest.mark.parametrize("text", ["- 1", "models: [3]", "models: [{name: a, claims: [{metrik: fid}]}]", "a: ["])
def test_what_is_no_suite_is_one_line(result, text):
    (result / "suite.yaml").write_text(text)
    with pytest.raises(StoreError, match=r"suite\.yaml: cannot be read as a suite: .+"):
        read_claims(result / "suite.yaml")


def test_claims_follow_the_label_and_rows_that_the_board_has(result, record):
    claims = read_claims(result / "suite.yaml")
    board = boards([record("ddpm", "fid", 3.0, half=1.0, protocol={"data": {"n_fake": 50_000}})])[0]
    assert [v.text for v in verdicts(board, claims)] == ["reproduced", "not measured"]
    assert claim_cells(verdicts(board, claims)[1])[3] == "—"
    assert "Published" not in markdown([boards([record("vae", "fid", 3.0)])[0]], claims)


def test_a_claim_reads_as_the_suite_has_it():
    assert [f.name for f in fields(Claim) if f.name != "model"] == [
        "metric", "value", "source", "tolerance", "kind", "protocol", "differs",
    ]  # fmt: skip
    assert {f.name for f in fields(Claim)} == {"model", *ClaimEntry.model_fields}


def test_a_claim_about_what_is_not_measured_is_refused():
    claim = {"metric": "kid", "value": 1.0, "source": "p"}
    entry = {"suite": "s", "dataset": {"name": "digits"}, "metrics": ["fid"]}
    with pytest.raises(SuiteError, match=r"models\[0\]\.claims\[0\]\.metric: the suite does not measure kid, only fid"):
        Suite.model_validate({**entry, "models": [{"name": "vae", "claims": [claim]}]})
    bits = {**entry, "metrics": ["fid", "bits_per_dim"]}
    for metric, kind, problem in (
        ("bits_per_dim", "", "missing, allowed for bits_per_dim: mass, density, bound, estimate"),
        ("fid", "bound", "found 'bound', allowed for fid: no kind"),
    ):
        kinds = {"metric": metric, "value": 1.0, "source": "p", "kind": kind}
        with pytest.raises(SuiteError, match=rf"models\[0\]\.claims\[0\]\.kind: {problem}"):
            Suite.model_validate({**bits, "models": [{"name": "vae", "claims": [kinds]}]})
    with pytest.raises(SuiteError, match=r"claims\[0\]\.source: missing key"):
        Suite.model_validate({**entry, "models": [{"name": "vae", "claims": [{"metric": "fid", "value": 1.0}]}]})


def test_claims_added_to_a_finished_run_are_on_its_page_after_the_next_one(tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", images=rng.integers(256, size=(80, 4, 4), dtype=np.uint8))
    model = {"name": "toy", "source": f"{TOYS}:Diagonal"}
    data = {"name": "npz", "path": str(tmp_path / "data.npz")}
    suite = {"suite": "s", "dataset": data, "features": "pixels", "samples": 20, "metrics": ["fid"], "models": [model]}
    first = run(Suite.model_validate(suite), out=tmp_path / "out", device="cpu")
    assert first.measured
    claim = {"metric": "fid", "value": 1e9, "source": "nobody", "protocol": {"data": {"n_fake": 20}}}
    again = run(Suite.model_validate({**suite, "models": [{**model, "claims": [claim]}]}), out=tmp_path / "out")
    assert not again.measured
    assert "not reproduced: better by 1e+09" in (tmp_path / "out" / "leaderboard.md").read_text()
