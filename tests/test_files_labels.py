"""Labels are those of the classes that images are compared with, or metrics by class are n/a or warned of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import genbench
from genbench import data
from genbench.data.labels import (
    Classes,
    Labels,
    array_labels,
    as_classes,
    class_number,
    classes_of_dataset,
    folder_labels,
)
from genbench.lint import label_findings
from genbench.plan.planner import make_plan
from genbench.suite.schema import Suite

DIGITS = classes_of_dataset("digits", 10)


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load({"name": "digits"})


def tree(folder: Path, split: data.Split, names: list[str]) -> Path:
    for number, (pixels, name) in enumerate(zip(split.pixels, names, strict=True)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(folder / name / f"{number:05}.png")
    return folder


def by_class(fake: Path, reference: object = "digits", metrics: tuple[str, ...] = ("per_class_fid",)):
    return genbench.score(fake=fake, reference=reference, metrics=["fid", *metrics], device="cpu")


@pytest.mark.parametrize(("name", "number"), [
    ("3", 3), ("03", 3), ("class_3", 3), ("class3", 3), ("label-3", 3), ("digit 3", 3), ("three", 3), ("THREE", 3),
    ("3_three", 3), ("c3", 3), ("3_four", None), ("12", None), ("000003", None), ("003", None), ("cat", None),
])  # fmt: skip
def test_names_of_a_class(name, number):
    assert class_number(name, DIGITS) == number


@pytest.mark.parametrize(("name", "number"), [
    ("T-shirt_top", 0), ("trousers", 1), ("Ankle boot", 9), ("ankle_boots", 9), ("9", 9), ("9 ankle boot", 9),
])  # fmt: skip
def test_names_of_clothes(name, number):
    assert class_number(name, classes_of_dataset("fashion-mnist", 10)) == number


def test_names_of_photographs_and_of_many_classes():
    assert class_number("an airplane", classes_of_dataset("cifar10", 10)) == 0
    assert class_number("0999", Classes(1000)) == 999
    assert class_number("00999", Classes(1000)) is None


def test_labels_are_mapped_to_the_classes_whatever_their_order():
    labels = folder_labels(["two", "one", "two", "nine"])
    assert as_classes(labels, DIGITS)[0].tolist() == [2, 1, 2, 9]
    assert as_classes(folder_labels(["2", "1", "09"]), DIGITS)[0].tolist() == [2, 1, 9]
    assert as_classes(Labels(torch.tensor([2, 1])), DIGITS)[0].tolist() == [2, 1]
    names = array_labels(np.array(["dog", "cat"]), 2, "x")
    assert as_classes(names, Classes(3, (("ant",), ("cat",), ("dog",))))[0].tolist() == [2, 1]


@pytest.mark.parametrize(("labels", "reason"), [
    (folder_labels(["000000", "000001"]),
     "2 of 2 labels name no class: '000000', '000001'; the classes are '0', '1', '2', ..."),
    (folder_labels(["cat", "1"]), "1 of 2 labels name no class: 'cat'; the classes are '0', '1', '2', ..."),
    (folder_labels(["one", "1", "2"]), "several labels name the same class: '1', '2', 'one', ..."),
    (folder_labels(["01", "1"]), "several labels name the same class: '01', '1', ..."),
    (Labels(torch.tensor([10, 1])), "labels go up to 10, but the classes are 0 to 9"),
])  # fmt: skip
def test_labels_of_other_classes_have_a_reason(labels, reason):
    assert as_classes(labels, DIGITS) == (None, reason)


def test_chunk_folders_are_no_classes(digits, tmp_path):
    part = data.Split(digits.test.pixels[:300], digits.test.labels[:300])
    names = [f"{number // 150:06}" for number in range(300)]
    found = by_class(tree(tmp_path / "x", part, names), metrics=("per_class_fid", "cas", "class_accuracy"))
    reasons = {r.metric: r.reason for r in found.records if r.status == "n/a"}
    expected = f"{tmp_path}/x: 2 of 2 labels name no class: '000000', '000001'; the classes are '0', '1', '2', ..."
    assert reasons == dict.fromkeys(("per_class_fid", "cas", "class_accuracy"), expected)


def test_folders_of_the_right_names_score_as_the_labels_do(digits, tmp_path):
    words = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    names = [words[label] for label in digits.test.labels.tolist()]
    found = by_class(tree(tmp_path / "x", digits.test, names))
    np.savez(tmp_path / "x.npz", images=digits.test.pixels.numpy(), labels=digits.test.labels.numpy())
    assert found.values["per_class_fid"] == pytest.approx(
        by_class(tmp_path / "x.npz").values["per_class_fid"], rel=1e-6
    )
    assert not [w for w in found.warnings if "labels" in w]


def test_chunks_named_as_classes_are_warned_of(digits, tmp_path):
    names = [str(number % 10) for number in torch.randperm(1437, generator=torch.Generator().manual_seed(0)).tolist()]
    found = by_class(tree(tmp_path / "x", digits.train, names), "digits")
    (warning,) = [w for w in found.warnings if "labels look random" in w]
    assert warning.endswith("a value by class is that of labels which do not name what is shown")
    by_metric = {r.metric: r.warnings for r in found.records}
    assert warning in by_metric["per_class_fid"]
    assert warning not in by_metric["fid"]


def test_a_reference_with_random_labels_is_warned_of(digits, tmp_path):
    np.savez(tmp_path / "real.npz", images=digits.train.pixels.numpy(), labels=np.arange(1437) % 10)
    np.savez(tmp_path / "fake.npz", images=digits.test.pixels.numpy(), labels=digits.test.labels.numpy())
    found = genbench.score(fake=tmp_path / "fake.npz", reference=tmp_path / "real.npz", features="pixels",
                           metrics=["per_class_fid"], device="cpu")  # fmt: skip
    assert [f.code for f in found.reference_findings if "labels" in f.code] == ["labels-random"]


def test_labels_with_their_numbers_exchanged_are_warned_of(digits):
    fake, real = (split.pixels.flatten(1).numpy().astype(np.float32) for split in (digits.test, digits.train))
    labels, known = digits.test.labels.numpy(), digits.train.labels.numpy()
    assert label_findings(fake, labels, real, known) == ((), ())
    ((finding,), none) = label_findings(fake, (labels + 1) % 10, real, known)
    assert finding.code == "labels-renamed"
    assert "after renaming, as 0 to 9" in finding.found
    assert none == ()


def test_random_labels_pass_as_often_as_stated(digits):
    from genbench.lint.labels import label_agreement

    rows, known = digits.test.pixels.flatten(1).float().numpy(), digits.train.pixels.flatten(1).float().numpy()
    rng, errors = np.random.default_rng(0), []
    for _ in range(400):
        seen = label_agreement(rows, rng.permutation(digits.test.labels.numpy()), known, digits.train.labels.numpy())
        share = seen.chance / seen.n
        errors.append((seen.hits - seen.chance) / (seen.n * share * (1 - share)) ** 0.5)
    assert abs(np.mean(errors)) < 4 / 400**0.5
    assert np.std(errors) == pytest.approx(1, abs=0.12)
    assert max(errors) < 4


def test_a_suite_takes_labels_of_its_classes_alone(digits, tmp_path):
    np.savez(tmp_path / "x.npz", images=digits.test.pixels.numpy(), labels=digits.test.labels.numpy() + 1)
    numbers, reason = data.wished_classes(tmp_path / "x.npz", digits.spec, DIGITS)
    assert reason == "x.npz: labels go up to 10, but the classes are 0 to 9"
    assert numbers is None


# ---- samples of a suite ----------------------------------------------------------------------------------------------


def wishes(folder: Path) -> tuple[list[int] | None, str]:
    numbers, reason = data.wished_classes(
        folder, data.load({"name": "digits"}).spec, data.classes_of({"name": "digits"}, 10)
    )
    return None if numbers is None else numbers.tolist(), reason


def test_a_folder_of_samples_has_the_classes_of_its_folders_its_table_or_its_captions(digits, tmp_path):
    few = data.Split(digits.test.pixels[:4], digits.test.labels[:4])
    assert wishes(tree(tmp_path / "folders", few, ["3", "1", "4", "1"])) == ([1, 1, 3, 4], "")
    flat = tree(tmp_path / "flat", few, [".", ".", ".", "."])
    assert wishes(flat) == (None, data.NOT_LABELLED)
    (flat / "metadata.csv").write_text("file_name,label\n" + "".join(f"0000{i}.png,{9 - i}\n" for i in range(4)))
    assert wishes(flat) == ([9, 8, 7, 6], "")
    captions = data.captions_of({"name": "digits"})
    lines = [f'{{"file_name": "0000{i}.png", "text": "{captions[i + 2]}"}}' for i in range(4)]
    (flat / "metadata.csv").unlink()
    (flat / "metadata.jsonl").write_text("\n".join(lines))
    assert wishes(flat) == ([2, 3, 4, 5], "")
    (flat / "metadata.jsonl").write_text("\n".join(lines).replace(captions[2], "a cat"))
    assert "1 of 4 labels name no class: 'a cat'" in wishes(flat)[1]


@pytest.mark.parametrize(
    ("classes", "drawn"),
    [
        (["cat", "ape"], ["Cat", "Ape", "Cat", "Cat"]),  # ape is class 0, and its pictures are the first
        (["7", "3"], ["7", "3", "7", "7"]),
        (["cat", "ape"], ["1", "0", "1", "1"]),
    ],
)
def test_classes_of_your_own_pictures_have_the_names_of_their_folders(digits, tmp_path, classes, drawn):
    many = data.Split(digits.test.pixels[:20])
    entry = {"name": "folder", "path": str(tree(tmp_path / "data", many, classes * 10)), "label": "digits"}
    known = data.classes_of(entry, 2)
    assert sorted(names[0] for names in known.names) == sorted(classes)
    few = tree(tmp_path / "drawn", data.Split(digits.test.pixels[:4]), drawn)
    wished, reason = data.wished_classes(few, data.describe(entry)[0], known)
    assert (wished.tolist(), reason) == ([0, 1, 1, 1], "")


def test_a_dataset_keeps_its_classes_under_another_label():
    assert data.classes_of({"name": "digits", "label": "again"}, 10) == data.classes_of({"name": "digits"}, 10)


def test_other_labels_of_the_same_samples_are_another_row(digits, tmp_path):
    suite = {
        "suite": "s",
        "dataset": {"name": "digits"},
        "features": "pixels",
        "samples": 4,
        "metrics": ["fid", "class_accuracy"],
    }
    keys = set()
    for names in (["3", "1", "4", "1"], ["3", "1", "4", "2"]):
        folder = tree(tmp_path / "".join(names), data.Split(digits.test.pixels[:4]), names)
        plan = make_plan(
            Suite.model_validate(
                suite | {"features": "classifier", "models": [{"name": "theirs", "samples": str(folder)}]}
            )
        )
        assert not [m.reason for m in plan.cells[0].metrics if m.reason]
        keys.add(plan.cells[0].samples_key)
    assert len(keys) == 2
