"""A training that cannot have worked is marked, before and after it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from genbench.commands.plan import describe_plan
from genbench.contract import Recipe, Stage
from genbench.report.aggregate import boards
from genbench.report.poor import poor_rows, with_doubts
from genbench.train.doubts import budget_doubts, loss_doubts
from genbench.train.loop import CurvePoint

FIT = (Stage("fit", turns=("all",)),)


class OneStage:
    stages = FIT


class Adversarial:
    stages = (Stage("fit", turns=("critic", "generator")),)


def curve(values: list[float], name: str = "loss") -> list[CurvePoint]:
    return [CurvePoint("fit", i, i, 0.0, name, value) for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("recipe", "images", "words"),
    [
        (Recipe(batch=10, warmup=200), 1_000, ["100 steps, all within the warm-up of 200"]),
        (Recipe(batch=10, warmup=60), 1_000, ["100 steps, 60 of them warm-up"]),
        (Recipe(batch=10, warmup=40), 1_000, []),
        (Recipe(batch=10, ema=0.999), 1_000, ["fewer than the 1,000 that the moving average"]),
        (Recipe(batch=10, ema=0.98), 1_000, []),
    ],
)
def test_a_budget_that_ends_within_the_warm_up_or_the_average_is_a_doubt(recipe, images, words):
    doubts = budget_doubts(recipe, images, FIT)
    assert len(doubts) == len(words)
    assert all(word in doubt for word, doubt in zip(words, doubts, strict=True))


def test_steps_are_those_of_the_shortest_stage():
    stages = (Stage("first", turns=("a", "b"), share=1.0), Stage("second", turns=("b", "b"), share=1.0))
    assert "its shortest stage has 25 steps" in budget_doubts(Recipe(batch=10, warmup=100), 1_000, stages)[0]


def test_a_loss_that_did_not_fall_is_a_doubt():
    rising, falling = [1.0] * 10 + [1.0 + i / 100 for i in range(10)], [2.0 - i / 20 for i in range(20)]
    assert loss_doubts(OneStage(), curve(rising)) == ("the loss of stage 'fit' did not decrease: loss from 1 to 1.085",)
    assert loss_doubts(OneStage(), curve(falling)) == ()
    assert loss_doubts(OneStage(), curve(rising, "kl") + curve(falling, "reconstruction")) == ()
    assert loss_doubts(OneStage(), curve(rising[:9])) == ()
    assert loss_doubts(Adversarial(), curve(rising)) == ()


def test_plan_shows_the_doubts(tmp_path: Path):
    suite = tmp_path / "s.yaml"
    suite.write_text(
        "suite: s\ndataset: {name: digits}\nmetrics: [fid]\nfeatures: pixels\nbudget: {images: 1000}\n"
        "models:\n  - {name: vae, train: {warmup: 5000, ema: 0, batch: 100}}\n"
    )
    shown = describe_plan(suite, "cpu", None)
    assert "warning: vae: the training has 10 steps, all within the warm-up of 5,000" in " ".join(shown.split())


def test_a_model_no_better_than_a_scale_row_has_a_note(record):
    values = {"good": 3.0, "bad": 90.0, "uniform noise": 80.0, "blurred real": 50.0, "gaussian": 1.0}
    roles = {"good": "model", "bad": "model"}
    records = [record(m, "fid", v, role=roles.get(m, "scale")) for m, v in values.items()]
    (column,) = boards(records)[0].columns
    assert [note.partition(":")[0] for note in column.notes] == ["bad", "bad"]
    assert "90, no better than the scale row uniform noise with 80" in column.notes[0]


def test_other_protocols_and_metrics_are_not_compared_with_scale_rows(record):
    other = {"features": {"extractor": "another"}}
    fid = [record("bad", "fid", 90.0), record("uniform noise", "fid", 80.0, role="scale", protocol=other)]
    (column,) = boards(fid)[0].columns
    assert not any("no better" in note for note in column.notes)
    recall = [record("bad", "recall", 0.9), record("uniform noise", "recall", 0.8, role="scale")]
    assert boards(recall)[0].columns[0].notes == ()


def test_a_metric_that_is_to_be_high_is_compared_with_noise(record):
    values = {"good": 0.9, "bad": 0.0, "uniform noise": 0.0, "blurred real": 0.95}
    records = [
        replace(record(m, "precision", v, role="model" if m in ("good", "bad") else "scale"), better="higher")
        for m, v in values.items()
    ]
    records = [replace(r, protocol=r.protocol | {"model": {"images_seen": 9}}) for r in records]
    note = "bad: 0, no better than the scale row uniform noise with 0: its training may not have worked."
    assert boards(records)[0].columns[0].notes == (note,)
    assert poor_rows(records) == [
        "bad is no better than the scale row uniform noise in precision: its training may not have worked"
    ]
    others = [replace(records[1], model=name, protocol={}) for name in ("worse", "as bad")]
    assert poor_rows([*(replace(r, protocol={}) for r in records), *others]) == [
        "bad, worse and as bad are no better than the scale row uniform noise in precision: their weights or their "
        "way of drawing may be wrong"
    ]


@pytest.mark.parametrize(
    ("unit", "values", "ends"),
    [
        ("share", [0.0, 0.004, 0.008], (0.0, None)),
        ("share", [1.0, 0.99, 1.0], (None, 1.0)),
        ("feature^2", [0.0, 0.1, 0.0], (0.0, None)),
        ("MMD^2", [0.0, 0.004, 0.008], (None, None)),
    ],
)
def test_intervals_over_seeds_stay_within_the_bounds_of_the_unit(record, unit, values, ends):
    records = [replace(record("a", "x", value, seed=i), unit=unit) for i, value in enumerate(values)]
    entry = boards(records)[0].rows[0].entries["x"]
    for end, bound, past in ((entry.lo, ends[0], -1), (entry.hi, ends[1], 1)):
        assert end == bound if bound is not None else (end - entry.value) * past > 0
    if unit == "MMD^2":
        assert entry.lo < 0


def test_the_record_states_that_a_row_is_no_better_and_once(record):
    """Marking a result again, also after the row has become better, leaves only what is true.

    Nothing is said of the training of a row that was not trained here.
    """
    noise, bad, good = (record(m, "fid", v, role=r) for m, v, r in (
        ("uniform noise", 50.0, "scale"), ("bad", 60.0, "model"), ("good", 5.0, "model")
    ))  # fmt: skip
    marked = with_doubts([noise, replace(bad, warnings=("clipped",)), good])
    text = "fid 60: no better than the scale row uniform noise with 50: its weights or its way of drawing may be wrong"
    assert [r.warnings for r in marked] == [(), ("clipped", text), ()]
    assert with_doubts(marked) == marked
    assert with_doubts([marked[0], replace(marked[1], value=4.0)])[1].warnings == ("clipped",)
