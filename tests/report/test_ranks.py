"""Ranks with ties: hand-computed cases, and how often chance alone parts two equal models."""

import numpy as np
import pandas as pd
import pytest

from genbench.report import leaderboard
from genbench.report.aggregate import boards
from genbench.report.markdown import markdown
from genbench.report.ranks import is_better


def column(records, metric="fid"):
    return next(c for c in boards(records)[0].columns if c.metric == metric)


def ranked(records, metric="fid"):
    return column(records, metric).ranks


def test_a_difference_counts_when_it_exceeds_the_root_of_the_squared_halves(record):
    """3-4-5: halves 3 and 4 make an interval of +- 5 for the difference."""
    assert ranked([record("a", "fid", 10.0, half=3.0), record("b", "fid", 15.1, half=4.0)]) == {"a": 1, "b": 2}
    assert ranked([record("a", "fid", 10.0, half=3.0), record("b", "fid", 14.9, half=4.0)]) == {"a": 1, "b": 1}


def test_rank_is_one_more_than_the_models_that_are_better(record):
    values = {"a": 1.0, "b": 1.2, "c": 3.0, "d": 3.1, "e": 9.0}
    found = ranked([record(m, "fid", v, half=0.2) for m, v in values.items()])
    assert found == {"a": 1, "b": 1, "c": 3, "d": 3, "e": 5}


def test_ties_need_not_be_transitive(record):
    """a ties with b and b with c, but a is better than c."""
    found = ranked([record(m, "fid", v, half=1.0) for m, v in (("a", 0.0), ("b", 1.2), ("c", 2.4))])
    assert found == {"a": 1, "b": 1, "c": 2}


def test_less_known_is_less_held_against(record):
    wide, narrow = record("wide", "fid", 3.0, half=5.0), record("narrow", "fid", 2.0, half=0.1)
    assert ranked([record("best", "fid", 1.0, half=0.1), narrow, wide]) == {"best": 1, "narrow": 2, "wide": 1}


def test_uneven_intervals_count_by_the_ends_that_face_each_other(record):
    near = record("a", "precision", 0.90, lo=0.86, hi=0.91, interval="Wilson 95 %")
    far = record("b", "precision", 0.84, lo=0.80, hi=0.87, interval="Wilson 95 %")
    assert ranked([near, far], "precision") == {"a": 1, "b": 2}  # 0.06 > sqrt(0.04^2 + 0.03^2) = 0.05
    facing = record("b", "precision", 0.84, lo=0.83, hi=0.89, interval="Wilson 95 %")
    assert ranked([near, facing], "precision") == {"a": 1, "b": 1}  # 0.06 < sqrt(0.04^2 + 0.05^2) = 0.064


def test_exact_numbers_tie_only_when_equal(record):
    found = ranked([record(m, "evaluations", v) for m, v in (("a", 1.0), ("b", 1.0), ("c", 2.0))], "evaluations")
    assert found == {"a": 2, "b": 2, "c": 1}


def test_what_may_not_be_ranked_has_no_rank(record):
    failed = record("b", "fid", seed=1, status="failed", reason="loss is NaN")
    records = [record("a", "fid", 2.0), record("b", "fid", 1.0), failed, record("c", "fid", 3.0)]
    assert ranked(records) == {"a": 1, "c": 2}
    assert ranked([record("a", "fid", 2.0), record("real", "fid", 1.0, role="scale")]) == {}
    assert ranked([record("a", "fid", 2.0), record("b", "fid", 1.0, version=2)]) == {}


COST = {"machine": {"device": "cpu: A", "batch": 64}}


def test_a_cost_measured_on_the_machine_is_ranked_only_with_an_interval_of_repeats(record):
    """Three rows with the same weights, as in the committed Fashion-MNIST result; none of them is faster."""
    once = [record(m, "peak_memory", v, protocol=COST) for m, v in (("a", 54.4), ("b", 57.7), ("c", 57.8))]
    assert ranked(once, "peak_memory") == {}
    ends = "slowest to fastest of 60 repeats"
    spread = [
        record(m, "images_per_second", v, lo=1, hi=9, interval=ends, protocol=COST) for m, v in (("a", 5), ("b", 8))
    ]
    assert ranked(spread, "images_per_second") == {}
    (note,) = column(spread, "images_per_second").notes
    assert note.startswith(
        "a and b: its interval is slowest to fastest of the repeats; such a cost is ranked only with"
    )
    assert column(once, "peak_memory").notes[0].startswith("a, b and c: measured once on the machine")
    apart = [
        record("slow", "images_per_second", 50.0, half=5.0, protocol=COST),
        record("fast", "images_per_second", 90.0, half=9.0, protocol=COST),
        record("once", "images_per_second", 70.0, protocol=COST),
    ]
    assert ranked(apart, "images_per_second") == {"fast": 1, "slow": 2}
    counted = [record(m, "parameters", v, protocol={"machine": {}}) for m, v in (("a", 5.0), ("b", 8.0))]
    assert set(ranked(counted, "parameters").values()) == {1, 2}


def test_seeds_are_repeats(record):
    values = {"slow": (50.0, 52.0, 51.0), "fast": (90.0, 91.0, 89.0)}
    records = [
        record(m, "images_per_second", v, seed=s, protocol=COST) for m, vs in values.items() for s, v in enumerate(vs)
    ]
    assert ranked(records, "images_per_second") == {"fast": 1, "slow": 2}


def test_where_everything_ties_nothing_is_best(record):
    tied = column([record(m, "fid", v, half=3.0) for m, v in (("a", 1.0), ("b", 2.0))], "fid")
    assert (tied.ranks, tied.best) == ({"a": 1, "b": 1}, frozenset())
    apart = column([record(m, "fid", v, half=0.3) for m, v in (("a", 1.0), ("b", 2.0))], "fid")
    assert apart.best == {"a"}


def test_two_equal_models_are_parted_one_time_in_twenty(record):
    """Two normal values with their own 95 % half widths: the difference is beyond its interval 5 % of the time."""
    rng = np.random.default_rng(0)
    parted = 0
    for a, b in rng.standard_normal((1500, 2)) * (1.0, 2.0):
        parted += ranked([record("a", "fid", a, half=1.96), record("b", "fid", b, half=3.92)]) != {"a": 1, "b": 1}
    assert 0.035 < parted / 1500 < 0.067


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ("mass", "mass", 2),
        ("density", "density", 2),
        ("bound", "bound", 2),
        ("density", "mass", 2),  # an upper bound below an exact value: better for certain
        ("bound", "mass", 2),
        ("mass", "density", 1),  # what lies above is an upper bound: its model may be better still
        ("mass", "bound", 1),
        ("density", "bound", 1),
        ("bound", "density", 1),
    ],
)
def test_between_kinds_only_an_exact_mass_can_be_shown_to_be_worse(record, low, high, expected):
    records = [
        record("low", "bits_per_dim", 2.0, half=0.1, kind=low),
        record("high", "bits_per_dim", 3.0, half=0.1, kind=high),
    ]
    assert ranked(records, "bits_per_dim") == {"low": 1, "high": expected}
    text = markdown(boards(records))
    assert ("does not show that a model is worse" in text) is (low != high)


def test_a_rank_among_kinds_never_contradicts_the_true_masses(record):
    """Upper bounds are the mass and a gap of any size; where `better` is said of unlike kinds, the masses agree."""
    rng = np.random.default_rng(2)
    kinds, told = np.array(["mass", "density", "bound"]), 0
    for _ in range(300):
        mass, kind = rng.random(4), rng.choice(kinds, 4)
        shown = mass + (kind != "mass") * rng.random(4)
        records = [record(f"m{i}", "bits_per_dim", shown[i], kind=str(kind[i])) for i in range(4)]
        entries = {row.model: row.entries["bits_per_dim"] for row in boards(records)[0].rows}
        for i, j in np.argwhere(kind[:, None] != kind[None, :]):
            if is_better(entries[f"m{i}"], entries[f"m{j}"], 1):
                told += 1
                assert mass[i] < mass[j]
    assert told > 100


def test_tables_show_ranks(digits):
    frame = leaderboard(digits).set_index("model")
    assert frame["fid_rank"].dtype == "Int64"
    assert frame.loc[["gan", "flow", "vae"], "fid_rank"].tolist() == [1, 1, 3]
    assert pd.isna(frame.loc["real", "fid_rank"])
    assert pd.isna(frame.loc["gan", "bits_per_dim_rank"])
    lines = markdown(boards(digits)).splitlines()
    assert any(line.startswith("| vae | 118.0 ± 2.0 (3) |") for line in lines)
    assert any(line.startswith("| *scale: real* | 6.20 ± 0.10 |") for line in lines)
    assert any("A rank, in brackets, is one more than the number of models that are better" in line for line in lines)


@pytest.mark.parametrize("metric", ["fid", "precision"])
def test_the_best_value_has_rank_one(record, metric):
    rng = np.random.default_rng(1)
    for _ in range(50):
        values, halves = rng.random(6), rng.random(6)
        found = ranked([record(f"m{i}", metric, values[i], half=halves[i]) for i in range(6)], metric)
        best = values.argmin() if metric == "fid" else values.argmax()
        assert found[f"m{best}"] == 1
        assert set(found.values()) <= set(range(1, 7))
