"""Several extractors of a suite: their images are read once, their values are those of suites with each alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import genbench
from genbench.evaluate.cell import evaluate, evaluate_views
from genbench.features import together
from genbench.plan.planner import make_plan
from genbench.progress import silent
from genbench.records import metric_name
from genbench.screen import Screen
from genbench.store import Kind, Store
from genbench.suite.schema import read_suite

MINE = """
import json
from pathlib import Path

import numpy as np
from genbench.contract import DataSpec
from genbench.data.base import Dataset, DatasetSource, Split
from genbench.features import Extractor, ExtractorSource, Features

LOG, SPEC = Path(__file__).parent / "log.jsonl", DataSpec(1, 8, 8, 256)


def note(*what):
    with LOG.open("a") as file:
        file.write(json.dumps(what) + "\\n")


class Moments(Extractor):
    weights_hash = "none"

    def __init__(self, name, power):
        self.name, self.power = name, power

    def __call__(self, pixels, levels, batch=500):
        if self.power == 0:
            raise ValueError("no power")
        note(self.name, len(pixels), int(pixels.long().sum()))
        return Features((pixels.double() / levels).pow(self.power).mean(3)[:, 0].float().numpy())


def source(name, power):
    return ExtractorSource(name, load=lambda dataset, device, options: Moments(name, power))


ONE, TWO, BROKEN = source("ONE", 1), source("TWO", 2), source("BROKEN", 0)


def load(entry, path):
    import torch

    note("load")
    pixels = torch.randint(256, (400, 1, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    return Dataset("noise", SPEC, Split(pixels[:300]), Split(pixels[300:]), "noise 1")


NOISE = DatasetSource("noise", load, lambda entry, path: (SPEC, "noise 1"))
"""
SUITE = """suite: views
dataset: {name: "./mine.py:NOISE"}
features: ["./mine.py:ONE", "./mine.py:TWO"]
samples: 280
models:
  - {name: theirs, samples: ./theirs.npz}
metrics: [fid, precision, memorised, vendi, sliced_wasserstein]
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "mine.py").write_text(MINE)
    np.savez(tmp_path / "theirs.npz", images=np.random.default_rng(1).integers(0, 256, (280, 8, 8), np.uint8))
    return tmp_path


def views(folder, text=SUITE):
    (folder / "s.yaml").write_text(text)
    return next(cells for cells in make_plan(read_suite(folder / "s.yaml")).views if cells[0].label == "theirs")


def log(folder):
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [tuple(json.loads(line)) for line in lines]


def test_each_part_goes_to_every_extractor_and_the_data_are_loaded_once(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(together, "BYTES", 128 * 64)  # parts of 128 images
    cells = views(folder)
    (folder / "log.jsonl").unlink(missing_ok=True)
    records = evaluate_views(cells, False, Store(tmp_path / "a"), "cpu", silent)
    assert {r.status for r in records} == {"ok"}
    seen = log(folder)
    assert seen.count(("load",)) == 1
    passes = [entry for entry in seen if entry != ("load",)]
    assert [(name, n) for name, n, _ in passes] == [
        (name, n) for sizes in ((128, 128, 24), (128, 128, 44), (100,)) for n in sizes for name in ("ONE", "TWO")
    ]  # the samples, the train split, the test split
    assert [entry[1:] for entry in passes[::2]] == [entry[1:] for entry in passes[1::2]]


def test_values_and_keys_are_those_of_suites_with_one_extractor(folder, tmp_path):
    both = {r.metric: r for r in evaluate_views(views(folder), False, Store(tmp_path / "a"), "cpu", silent)}
    for name in ("ONE", "TWO"):
        alone = SUITE.replace('["./mine.py:ONE", "./mine.py:TWO"]', f'"./mine.py:{name}"')
        (cell,) = views(folder, alone)
        for record in evaluate(cell, False, Store(tmp_path / name), "cpu", silent):
            same = both.get(f"{record.metric}@{name}") or both[record.metric]
            assert (same.value, same.lo, same.key, same.protocol_hash) == (
                record.value, record.lo, record.key, record.protocol_hash,
            )  # fmt: skip
    assert "sliced_wasserstein" in both


def test_what_is_stored_or_not_asked_for_is_not_extracted(folder, tmp_path):
    first = SUITE.replace('["./mine.py:ONE", "./mine.py:TWO"]', '"./mine.py:ONE"')
    store = Store(tmp_path / "a")
    evaluate(views(folder, first)[0], False, store, "cpu", silent)
    (folder / "log.jsonl").unlink()
    evaluate_views(views(folder), False, store, "cpu", silent)
    assert {entry[0] for entry in log(folder)} == {"load", "TWO"}
    only = SUITE.replace("fid, precision, memorised, vendi, sliced_wasserstein", "vendi")
    (folder / "log.jsonl").unlink()
    other = Store(tmp_path / "b")
    evaluate_views(views(folder, only), False, other, "cpu", silent)
    assert {entry[1] for entry in log(folder) if len(entry) > 1} == {280}  # no features of the reference


@pytest.mark.parametrize("order", [("ONE", "BROKEN"), ("BROKEN", "ONE")])
def test_an_extractor_that_fails_fails_its_own_metrics(folder, tmp_path, order):
    names = ", ".join(f'"./mine.py:{name}"' for name in order)
    cells = views(folder, SUITE.replace('"./mine.py:ONE", "./mine.py:TWO"', names))
    records = evaluate_views(cells, False, Store(tmp_path / "a"), "cpu", silent)
    status = {(r.metric.partition("@")[2], r.status) for r in records if "@" in r.metric}
    assert status == {("ONE", "ok"), ("BROKEN", "failed")}
    reasons = {r.reason for r in records if r.metric.endswith("@BROKEN")}
    assert all("no power" in reason for reason in reasons)


def test_parts_have_whole_batches():
    assert together.part_size(torch.empty(1, 1, 8, 8)) == 16_000
    large = together.part_size(torch.empty(1, 3, 256, 256))
    assert large % 128 == 0
    assert large * 3 * 256 * 256 <= together.BYTES
    assert together.part_size(torch.empty(1, 3, 1024, 1024)) == 128


def test_a_run_has_one_task_for_a_row(folder, monkeypatch):
    monkeypatch.chdir(folder)
    text = SUITE.replace('{name: "./mine.py:NOISE"}', "{name: npz, path: ./data.npz}")
    text = text.replace('"./mine.py:ONE", "./mine.py:TWO"', "pixels, './mine.py:ONE'").replace("memorised, vendi, ", "")
    np.savez(folder / "data.npz", images=np.random.default_rng(2).integers(0, 256, (300, 8, 8), np.uint8))
    (folder / "s.yaml").write_text(text)
    expected: list[int] = []
    monkeypatch.setattr(Screen, "expect", lambda self, seconds: expected.append(len(seconds)))
    result = genbench.run(folder / "s.yaml")
    assert not result.failed
    assert expected == [6]  # the model and five scale rows
    found = {r.metric: r for r in result.records if r.model == "theirs"}
    assert {metric_name(name) for name in found} == {"fid", "precision", "sliced_wasserstein"}
    assert {name.partition("@")[2] for name in found} == {"", "ONE", "pixels"}
    assert len(list((Store().root / Kind.FEATURES).iterdir())) >= 4
