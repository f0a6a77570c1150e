import math

import pandas as pd
import pytest

from genbench.errors import StoreError
from genbench.records import write_records
from genbench.report import leaderboard, render
from genbench.report.aggregate import boards, t_half_width
from genbench.report.tables import notes, without_value

FEATURES = {"data": {"n_fake": 2000}, "features": {"extractor": "digits-classifier"}}


def column(records, metric):
    return next(c for c in boards(records)[0].columns if c.metric == metric)


def entry(records, model, metric):
    return next(r.entries[metric] for r in boards(records)[0].rows if r.model == model)


@pytest.mark.parametrize(
    ("values", "half"),
    [([0.0, 1.0], 12.706205 / 2), ([1.0, 2.0, 3.0], 4.302653 / math.sqrt(3)), ([5.0, 5.0, 5.0, 5.0], 0.0)],
)
def test_t_interval_agrees_with_the_printed_quantiles(values, half):
    assert t_half_width(values) == pytest.approx(half, rel=1e-6)


def test_seeds_give_a_mean_with_a_t_interval_and_one_seed_keeps_its_own(record):
    several = entry([record("a", "fid", v, seed=s, half=9.0) for s, v in enumerate([1.0, 2.0, 3.0])], "a", "fid")
    assert (several.value, several.interval, several.seeds) == (2.0, "t 95 % over 3 seeds", (0, 1, 2))
    assert several.hi == pytest.approx(2 + 2.484138)
    single = entry([record("a", "fid", 2.0, half=0.5)], "a", "fid")
    assert (single.lo, single.hi, single.interval) == (1.5, 2.5, "bootstrap 95 %")


def test_models_that_chance_may_part_share_the_best_mark(digits):
    assert column(digits, "fid").best == {"gan", "flow"}
    assert column(digits, "images_per_second").best == {"gan"}


def test_higher_is_better_looks_from_the_other_side(record):
    values = [("a", 0.9), ("b", 0.86), ("c", 0.7)]
    assert column([record(m, "precision", v, half=0.03) for m, v in values], "precision").best == {"a", "b"}


def test_scale_rows_are_never_ranked_and_come_last(digits):
    board = boards([*digits[-2:], *digits[:-2]])[0]
    assert [r.model for r in board.scale] == ["real", "noise"]
    assert "real" not in column(digits, "fid").best


def test_different_protocols_are_not_ranked_and_the_sentence_names_the_field(record):
    features = {"extractor": "digits-classifier", "extractor_weights": "ab" * 32, "resize": "none"}
    other = {"data": {"n_fake": 500}, "features": features}
    found = column([record("a", "fid", 1.0), record("b", "fid", 2.0), record("c", "fid", 3.0, protocol=other)], "fid")
    assert not found.best
    assert "data.n_fake is 2000 for a and b, 500 for c." in found.unranked
    assert "resize" not in found.unranked


def test_fields_on_the_models_side_do_not_hinder_ranking(record):
    own = {"features": {"extractor": "e"}, "model": {"sampler": {"steps": 50}}}
    records = [
        record("a", "fid", 1.0, protocol=own),
        record("b", "fid", 2.0, protocol=own | {"model": {"sampler": {"steps": 10}}}),
    ]
    assert column(records, "fid").best == {"a"}


def test_another_metric_version_is_another_protocol(record):
    found = column([record("a", "fid", 1.0), record("b", "fid", 2.0, version=2)], "fid")
    assert "metric version is 1 for a, 2 for b" in found.unranked


def test_seeds_under_different_protocols_have_no_mean(record):
    records = [record("a", "fid", 1.0), record("a", "fid", 2.0, seed=1, protocol={"features": {"extractor": "other"}})]
    found = entry(records, "a", "fid")
    assert found.value is None
    assert "extractor is digits-classifier for seed 0, other for seed 1" in found.reason


def test_a_scale_row_under_another_protocol_is_named(record):
    scale = record("real", "fid", 0.1, protocol={"features": {"extractor": "digits-classifier"}}, role="scale")
    found = column([record("a", "fid", 1.0), record("b", "fid", 2.0), scale], "fid")
    assert found.best == {"a"}
    assert "n_fake is 2000 for the models, not stated for real" in found.notes[0]


def test_a_failed_seed_is_told_and_costs_the_mark(record):
    failed = record("a", "fid", seed=1, status="failed", reason="loss is NaN")
    records = [record("a", "fid", 1.0), failed, record("b", "fid", 5.0), record("c", "fid", 9.0)]
    assert entry(records, "a", "fid").missing == "seed 1 failed: loss is NaN"
    assert column(records, "fid").best == {"b"}
    assert [line[1:] for line in without_value(boards(records)[0])] == [
        ("incomplete", "seed 1 failed: loss is NaN", ["fid"])
    ]


def test_failed_and_not_applicable_keep_their_reasons(digits, record):
    assert entry(digits, "gan", "bits_per_dim").reason == "gan has no likelihood"
    assert without_value(boards(digits)[0])[0][1] == "failed"
    mixed = [record("a", "fid", seed=s, status="failed", reason=why) for s, why in enumerate(["NaN", "memory", "NaN"])]
    assert entry(mixed, "a", "fid").reason == "seeds 0, 2 failed: NaN; seed 1 failed: memory"


def test_a_single_model_gets_no_mark(record):
    assert not column([record("a", "fid", 1.0), record("real", "fid", 0.1, role="scale")], "fid").best


def test_estimates_do_not_rank_with_exact_values(record):
    records = [record("a", "bits_per_dim", 2.0, kind="estimate"), record("b", "bits_per_dim", 3.0, kind="mass")]
    assert "estimate" in column(records, "bits_per_dim").unranked


def test_leaderboard_has_a_row_a_model_and_the_declared_columns(digits):
    frame = leaderboard(digits)
    assert list(frame.columns[:9]) == [
        "model", "dataset", "role", "family", "seeds", "fid", "fid_lo", "fid_hi", "fid_kind",
    ]  # fmt: skip
    assert len(frame) == 6
    gan = frame.set_index("model").loc["gan"]
    assert (gan["fid"], gan["fid_lo"], gan["fid_hi"], gan["seeds"]) == (31.0, 30.0, 32.0, 1)
    assert pd.isna(gan["fid_kind"])
    assert pd.isna(gan["bits_per_dim"])
    assert frame.set_index("model").loc[["flow", "vae"], "bits_per_dim_kind"].tolist() == ["density", "bound"]


def test_two_runs_of_one_measurement_are_refused(record):
    with pytest.raises(
        StoreError, match=r"^record 3: a-digits-s0 fid: found a record of run y .* run x .* at record 1"
    ):
        leaderboard([record("a", "fid", 1.0, run="x"), record("a", "kid", 1.0), record("a", "fid", 2.0, run="y")])
    frame = leaderboard([record("a", "fid", 1.0, run="x"), record("a", "fid", 1.0, run="y")])
    assert frame["fid"].tolist() == [1.0]


def made(device: str, torch: str) -> dict[str, dict]:
    return {"model": {"trained_with": {"device": device, "torch": torch}}}


def test_rows_made_differently_are_named_in_every_format(record, tmp_path):
    records = [
        record("gan", "fid", 1.0, protocol=FEATURES | made("a cpu", "2.15.0")),
        record("vae", "fid", 2.0, protocol=FEATURES | made("a cpu", "2.15.0")),
        record("vae", "fid", 2.0, seed=1, protocol=FEATURES | made("a cpu", "2.16.0")),
        record("flow", "fid", 3.0, protocol=FEATURES | made("a gpu", "2.15.0")),
        record("noise", "fid", 9.0, role="scale"),
    ]
    sentence = (
        "Rows were trained with different torch versions or devices: a cpu with torch 2.15.0: gan and vae (seed 0); "
        "a cpu with torch 2.16.0: vae (seed 1); a gpu with torch 2.15.0: flow."
    )
    board = boards(records)[0]
    assert [c.ranks for c in board.columns] == [{"gan": 1, "vae": 2, "flow": 3}]
    assert list(notes(board)).count(sentence) == 1
    write_records(tmp_path / "records.jsonl", records)
    render(tmp_path)
    for name, line in (("md", f"- {sentence}"), ("tex", f"% {sentence}"), ("html", f"<li>{sentence}</li>")):
        assert line in (tmp_path / f"leaderboard.{name}").read_text(encoding="utf-8")


def test_features_and_likelihoods_made_differently_are_named(record):
    rows = []
    for model, version in (("gan", "2.15.0"), ("vae", "2.16.0")):
        made_with = {"device": "cpu", "torch": version}
        fields = dict.fromkeys(("features_with", "reference_with"), made_with)
        rows.append(record(model, "fid", 1.0, protocol=FEATURES | {"model": fields}))
        rows.append(record(model, "bits_per_dim", 1.0, protocol={"model": {"likelihoods_with": made_with}}))
    ends = "with different torch versions or devices: cpu with torch 2.15.0: gan; cpu with torch 2.16.0: vae."
    found = [text for text in notes(boards(rows)[0]) if text.endswith(ends)]
    assert [text.removesuffix(f" {ends}") for text in found] == [
        "Features of the samples were extracted", "Features of the reference were extracted",
        "Likelihoods were computed",
    ]  # fmt: skip


def test_rows_made_alike_get_no_note(record):
    records = [record(m, "fid", 1.0, protocol=FEATURES | made("a cpu", "2.15.0")) for m in ("gan", "vae")]
    assert not [n for n in notes(boards([*records, record("files", "fid", 2.0)])[0]) if "trained" in n]


def test_datasets_have_boards_of_their_own(record):
    found = boards([record("a", "fid", 1.0), record("a", "fid", 9.0, dataset="mnist")])
    assert [(b.dataset, b.rows[0].entries["fid"].value) for b in found] == [("digits", 1.0), ("mnist", 9.0)]


def test_notes_explain_negative_kid_bounds_and_whose_fid_it_is(digits):
    text = "\n".join(notes(boards(digits)[0]))
    assert "unbiased estimate can fall below 0" in text
    assert "≤ᵈ is the exact density of dequantised pixels, an upper bound for the discrete pixels; ≤ is a var" in text
    assert "features of digits-classifier. It cannot be compared with an Inception FID" in text


def test_an_inception_fid_carries_no_warning(record):
    records = [record("a", "fid", 1.0, protocol={"features": {"extractor": "inception-v3-compat"}})]
    assert "cannot be compared" not in "\n".join(notes(boards(records)[0]))
