"""`domains` and `hf`: translation tasks of two folders or of halves, and datasets in Hugging Face's format."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import genbench
from genbench import data
from genbench.contract import DataSpec
from genbench.errors import DataError


def write(folder: Path, values: list[int], size: tuple[int, int] = (8, 8), first: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, value in enumerate(values):
        Image.new("RGB", size, (value, value, 7)).save(folder / f"{first + i:03}.png")


def two_folders(root: Path, first_b: int = 0) -> Path:
    for name, values in {"trainA": [1, 2, 3], "testA": [4, 5], "trainB": [101, 102], "testB": [104, 105]}.items():
        write(root / name, values, first=first_b if name == "testB" else 0)
    return root


def load(name: str, path: Path, **options: Any) -> data.Dataset:
    entry = {"name": name, "path": str(path), **options}
    found = data.load(entry)
    assert data.describe(entry) == (found.spec, found.fingerprint)
    assert data.sizes(entry) == (len(found.train), len(found.test))
    return found


def reds(split: data.Split) -> list[int]:
    return split.pixels[:, 0, 0, 0].tolist()


def test_two_folders_are_two_domains_in_either_direction(tmp_path):
    root = two_folders(tmp_path)
    found = load("domains", root)
    assert (reds(found.source.train), reds(found.source.test)) == ([1, 2, 3], [4, 5])
    assert (reds(found.train), reds(found.test)) == ([101, 102], [104, 105])
    back = load("domains", root, direction="b_to_a", size=4)
    assert (reds(back.source.train), reds(back.train), back.spec) == ([101, 102], [1, 2, 3], DataSpec(3, 4, 4))
    assert back.source.paired
    assert not load("domains", two_folders(tmp_path / "other", first_b=50)).source.paired


@pytest.mark.parametrize("test", ["test", "val"])
def test_halves_side_by_side_are_pairs(tmp_path, test):
    for split, values in (("train", [1, 2]), (test, [5])):
        (tmp_path / split).mkdir()
        for i, value in enumerate(values):
            pixels = np.full((6, 20, 3), value, np.uint8)
            pixels[:, 10:] += 100
            Image.fromarray(pixels).save(tmp_path / split / f"{i}.png")
    found = load("domains", tmp_path)
    assert found.spec == DataSpec(3, 6, 10)
    assert (reds(found.source.train), reds(found.train)) == ([1, 2], [101, 102])
    assert (reds(found.source.test), reds(found.test), found.source.paired) == ([5], [105], True)
    assert load("domains", tmp_path, size=4).spec == DataSpec(3, 4, 4)


def test_what_is_no_translation_task_is_refused(tmp_path):
    with pytest.raises(DataError, match="allowed: folders trainA, trainB, testA, testB, or train and test"):
        load("domains", tmp_path)
    for split in ("train", "test"):
        write(tmp_path / split, [1, 2], (7, 4))
    with pytest.raises(DataError, match="pictures 7 wide, allowed: two halves of the same width"):
        load("domains", tmp_path)


SUITE = """suite: mine
dataset: {name: domains, path: ., size: 8}
features: pixels
samples: 2
models: [{name: cyclegan, budget: {images: 4}, train: {batch: 2}}]
metrics: [cycle_error, paired_l1]
"""


@pytest.mark.parametrize("paired", [True, False])
def test_a_suite_translates_own_pictures_and_needs_pairs_for_paired_errors(tmp_path, monkeypatch, paired):
    two_folders(tmp_path, first_b=0 if paired else 50)
    (tmp_path / "s.yaml").write_text(SUITE)
    monkeypatch.chdir(tmp_path)
    result = genbench.run("s.yaml", models=["cyclegan"])
    status = {r.metric: (r.status, r.reason) for r in result.records if r.model == "cyclegan"}
    assert status["cycle_error"][0] == "ok"
    unpaired = ("n/a", "the dataset's images have no counterparts in the other domain")
    assert status["paired_l1"] == (("ok", "") if paired else unpaired)


# ---- hf


@pytest.fixture
def rows():
    datasets = pytest.importorskip("datasets")
    images = [Image.new("RGB", (6, 5), (i, 0, 0)) for i in range(12)]
    texts = [f"text {i}" for i in range(12)]
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "caption": datasets.Value("string"),
            "label": datasets.ClassLabel(names=["cat", "ape"]),
        }
    )
    return datasets.Dataset.from_dict(
        {"image": images, "caption": texts, "label": [i % 2 for i in range(12)]}, features
    )


def check(found: data.Dataset) -> None:
    assert found.spec == DataSpec(3, 5, 6, classes=2)
    assert sorted(reds(found.train) + reds(found.test)) == list(range(12))
    for split in (found.train, found.test):
        assert split.texts == tuple(f"text {red}" for red in reds(split))
        assert split.labels.tolist() == [red % 2 for red in reds(split)]  # as the dataset numbers them, cat before ape


def test_a_parquet_file_and_a_saved_dataset_are_read(tmp_path, rows):
    rows.to_parquet(tmp_path / "x.parquet")
    check(load("hf", tmp_path / "x.parquet"))
    rows.save_to_disk(tmp_path / "saved")
    check(load("hf", tmp_path / "saved"))
    assert data.classes_of({"name": "hf", "path": str(tmp_path / "saved")}, 2).names == (("cat",), ("ape",))
    assert load("hf", tmp_path / "saved", labels="none", size=[4, 8]).spec == DataSpec(3, 4, 8)


@pytest.mark.parametrize("unknown", [-1, None])
def test_a_row_without_a_label_is_refused_and_not_given_the_last_class(tmp_path, rows, unknown):
    changed = rows.map(lambda row, i: {"label": unknown if i == 3 else row["label"]}, with_indices=True)
    changed.save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="1 of 12 pictures have no label"):
        load("hf", tmp_path / "saved")


def test_the_names_of_parquet_files_are_splits(tmp_path, rows):
    (tmp_path / "data").mkdir()
    rows.select(range(8)).to_parquet(tmp_path / "data" / "train-00000-of-00001.parquet")
    rows.select(range(8, 12)).to_parquet(tmp_path / "data" / "test-00000-of-00001.parquet")
    found = load("hf", tmp_path)
    check(found)
    assert sorted(reds(found.test)) == [8, 9, 10, 11]


def test_data_that_cannot_be_read_is_one_line(tmp_path, rows):
    with pytest.raises(DataError, match="no such file or folder"):
        load("hf", tmp_path / "no")
    (tmp_path / "x.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"x\.parquet: cannot be read as a dataset"):
        load("hf", tmp_path / "x.parquet")
    rows.remove_columns("image").to_parquet(tmp_path / "y.parquet")
    with pytest.raises(DataError, match="no column of images, only caption, label"):
        load("hf", tmp_path / "y.parquet")
    rows.to_parquet(tmp_path / "z.parquet")
    with pytest.raises(DataError, match="text_column: no column 'prompt', allowed: image, caption, label"):
        load("hf", tmp_path / "z.parquet", text_column="prompt")
