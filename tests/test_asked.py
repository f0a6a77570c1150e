"""Whole runs of models that are asked for something: classes to show, images to translate."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genbench import data, features, metrics
from genbench.metrics.readings.images import unit_images
from genbench.records import OK, Record
from genbench.runner.run import run
from genbench.suite.schema import Suite

TOYS = Path(__file__).parent / "toys.py"
N = 200


def found(tmp_path: Path, name: str, dataset: dict, names: list[str], **more) -> dict[tuple[str, str], Record]:
    suite = Suite.model_validate({
        "suite": "asked", "dataset": dataset, "samples": N, "models": [{"name": "toy", "source": f"{TOYS}:{name}"}],
        "metrics": names, **more,
    })  # fmt: skip
    return {(r.model, r.metric): r for r in run(suite, out=tmp_path).records}


@pytest.fixture(scope="module")
def classes(tmp_path_factory) -> dict[tuple[str, str], Record]:
    names = ["fid", "class_accuracy", "per_class_fid", "cas", "memorised", "vendi"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        return found(tmp_path_factory.mktemp("out"), "Prototypes", {"name": "digits"}, names)


def test_the_mean_of_a_class_is_seen_as_that_class(classes):
    record = classes["toy", "class_accuracy"]
    assert record.value >= 0.9
    assert record.protocol["features"]["extractor"] == "digits-classifier"
    assert classes["held-out real", "class_accuracy"].reason == "a scale row is drawn without requested classes"


def test_a_classifier_can_learn_from_one_picture_a_class(classes):
    assert 0.5 < classes["toy", "cas"].value < 1
    assert classes["toy", "cas"].n_real == 360


def test_too_few_of_a_class_is_no_failure(classes):
    record = classes["toy", "per_class_fid"]
    assert record.status == "n/a"
    assert "needs at least 25 of each" in record.reason


def test_ten_pictures_are_as_diverse_as_ten_and_are_reported_as_copies_of_each_other(classes):
    assert classes["toy", "vendi"].value == pytest.approx(6, abs=4)
    assert any("repeat another one exactly" in warning for warning in classes["toy", "fid"].warnings)


def test_the_memorised_training_set_trips_its_column(classes):
    assert classes["memorised train", "memorised"].value == 1
    assert classes["held-out real", "memorised"].value < 0.02


def test_a_translator_that_does_nothing(tmp_path):
    names = ["cycle_error", "paired_l1", "paired_ssim", "fid", "fid_a_to_b", "fid_b_to_a", "latency"]
    entry = {"name": "edges", "of": "digits"}
    records = found(tmp_path, "Same", entry, names, speed={"batch": 4, "seconds": 0.01})
    assert all(r.status == OK for (model, _), r in records.items() if model == "toy")
    dataset = data.load(entry)
    pictures, drawn = dataset.source.test.pixels[:N], dataset.test.pixels[:N]
    difference = np.abs(unit_images(pictures, 17) - unit_images(drawn, 17)).mean()
    assert records["toy", "cycle_error"].value == 0
    assert records["toy", "paired_l1"].value == pytest.approx(difference, rel=1e-6)
    assert records["toy", "paired_ssim"].value < 0.5
    seen = features.load_extractor("classifier", "digits")
    fakes, reals = (seen(pixels, 17).vectors for pixels in (drawn, dataset.source.train.pixels))
    expected = metrics.frechet_distance(fake=fakes, real=reals)
    assert records["toy", "fid_b_to_a"].value == pytest.approx(expected, rel=1e-9)
    assert records["toy", "fid"].value == pytest.approx(records["toy", "fid_a_to_b"].value, rel=1e-9)
    assert (tmp_path / "figures" / "samples-toy-s0.png").is_file()
    for name in ("fid_b_to_a", "cycle_error"):
        protocol = records["toy", name].protocol
        assert (protocol["features"]["extractor"], protocol["data"]["n_fake"]) == ("digits-classifier", N)
