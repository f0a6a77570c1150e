"""`genbench score`: the numbers of a suite, for images made elsewhere, in bounded memory, with one-line answers."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from random_weights import blots, write_inception
from torch import Tensor
from typer.testing import CliRunner

import genbench
from genbench import data, features, metrics
from genbench.cli import app
from genbench.data.images import InMemory, Pictures, open_images
from genbench.errors import GenbenchError
from genbench.evaluate import score as scoring
from genbench.evaluate.cell import evaluate
from genbench.features import Features
from genbench.metrics import readings
from genbench.metrics.base import Metric, Reading, Value
from genbench.metrics.facts import Arguments
from genbench.plan.planner import make_plan
from genbench.progress import silent
from genbench.records import read_records, write_records
from genbench.store import Kind, Store
from genbench.suite.schema import read_suite


@pytest.fixture(scope="module")
def digits() -> data.Dataset:
    return data.load({"name": "digits"})


def random_images(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def write_pictures(folder: Path, images: np.ndarray, suffix: str = "png") -> Path:
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:05}.{suffix}")
    return folder


def saved(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def by_pixels(fake, reference, **more) -> scoring.Scores:
    return genbench.score(fake=fake, reference=reference, features="pixels", device="cpu", **more)


def message(call, *arguments, **options) -> str:
    with pytest.raises(GenbenchError) as caught:
        call(*arguments, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


# --- the numbers


def test_values_are_the_metrics_of_the_features(digits):
    found = by_pixels(digits.test.pixels.numpy(), "digits")
    rows = [(part.pixels.flatten(1).float() / 16).numpy() for part in (digits.test, digits.train)]
    assert found.values["fid"] == pytest.approx(metrics.frechet_distance(fake=rows[0], real=rows[1]), rel=1e-9)
    assert found.values["kid"] == pytest.approx(metrics.kernel_distance(fake=rows[0], real=rows[1]), rel=1e-9)
    scores = metrics.precision_recall(fake=rows[0], real=rows[1])
    assert (found.values["precision"], found.values["recall"]) == (scores.precision, scores.recall)
    assert list(found.values) == ["fid", "kid", "precision", "recall", "density", "coverage"]  # pixels: no classes
    assert {r.n_fake for r in found.records} == {360}
    assert {r.n_real for r in found.records} == {1437}


def test_records_are_those_of_a_suite_with_the_same_samples(digits, tmp_path):
    saved(tmp_path / "theirs.npz", images=digits.test.pixels.numpy())
    (tmp_path / "s.yaml").write_text(
        "suite: s\ndataset: {name: digits}\nsamples: 360\nmodels: [{name: theirs, samples: theirs.npz}]\n"
        "metrics: [fid, is, precision, coverage]\n"
    )
    cell = make_plan(read_suite(tmp_path / "s.yaml")).cells[0]
    suite = evaluate(cell, False, Store(tmp_path / "store"), "cpu", silent)
    found = genbench.score(
        fake=tmp_path / "theirs.npz", reference="digits", metrics=["fid", "is", "precision", "coverage"], device="cpu"
    )
    assert found.identity["extractor"] == "digits-classifier"  # the default beside a dataset that has one
    assert [r.value for r in found.records] == [r.value for r in suite]
    assert [r.protocol_hash for r in found.records] == [r.protocol_hash for r in suite]
    write_records(tmp_path / "r.jsonl", found.records)
    assert read_records(tmp_path / "r.jsonl") == list(found.records)


@pytest.mark.slow
def test_folders_score_as_torch_fidelity_scores_them(tmp_path):
    from torch_fidelity import calculate_metrics

    weights = write_inception(tmp_path / "inception.pth")
    folders = [
        write_pictures(tmp_path / name, pixels.permute(0, 2, 3, 1).numpy())
        for name, pixels in (("fake", blots(24, 1)), ("real", blots(24, 2, cells=5)))
    ]
    found = genbench.score(fake=folders[0], reference=folders[1], weights=weights, device="cpu").values
    theirs = calculate_metrics(
        input1=str(folders[0]), input2=str(folders[1]), feature_extractor_weights_path=str(weights), isc=True, fid=True,
        kid=True, prc=True, prc_neighborhood=3, kid_subsets=1, kid_subset_size=24, cuda=False, cache=False,
        feature_extractor="inception-v3-compat", verbose=False, save_cpu_ram=True,
    )  # fmt: skip
    assert found["is"] == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert found["kid"] == pytest.approx(theirs["kernel_inception_distance_mean"], abs=2e-6)  # of terms near 1, float32
    assert (found["precision"], found["recall"]) == pytest.approx((theirs["precision"], theirs["recall"]))
    # With N < D their eigenvalues err: their formula gives their number, and not the exact one, on our features too.
    assert found["fid"] == pytest.approx(theirs["frechet_inception_distance"], rel=5e-5)


def test_inception_is_the_default_elsewhere_and_says_what_it_needs(tmp_path, monkeypatch):
    for name in ("GENBENCH_WEIGHTS", "GENBENCH_DOWNLOAD"):
        monkeypatch.delenv(name, raising=False)
    for name in ("XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "no"))
    images = random_images(20, 8, 8)
    text = message(genbench.score, fake=images, reference=images)
    assert text.startswith("inception-v3-compat: weights-inception-2015-12-05-6726825d.pth (SHA-256 6726825d")
    assert text.endswith("; or choose `--features pixels`, which needs no weights")
    assert message(genbench.score, fake=images, reference="digits", resize="clean").startswith("inception-v3-compat: ")


@pytest.mark.parametrize("kind", ["folder", "nested", "npy", "npz", "arr_0", "samples", "hwc", "webp", "bmp"])
def test_every_kind_of_input_gives_the_same_numbers(kind, tmp_path):
    images, real = random_images(60, 8, 8, 3), random_images(50, 8, 8, 3, seed=1)
    expected = by_pixels(images, real).values
    if kind == "folder":
        given = write_pictures(tmp_path / "x", images)
    elif kind == "nested":
        given = write_pictures(tmp_path / "x" / "0" / "deep", images[:20]).parent.parent
        write_pictures(given / "1", images[20:])
    elif kind == "webp":
        given = tmp_path
        for i, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / f"{i:03}.webp", lossless=True)
    elif kind == "bmp":
        given = write_pictures(tmp_path / "x", images, "bmp")
    elif kind == "npy":
        given = tmp_path / "x.npy"
        np.save(given, images.transpose(0, 3, 1, 2))
    else:
        name = {"npz": "images", "hwc": "images"}.get(kind, kind)
        np.savez_compressed(tmp_path / "x.npz", **{name: images})
        given = tmp_path / "x.npz"
    found = by_pixels(given, real)
    assert found.values == expected
    assert "lossy" not in [f.code for f in found.findings]


def test_jpeg_and_alpha_are_seen_in_the_files(tmp_path):
    images = random_images(20, 8, 8, 4)
    write_pictures(tmp_path / "alpha", images)
    write_pictures(tmp_path / "jpeg", images[..., :3], "jpg")
    found = by_pixels(tmp_path / "jpeg", tmp_path / "alpha", metrics=["fid"])
    assert f"20 of 20 pictures are JPEG or lossy WebP, first {tmp_path}/jpeg/00000.jpg" in [
        f.found for f in found.findings
    ]
    assert [f.code for f in found.reference_findings] == ["alpha", "too-few"]
    assert found.records[0].warnings == found.warnings
    assert any(text.startswith("reference: 20 of 20 pictures are transparent in places") for text in found.warnings)


def test_webp_is_lossy_or_not(tmp_path):
    image = Image.fromarray(random_images(16, 16, 3))
    image.save(tmp_path / "a.webp", lossless=True)
    image.save(tmp_path / "b.webp", quality=80)
    assert Pictures(tmp_path).found.notes["lossy"].first == str(tmp_path / "b.webp")


def test_a_class_tree_is_labelled_by_its_folders(tmp_path):
    images = random_images(40, 8, 8)
    for name, part in zip(("dog", "cat"), (images[:20], images[20:]), strict=True):
        write_pictures(tmp_path / "t" / name / "deep", part)
    tree = Pictures(tmp_path / "t")
    assert tree.classes == ("cat", "dog")
    assert tree.labels.tolist() == [0] * 20 + [1] * 20
    for number in (10, 9):
        write_pictures(tmp_path / "n" / str(number), images[:3])
    assert Pictures(tmp_path / "n").labels.tolist() == [9, 9, 9, 10, 10, 10]
    write_pictures(tmp_path / "t" / "cat" / "x", images[:1])
    Image.fromarray(images[0]).save(tmp_path / "t" / "loose.png")
    assert Pictures(tmp_path / "t").labels is None


def test_labels_lie_beside_the_images(tmp_path):
    images, labels = random_images(6, 4, 4), np.arange(6)
    assert open_images(saved(tmp_path / "a.npz", images=images, labels=labels)).labels.tolist() == labels.tolist()
    assert open_images(saved(tmp_path / "b.npz", arr_0=images, arr_1=labels)).labels.tolist() == labels.tolist()
    assert open_images(saved(tmp_path / "c.npz", arr_0=images, arr_1=images)).labels is None


def test_metrics_of_every_kind_read_what_they_declare(digits, monkeypatch, tmp_path):
    seen = {}

    def recording(name, reads):
        def compute(**arguments):
            seen[name] = {k: getattr(v, "shape", v) for k, v in arguments.items()}
            return Value(1.0)

        abilities = ("LikelihoodBound",) if reads is readings.LIKELIHOOD else ()
        return Metric(name, name, 1, "lower", "", reads, compute, abilities)

    all_readings = [
        readings.GENERATED, readings.MEMORY, readings.PIXELS, readings.BY_CLASS, readings.CONDITION, readings.LABELLED,
        readings.LIKELIHOOD, readings.COST, readings.PATHS,
    ]  # fmt: skip
    kinds = [reading.name for reading in all_readings]
    monkeypatch.setattr(metrics, "get", {r.name: recording(r.name, r) for r in all_readings}.__getitem__)
    saved(tmp_path / "x.npz", images=digits.test.pixels.numpy(), labels=digits.test.labels.numpy())
    found = genbench.score(fake=tmp_path / "x.npz", reference="digits", metrics=kinds, device="cpu")
    assert found.failed == []
    near = seen["memory"].pop("near")
    assert (near.fake.shape, near.real.shape) == ((360, 64), (1437, 64))
    assert seen["memory"] == {"fake": (360, 64), "train": (1437, 64), "held_out": (360, 64)}
    assert seen["by class"] == {
        "fake": (360, 64), "real": (1437, 64), "fake_labels": (360,), "real_labels": (1437,),
    }  # fmt: skip
    assert seen["condition"] == {"probabilities": (360, 10), "labels": (360,)}
    assert seen["pixels"] == {"fake": (360, 64), "real": (1437, 64)}
    assert seen["labelled"]["real"] == (360, 1, 8, 8)
    assert {r.metric: r.reason for r in found.records if r.status == "n/a"} == dict.fromkeys(
        ("likelihood", "cost", "paths"), "samples only: there is no network"
    )
    unlabelled = by_pixels(digits.test.pixels.numpy(), digits.train.pixels.numpy(), metrics=kinds)
    assert {r.metric: r.reason for r in unlabelled.records if r.status == "n/a" and "network" not in r.reason} == {
        "memory": "needs a dataset's name as reference, for its train and its test split",
        "labelled": "needs a dataset's name as reference, for its train and its test split",
        "by class": "needs labels of both sets: folders named by class, or labels in an .npz",
        "condition": "features 'pixels' give no class probabilities",
    }


BROKEN = """
from genbench.metrics.base import Metric
from genbench.metrics.readings import FEATURES


def broken(*, fake, real):
    raise ValueError("planted failure")


BROKEN = Metric("broken", "Broken", 1, "lower", "share", FEATURES, broken)
"""


def broken_metric(folder) -> str:
    (folder / "broken.py").write_text(BROKEN)
    return f"{folder}/broken.py:BROKEN"


def test_a_metric_that_fails_becomes_a_record_and_the_others_stand(tmp_path):
    kinds = ["fid", broken_metric(tmp_path)]
    found = by_pixels(random_images(4, 8, 8), random_images(50, 8, 8, seed=1), metrics=kinds)
    assert [r.status for r in found.records] == ["ok", "failed"]
    assert found.failed[0].reason.startswith("ValueError: planted failure (broken.py:7, in broken)")
    assert "failed: broken: ValueError: planted failure" in found.table()


def test_too_few_samples_are_not_applicable_as_in_a_suite():
    images = random_images(40, 8, 8)
    (record,) = by_pixels(images, random_images(50, 8, 8, seed=1), metrics=["fd_infinity"]).records
    assert (record.status, record.value) == ("n/a", None)
    assert record.reason.startswith("fd_infinity: 40 generated samples make 8 groups too small for 64 features")


class Brightness(Reading):
    """A reading of a plug-in: the mean level of each generated image."""

    name = "brightness"
    depends_on = ("samples",)
    of_samples = True

    def read(self, inputs, metric):
        levels = inputs.generated.pixels.float().flatten(1).mean(1).numpy()
        return Arguments({"brightness": levels}, len(levels))


def test_a_reading_of_a_plug_in_needs_no_change_elsewhere(monkeypatch):
    metric = Metric("bright", "Bright", 1, "higher", "level", Brightness(), lambda brightness: Value(brightness.mean()))
    monkeypatch.setattr(metrics, "get", {**metrics.BUILT_IN, "bright": metric}.__getitem__)
    images = random_images(40, 8, 8)
    (record,) = by_pixels(images, random_images(50, 8, 8, seed=1), metrics=["bright"]).records
    assert record.value == pytest.approx(images.astype(float).mean())
    assert record.protocol["data"]["n_fake"] == 40
    assert record.protocol["features"] == {}


def test_grey_and_colour_meet_where_nothing_is_lost(tmp_path):
    grey = random_images(30, 8, 8)
    colour = np.repeat(grey[..., None], 3, axis=3)
    write_pictures(tmp_path / "grey", grey)
    write_pictures(tmp_path / "colour", colour)
    for fake, real in [("grey", colour), ("grey", tmp_path / "colour"), ("colour", grey), (colour, "grey")]:
        sides = [tmp_path / x if isinstance(x, str) else x for x in (fake, real)]
        assert by_pixels(*sides, metrics=["fid"]).values == {"fid": pytest.approx(0, abs=1e-9)}
    write_pictures(tmp_path / "true", random_images(2, 8, 8, 3))
    assert message(by_pixels, tmp_path / "true", grey) == (
        f"{tmp_path}/true/00000.png: a picture in colour, allowed: grey, as what it is compared with"
    )


# --- one set beside itself, and the cache


def test_the_same_set_twice_is_said(tmp_path):
    path = write_pictures(tmp_path / "x", random_images(40, 8, 8))
    assert (
        "the two sets are one and the same: distances of 0 and shares of 1, which say nothing"
        in by_pixels(path, path).warnings
    )


def counting(monkeypatch) -> list[int]:
    calls: list[int] = []
    original = features.load_extractor

    def load(*arguments, **options):
        extractor = original(*arguments, **options)

        def extract(pixels, levels, batch=500):
            calls.append(len(pixels))
            return extractor(pixels, levels, batch)

        return extract

    monkeypatch.setattr(features, "load_extractor", load)
    return calls


def test_the_reference_is_extracted_once_whatever_its_files_are_called(tmp_path, monkeypatch):
    images, calls = random_images(700, 8, 8, seed=1), counting(monkeypatch)
    first = by_pixels(random_images(60, 8, 8), write_pictures(tmp_path / "a", images))
    assert sorted(calls) == [60, 200, 500]
    second = by_pixels(random_images(60, 8, 8), write_pictures(tmp_path / "renamed", images))
    assert sorted(calls) == [60, 60, 200, 500]
    assert first.values == second.values
    assert [r.protocol_hash for r in first.records] == [r.protocol_hash for r in second.records]
    images[3, 2, 1] ^= 1
    by_pixels(random_images(60, 8, 8), write_pictures(tmp_path / "changed", images))
    assert sorted(calls) == [60, 60, 60, 200, 200, 500, 500]


def test_a_damaged_cache_is_made_again(tmp_path):
    fake, real = random_images(60, 8, 8), random_images(50, 8, 8, seed=1)
    expected = by_pixels(fake, real).values
    for entry in Store().entries():
        assert entry.kind in (Kind.FEATURES, Kind.REFERENCES)
        for file in entry.path.glob("*.npz"):
            file.write_bytes(b"nothing")
    assert by_pixels(fake, real).values == expected


# --- bounded memory


class Mean:
    """An extractor whose features take no room."""

    name, weights_hash = "mean", "none"

    def __call__(self, pixels: Tensor, levels: int, batch: int = 500) -> Features:
        return Features(pixels.float().mean((2, 3)).numpy())


@pytest.mark.parametrize("kind", ["npy", "npz", "compressed", "folder"])
def test_memory_does_not_grow_with_the_number_of_images(kind, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "load_extractor", lambda *_, **__: Mean())
    monkeypatch.setattr("genbench.data.image_set.BYTES", 1 << 20)
    images = np.tile(random_images(64, 64, 64, 3), (40, 1, 1, 1))  # 2,560 images, 30 MiB
    if kind == "folder":
        path = write_pictures(tmp_path / "x", images[:960])
    else:
        path = tmp_path / ("x.npy" if kind == "npy" else "x.npz")
        {"npy": np.save, "npz": np.savez, "compressed": np.savez_compressed}[kind](path, images)
    del images
    reference = random_images(50, 64, 64, 3, seed=1)
    by_pixels(reference[:10], reference, metrics=["fid"])  # imports
    tracemalloc.start()
    found = by_pixels(path, reference, metrics=["fid"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.records[0].n_fake in (960, 2560)
    assert peak < 8 << 20


def test_batches_hold_every_image_in_order(tmp_path, monkeypatch):
    images = random_images(70, 8, 6)
    np.save(tmp_path / "x.npy", images)
    write_pictures(tmp_path / "x", images)
    monkeypatch.setattr("genbench.data.image_set.BYTES", 8 * 6 * 32)
    for path in (tmp_path / "x.npy", tmp_path / "x"):
        parts = list(open_images(path).batches())
        assert [len(part) for part in parts] == [32, 32, 6]
        assert np.array_equal(torch.cat(parts)[:, 0].numpy(), images)


def test_the_source_hash_of_an_array_is_over_its_content():
    a, b = (InMemory("x", torch.from_numpy(random_images(9, 1, 4, 4, seed=seed))) for seed in (0, 1))
    assert a.source_hash == InMemory("y", a.pixels.clone()).source_hash != b.source_hash
    assert a.source_hash != InMemory("x", a.pixels.reshape(9, 1, 2, 8)).source_hash


# --- one line each


def bad_inputs(folder: Path) -> dict[str, tuple[Path | str, str]]:
    images, png = random_images(5, 4, 4), folder / "broken" / "00001.png"
    for name in ("broken", "mixed"):
        write_pictures(folder / name, images)
    png.write_bytes(png.read_bytes()[:50])
    Image.new("L", (5, 4)).save(folder / "mixed" / "z.png")
    (folder / "empty").mkdir()
    unit = images.astype(np.float32) / 255
    np.save(folder / "nan.npy", np.where(unit > 0.5, np.nan, unit))
    np.save(folder / "cut.npy", images)
    (folder / "cut.npy").write_bytes((folder / "cut.npy").read_bytes()[:-20])
    (folder / "x.npz").write_bytes(b"PK\x03\x04 nothing")
    objects = folder / "objects.npy"
    np.save(objects, np.array([None, 1]), allow_pickle=True)
    return {
        "broken": (folder / "broken", f"{png}: not a readable image: "),
        "mixed": (
            folder / "mixed",
            f"{folder}/mixed/z.png: 4x5 pixels (height x width), but {folder}/mixed/00000.png has 4x4; all of a set",
        ),
        "empty": (folder / "empty", f"{folder}/empty: no images in this folder; allowed: the formats"),
        "unit": (saved(folder / "unit.npz", images=unit), "images of float32 from 0"),
        "signed": (saved(folder / "signed.npz", images=unit * 2 - 1), "numpy.rint((x + 1) * 127.5).astype('uint8')"),
        "nan": (folder / "nan.npy", " values not finite; allowed: uint8 grey-level indices"),
        "missing": (
            "no/such",
            "fake 'no/such': no such file or folder, and no dataset of that name; allowed: a folder",
        ),
        "dataset": ("digit", "no dataset of that name; did you mean 'digits'? allowed: a folder of images, .npz, .npy"),
        "split": ("digits:val", "fake 'digits:val': unknown split 'val', allowed: train, test"),
        "four": (
            saved(folder / "four.npz", images=random_images(2, 4, 4, 4)),
            "images of shape (2, 4, 4, 4), allowed: ",
        ),
        "none": (saved(folder / "none.npz", images=images[:0]), "images of shape (0, 1, 4, 4), allowed: "),
        "keys": (saved(folder / "keys.npz", x=images), "holds x, allowed: images, samples or arr_0, and labels"),
        "cut": (folder / "cut.npy", f"{folder}/cut.npy: ends within image 3 of 5"),
        "zip": (folder / "x.npz", f"{folder}/x.npz: not a readable array file: File is not a zip file"),
        "objects": (objects, "holds Python objects, allowed: uint8 grey-level indices"),
    }


CASES = ("broken", "mixed", "empty", "unit", "signed", "nan", "missing", "dataset", "split", "four", "none",
         "keys", "cut", "zip", "objects")  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_set_that_cannot_be_read_is_one_line(case, tmp_path):
    given, expected = bad_inputs(tmp_path)[case]
    assert expected in message(by_pixels, given, random_images(20, 4, 4))


def test_sets_that_cannot_be_compared_are_one_line(digits, tmp_path):
    small, large = random_images(9, 4, 4), random_images(9, 5, 4)
    assert message(by_pixels, small, large) == (
        "fake: images of (channels, height, width) (1, 4, 4), but reference has (1, 5, 4); they must agree, as pixels "
        "does not resize"
    )
    assert message(by_pixels, random_images(9, 4, 4, 3), small).startswith(
        "fake: images of (channels, height, width) (3,"
    )
    assert message(by_pixels, random_images(9, 8, 8), "digits").endswith("allowed: grey-level indices 0 to 16")
    assert message(by_pixels, small, small, metrics=["fidd"]).startswith("unknown metric 'fidd'; did you mean 'fid'?")
    assert message(by_pixels, small, small, metrics=["is", "bits_per_dim"]) == (
        "--metrics: none of them is available: is: features 'pixels' give no class probabilities; "
        "bits_per_dim: samples only: there is no network"
    )
    assert "unknown features 'pixel'; did you mean 'pixels'?" in message(
        genbench.score, fake=small, reference=small, features="pixel"
    )


# --- the command


def test_the_command_prints_a_table_or_pure_json(digits, tmp_path):
    path = saved(tmp_path / "x.npz", images=digits.test.pixels.numpy())
    score = ["score", str(path), "--reference", "digits", "--device", "cpu", "--json"]
    done = CliRunner().invoke(app, [*score, "-", "--metrics", "fid,is,bits_per_dim"])
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert [(r["metric"], r["status"]) for r in found["records"]] == [
        ("fid", "ok"), ("is", "ok"), ("bits_per_dim", "n/a"),
    ]  # fmt: skip
    assert found["warnings"][0]["code"] == "few"
    file = tmp_path / "deep" / "x.json"
    done = CliRunner().invoke(app, [*score, str(file), "--features", "pixels"])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("warning: 360 samples, fewer than 2,000")
    assert lines[1].split()[:2] == ["metric", "value"]
    assert lines[2].startswith("fid ")
    assert (
        lines[-2]
        == "protocol: extractor pixels, weights none, resize none, 360 generated images, 1,437 of digits:train"
    )
    assert json.loads(file.read_text())["records"][0]["metric"] == "fid"
    done = CliRunner().invoke(app, [*score[:-1], "--metrics", "fid,density", "--features", "pixels"])
    assert done.exit_code == 0


def test_a_metric_that_fails_closes_with_exit_code_1(tmp_path):
    path = saved(tmp_path / "x.npz", images=random_images(4, 8, 8) % 17)
    chosen = f"fid,{broken_metric(tmp_path)}"
    done = CliRunner().invoke(app, ["score", str(path), "--reference", "digits", "--metrics", chosen])
    assert (done.exit_code, "failed: broken: " in done.stdout) == (1, True)


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((5, 4, 4)))
    command = [sys.executable, "-m", "genbench.cli", "score", "x.npy", "--reference", "digits", "--features", "pixels"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("genbench: x.npy: images of float64 from 0 to 0; allowed: uint8 grey-level indices")
    assert done.stderr.count("\n") == 1


def test_help_of_score_imports_nothing_heavy():
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom genbench.cli import app\n"
        "assert CliRunner().invoke(app, ['score', '--help']).exit_code == 0\n"
        "print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
