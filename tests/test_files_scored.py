"""`genbench score` on files: warnings of the requested metrics alone, degenerate sets, and sets brought to one size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import genbench
from genbench import data, metrics
from genbench.cli import app
from genbench.lint import Finding, concerning
from genbench.lint.base import LABELS, REFERENCE


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def by_pixels(fake: object, reference: object, **more: object):
    return genbench.score(fake=fake, reference=reference, features="pixels", device="cpu", **more)


def test_a_finding_concerns_the_metrics_that_it_makes_wrong():
    def names(finding: Finding) -> set[str]:
        return {name for name in metrics.metric_names() if concerning((finding,), (metrics.get(name),))}

    assert names(Finding("x", "", "", metrics=("fid",))) == {"fid"}
    assert {"per_class_fid", "cas", "class_accuracy"} <= names(Finding("x", "", "", LABELS))
    assert names(Finding("x", "", "", LABELS)).isdisjoint({"fid", "is", "memorised"})
    assert {"fid", "kid", "sliced_wasserstein"} <= names(Finding("x", "", "", REFERENCE))
    assert names(Finding("x", "", "", REFERENCE)).isdisjoint({"is", "vendi", "memorised"})
    assert {"is", "vendi", "memorised", "fid"} <= names(Finding("x", "", ""))
    assert names(Finding("x", "", "")).isdisjoint({"bits_per_dim", "latency", "ppl"})


@pytest.mark.parametrize(("name", "warned"), [("kid", False), ("fid", True), ("precision", True)])
def test_warnings_concern_the_requested_metrics(name, warned):
    found = by_pixels(random_images(60, 8, 8), random_images(70, 8, 8, seed=1), metrics=[name])
    assert bool(found.warnings) == warned
    assert found.records[0].warnings == found.warnings
    assert not [w for w in found.warnings if "fid" in w.lower() and name != "fid"]
    assert ("warning" in found.table()) == warned


def test_each_record_has_the_warnings_of_its_metric():
    found = by_pixels(random_images(60, 8, 8), random_images(70, 8, 8, seed=1), metrics=["kid", "fid"])
    assert [bool(r.warnings) for r in found.records] == [False, True]


def test_two_black_sets_have_no_values(tmp_path):
    black = np.zeros((60, 8, 8), np.uint8)
    found = by_pixels(black, black.copy())
    assert {r.metric: r.status for r in found.records} == dict.fromkeys(
        ("fid", "kid", "precision", "recall", "density", "coverage"), "n/a"
    )
    assert found.failed == []
    assert all("samples are the same" in r.reason or "radius 0" in r.reason for r in found.records)


def test_four_samples_have_no_recall():
    found = by_pixels(random_images(4, 8, 8), random_images(80, 8, 8, seed=1), metrics=["recall", "fid"])
    assert found.records[0].reason == "4 generated samples; needs at least 30"
    assert found.records[1].status == "ok"
    assert "their covariance is singular" in found.records[1].warnings[-1]


def test_one_repeated_image_keeps_its_distance_and_a_warning():
    found = by_pixels(np.repeat(random_images(1, 8, 8), 80, axis=0), random_images(80, 8, 8, seed=1), metrics=["fid"])
    assert found.records[0].status == "ok"
    assert "79 of 80 images repeat another one exactly" in found.records[0].warnings[0]


# --- one size


def pictures(folder: Path, sizes: list[tuple[int, int]], seed: int) -> Path:
    folder.mkdir()
    for number, size in enumerate(sizes):
        Image.fromarray(random_images(*size, 3, seed=seed + number)).save(folder / f"{number:03}.png")
    return folder


def test_sets_of_different_sizes_are_brought_to_one_and_the_protocol_says_so(tmp_path):
    fake = pictures(tmp_path / "fake", [(20 + n % 3, 30) for n in range(40)], 0)
    real = tmp_path / "real.npz"
    np.savez(real, images=random_images(50, 12, 16, 3, seed=9))
    hashes = set()
    for how in ("crop", "stretch", "pad"):
        found = by_pixels(fake, real, metrics=["fid"], size=8, fit=how)
        assert found.failed == []
        assert found.records[0].protocol["data"]["size"] == 8
        assert found.records[0].protocol["data"]["fit"] == f"{how}, Lanczos (Pillow)"
        assert f"both sets resized to 8, {how}" in found.table()
        hashes.add((found.records[0].protocol_hash, found.records[0].key, found.values["fid"]))
    assert len({h for h, _, _ in hashes}) == len({k for _, k, _ in hashes}) == len({v for _, _, v in hashes}) == 3
    images = [Image.fromarray(image) for image in np.load(real)["images"]]
    expected = np.stack([np.asarray(image.resize((8, 8), Image.Resampling.LANCZOS)) for image in images])
    arrays = by_pixels(expected, expected[::-1].copy(), metrics=["fid"])
    assert by_pixels(real, expected, metrics=["fid"], size=8, fit="stretch").values["fid"] == pytest.approx(0, abs=1e-9)
    assert "size" not in arrays.records[0].protocol["data"]


def test_a_dataset_is_resized_within_its_grey_levels(tmp_path):
    digits = data.load({"name": "digits"})
    large = np.stack(
        [
            np.asarray(Image.fromarray(i[0].numpy()).resize((20, 20), Image.Resampling.NEAREST))
            for i in digits.test.pixels
        ]
    )
    np.savez(tmp_path / "x.npz", images=large, labels=digits.test.labels.numpy())
    found = by_pixels(tmp_path / "x.npz", "digits", size=12, metrics=["fid", "sliced_wasserstein", "memorised", "cas"])
    assert [(r.metric, r.status, r.reason) for r in found.records if r.status != "ok"] == []
    assert {r.protocol["data"]["size"] for r in found.records} == {12}


def test_the_command_takes_size_and_fit(tmp_path):
    fake = pictures(tmp_path / "fake", [(9, 12)] * 40, 0)
    real = pictures(tmp_path / "real", [(12, 9)] * 40, 50)
    score = ["score", str(fake), "--reference", str(real), "--features", "pixels", "--metrics", "kid"]
    done = CliRunner().invoke(app, [*score, "--size", "8", "--fit", "pad"])
    assert done.exit_code == 0
    assert "both sets resized to 8, pad, Lanczos (Pillow)" in done.stdout
    assert CliRunner().invoke(app, score).exit_code != 0


def test_what_was_done_to_pictures_reaches_the_records_of_a_suite(tmp_path):
    from genbench.evaluate.cell import evaluate
    from genbench.plan.planner import make_plan
    from genbench.progress import silent
    from genbench.store import Store
    from genbench.suite.schema import read_suite

    digits = data.load({"name": "digits"})
    (tmp_path / "theirs").mkdir()
    for number, pixels in enumerate(digits.test.pixels[:120]):
        tags = Image.Exif()
        tags[0x0112] = 3 if number < 7 else 1
        Image.fromarray(pixels[0].numpy()).save(tmp_path / "theirs" / f"{number:03}.png", exif=tags)
    (tmp_path / "theirs" / "notes.txt").write_text("nothing")
    (tmp_path / "s.yaml").write_text(
        "suite: s\ndataset: {name: digits}\nsamples: 120\nmodels: [{name: theirs, samples: theirs}]\nmetrics: [fid]\n"
    )
    cell = make_plan(read_suite(tmp_path / "s.yaml")).cells[0]
    (record,) = evaluate(cell, False, Store(tmp_path / "store"), "cpu", silent)
    assert [w for w in record.warnings if w.startswith("7 of 120 pictures are turned or mirrored by their EXIF")]
    assert [w for w in record.warnings if w.startswith("1 files (1 .txt) are no pictures")]
