"""Curves of quality against the cost of drawing: which rows are a curve, and where their points lie."""

from dataclasses import replace

import pytest

from genbench.records import write_records
from genbench.report.aggregate import boards
from genbench.report.effort import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, effort
from genbench.report.folders import read_folders, suite_entries, trained_alike
from genbench.report.html import effort_file, page

SUITE = """
models:
  - {name: ddim, label: eps-1, sampler: {steps: 1}}
  - {label: eps-2, weights_of: eps-1, sampler: {steps: 2}}
  - {label: eps-8, weights_of: eps-2, sampler: {steps: 8}}
  - {name: flow_matching, label: flow-steps1, sampler: {steps: 1}}
  - {name: flow_matching, label: flow-steps2, sampler: {steps: 2}}
  - {name: flow_matching, label: flow-steps8, sampler: {steps: 8}}
  - {name: edm, label: other-channels8, config: {channels: 8}}
  - {name: edm, label: other-channels16, config: {channels: 16}}
  - {name: edm, label: other-channels32, config: {channels: 32}}
  - {name: vae}
"""
FID = {"eps-1": 90.0, "eps-2": 40.0, "eps-8": 10.0, "flow-steps1": 50.0, "flow-steps2": 30.0, "flow-steps8": 11.0}
OTHERS = {"other-channels8": 5.0, "other-channels16": 4.0, "other-channels32": 3.0, "vae": 70.0}


@pytest.fixture
def folders(tmp_path, record):
    records = []
    for model, value in (FID | OTHERS).items():
        steps = int(model[-1]) if model[-1].isdigit() and model in FID else 1
        records += [record(model, "fid", value, half=1.0), record(model, "recall", 0.5, half=0.1)]
        records += [record(model, "images_per_second", 800.0 / steps, half=10.0), record(model, "evaluations", steps)]
    write_records(tmp_path / "records.jsonl", records)
    (tmp_path / "suite.yaml").write_text(SUITE)
    return read_folders([tmp_path])


def drawn(folders):
    return effort(boards(r for folder in folders for r in folder.measured)[0], folders)


def test_rows_of_one_training_are_one_curve_and_others_are_none(folders):
    found = drawn(folders)
    assert found.names == ("eps", "flow")
    assert [(p.y_title, p.x_title) for p in found.panels] == [
        ("FID (digits-classifier)", "evaluations of the network"), ("FID (digits-classifier)", "seconds per image"),
        ("Recall", "evaluations of the network"), ("Recall", "seconds per image"),
    ]  # fmt: skip
    assert [len(curve.spots) for panel in found.panels for curve in panel.curves] == [3] * 8


def test_points_lie_where_the_scale_puts_their_values(folders):
    panel = drawn(folders).panels[0]
    eps, flow = panel.curves
    assert [spot.x for spot in eps.spots] == sorted(spot.x for spot in eps.spots)
    assert eps.spots[0].x == flow.spots[0].x  # both take one evaluation
    assert eps.spots[0].y < flow.spots[0].y < eps.spots[2].y  # a FID of 90, 50 and 10: higher is further up
    assert eps.spots[0].along[0] > eps.spots[0].y > eps.spots[0].along[1]
    for spot in (*eps.spots, *flow.spots):
        assert LEFT <= spot.x <= WIDTH - RIGHT
        assert TOP <= spot.y <= HEIGHT - BOTTOM
    assert "eps-8: FID 10" in eps.spots[2].words
    assert "8 evaluations of the network" in eps.spots[2].words


def test_an_interval_that_reaches_zero_images_a_second_is_no_end_of_the_scale(folders, record):
    records = [r for folder in folders for r in folder.measured]
    wide = [replace(r, lo=0.0) if r.metric == "images_per_second" else r for r in records]
    spots = effort(boards(wide)[0], folders).panels[1].curves[0].spots
    assert [spot.x for spot in spots] == sorted(spot.x for spot in spots)
    assert spots[-1].x <= WIDTH - RIGHT


def test_seconds_are_one_over_the_images_per_second(folders):
    panel = drawn(folders).panels[1]
    assert panel.curves[0].spots[0].words.endswith("0.00125 seconds per image")
    assert panel.curves[0].spots[2].words.endswith("0.01 seconds per image")


def test_page_and_file_have_the_panels(folders, tmp_path):
    found = drawn(folders)
    (tmp_path / "x.csv").write_text("")
    made = page(folders, boards(r for folder in folders for r in folder.measured), tmp_path / "x.csv")
    assert made.count('role="img" aria-label="FID (digits-classifier) against') == 2
    assert effort_file(found).count("<title>") == 4 * 2 * 3


def test_two_rows_are_no_curve(folders, tmp_path):
    (tmp_path / "suite.yaml").write_text(
        "models:\n  - {name: ddim, label: eps-1}\n  - {label: eps-2, weights_of: eps-1}\n"
    )
    assert not drawn(read_folders([tmp_path]))


def test_rows_that_use_others_weights_have_the_name_of_their_class(tmp_path):
    (tmp_path / "suite.yaml").write_text(SUITE)
    entries = suite_entries(tmp_path / "suite.yaml")
    assert entries["eps-2"]["name"] == "ddim"
    assert "weights_of" not in entries["other-channels16"]


def test_rows_that_are_trained_alike_share_a_training():
    """A result's suite has the rows of a grid one by one."""
    entries = {
        "a-1": {"name": "edm", "config": {"channels": 8}, "sampler": {"steps": 1}},
        "a-2": {"name": "edm", "config": {"channels": 8}, "sampler": {"steps": 2}, "label": "a-2", "claims": []},
        "b": {"name": "edm", "config": {"channels": 16}},
        "c": {"name": "edm", "config": {"channels": 8}, "train": {"lr": 1.0}},
        "d": {"name": "edm", "config": {"channels": 8}, "weights": "x.pt"},
    }
    assert trained_alike(entries) == {"a-2": "a-1"}


def test_a_sweep_of_another_option_is_no_curve(folders):
    """Guidance and truncation change the images at the same number of evaluations."""
    records = [r for folder in folders for r in folder.measured]
    same = [replace(r, value=40.0) if r.metric == "evaluations" else r for r in records]
    assert not effort(boards(same)[0], folders)
