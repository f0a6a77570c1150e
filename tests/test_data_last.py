"""The dataset that a process has loaded is used again by its next task, unless a task has changed it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from genbench import data
from genbench.data import last
from genbench.data.last import load_again

SHAPES = """
from genbench.contract import DataSpec
from genbench.data.base import Dataset, DatasetSource, Split, fingerprint
import torch

SPEC = DataSpec(1, 4, 4)

def load(entry, path):
    train, test = (Split(torch.full((n, 1, 4, 4), n, dtype=torch.uint8)) for n in (6, 2))
    return Dataset("shapes", SPEC, train, test, fingerprint(train, test))

SHAPES = DatasetSource("squares", load, lambda entry, path: (SPEC, load(entry, path).fingerprint))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    last._LAST.clear()
    pixels = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=pixels, labels=np.arange(40) % 3)
    np.save(tmp_path / "other.npy", pixels[:20])
    (tmp_path / "shapes.py").write_text(SHAPES)
    return tmp_path


NPZ, OTHER = {"name": "npz", "path": "data.npz"}, {"name": "npz", "path": "other.npy"}


def test_the_dataset_loaded_last_is_given_again(folder):
    first = load_again(NPZ, folder)
    assert first.fingerprint == data.load(NPZ, folder).fingerprint
    assert load_again(dict(NPZ), folder) is first
    assert load_again(OTHER, folder).fingerprint != first.fingerprint
    assert load_again(NPZ, folder) is not first


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("part", ["pixels", "labels"])
def test_one_that_a_task_has_changed_is_loaded_anew(folder, split, part):
    changed = load_again(NPZ, folder)
    getattr(getattr(changed, split), part)[0] += 1
    again, true = load_again(NPZ, folder), data.load(NPZ, folder)
    assert again is not changed
    assert torch.equal(getattr(getattr(again, split), part), getattr(getattr(true, split), part))


def test_the_source_domain_of_a_translation_counts(folder):
    entry = {"name": "edges", "of": "digits"}
    changed = load_again(entry)
    assert load_again(entry) is changed
    assert changed.source is not None
    changed.source.test.pixels[0] = 0
    assert load_again(entry) is not changed


def test_those_of_a_users_code_and_large_ones_are_always_loaded(folder, monkeypatch):
    own = {"name": "shapes.py:SHAPES"}
    assert load_again(own, folder) is not load_again(own, folder)
    monkeypatch.setattr(last, "MOST_BYTES", 100)
    assert load_again(NPZ, folder) is not load_again(NPZ, folder)
