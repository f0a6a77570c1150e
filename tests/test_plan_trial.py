"""What cannot work is refused while planning, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genbench.contract import DataSpec
from genbench.errors import SuiteError
from genbench.plan.planner import make_plan
from genbench.sources.build import load_model, write_weights
from genbench.suite.schema import Suite


def plan(*models: dict[str, object], dataset: dict[str, object] | None = None, **more: Any):
    """The plan of a suite as `genbench plan` makes it."""
    keys = {"suite": "s", "dataset": dataset or {"name": "digits"}, "features": "pixels", "metrics": ["fid"]}
    return make_plan(Suite.model_validate({**keys, "samples": 60, **more, "models": list(models)}), try_models=True)


def array_data(path: Path, height: int, width: int, n: int = 40, labels: object = None) -> dict[str, object]:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 1, height, width), dtype=np.uint8)
    np.savez(path / "data.npz", images=pixels, **({} if labels is None else {"labels": labels}))
    return {"name": "npz", "path": str(path / "data.npz")}


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        (
            "glow",
            (5, 7),
            r"models\[0\]: Glow: found 5x7 images, allowed: even sides, such as 6x8; sizes that work: 4x8, 8x8$",
        ),
        ("dcgan", (1, 1), r"models\[0\]: DCGAN: config\.doublings: .*1x1 images; sizes that work: 2x2, 4x4, 8x8$"),
    ],
)
def test_a_size_that_a_model_cannot_have_is_refused(tmp_path, name, size, words):
    with pytest.raises(SuiteError, match=words):
        plan({"name": name}, dataset=array_data(tmp_path, *size))


def test_a_constructor_that_raises_is_refused_with_its_reason(tmp_path):
    (tmp_path / "m.py").write_text(
        "from genbench.contract import Draws\n\n\nclass Bad(Draws):\n"
        "    def __init__(self, *a, **k):\n        super().__init__(*a, **k)\n        raise KeyError('width')\n\n"
        "    def sample(self, n, gen, condition=None):\n        return None\n"
    )
    with pytest.raises(SuiteError, match=r"models\[1\]: Bad cannot be built for images of 1x8x8: KeyError: 'width'"):
        plan({"name": "vae"}, {"name": f"{tmp_path}/m.py:Bad"})


def test_weights_that_do_not_fit_are_refused(tmp_path):
    data = DataSpec(1, 8, 8, 17, 10)
    write_weights(load_model("vae", data=data), tmp_path / "vae.safetensors")
    assert plan({"name": "vae", "weights": str(tmp_path / "vae.safetensors")})
    expected = r"models\[0\]\.weights: .*vae\.safetensors: does not fit GAN: 0 of its [^;]*;\n  \d+ missing: "
    with pytest.raises(SuiteError, match=expected):
        plan({"name": "gan", "weights": str(tmp_path / "vae.safetensors")})


def test_a_file_with_too_few_images_is_refused(tmp_path):
    np.save(tmp_path / "fifty.npy", np.zeros((50, 8, 8), dtype=np.uint8))
    entry = {"name": "theirs", "samples": str(tmp_path / "fifty.npy")}
    with pytest.raises(SuiteError, match=r"models\[0\]\.samples: found 50 images, allowed: at least 60"):
        plan(entry)
    assert plan(entry, samples=50)


def test_a_file_with_other_grey_levels_is_refused(tmp_path):
    np.save(tmp_path / "sixty.npy", np.full((60, 8, 8), 17, dtype=np.uint8))
    with pytest.raises(SuiteError, match=r"models\[0\]\.samples: .*sixty\.npy: pixel value 17, allowed: .* 0 to 16"):
        plan({"name": "theirs", "samples": str(tmp_path / "sixty.npy")})


def reasons(planned) -> dict[str, dict[str, str]]:
    """Why metrics are n/a, by row and metric."""
    return {cell.label: {m.name: m.reason for m in cell.metrics if m.reason} for cell in planned.cells}


ALL = [
    "fid", "kid", "kid_subsets", "fd_infinity", "precision", "recall", "density", "coverage", "vendi",
    "sliced_wasserstein", "memorised", "authenticity", "ct_score",
]  # fmt: skip


def test_two_images_are_too_few_for_all_but_the_samples_alone(tmp_path):
    found = reasons(plan({"name": "vae"}, dataset=array_data(tmp_path, 8, 8, 2), metrics=[*ALL, "bits_per_dim"]))
    assert set(found["vae"]) == {*ALL} - {"vendi"}
    assert found["vae"]["fid"] == "1 reference sample; needs at least 2"
    assert found["vae"]["precision"] == "1 reference sample; needs at least 30"
    assert found["vae"]["memorised"] == "1 train image; needs at least 2"
    assert found["held-out real"]["vendi"] == "1 generated sample; needs at least 2"


def test_ten_images_are_too_few_for_neighbours_and_held_out_thresholds(tmp_path):
    found = reasons(plan({"name": "vae"}, dataset=array_data(tmp_path, 8, 8, 10), metrics=ALL))
    assert set(found["vae"]) == {"precision", "recall", "density", "coverage", "memorised"}
    assert found["vae"]["memorised"] == "1 held-out image; needs at least 99"
    assert {"fid", "kid", "ct_score"} <= set(found["blurred real"])


def test_a_single_class_has_no_metrics_by_class(tmp_path):
    one = array_data(tmp_path, 8, 8, 600, labels=np.zeros(600, int))
    found = reasons(plan({"name": "cgan"}, dataset=one, metrics=["fid", "per_class_fid", "cas"]))
    assert found["cgan"] == dict.fromkeys(("per_class_fid", "cas"), "1 class; needs at least 2")


def test_a_suite_in_which_nothing_can_be_measured_is_refused(tmp_path):
    with pytest.raises(SuiteError, match=r"metrics: none of them can be measured: 9 reference samples; needs at"):
        plan({"name": "vae"}, dataset=array_data(tmp_path, 8, 8, 10), metrics=["precision", "memorised"])


WRONG = """
import sys

import torch
from genbench.contract import DequantisedDensity, Loss, Model


class Base(Model):
    def __init__(self, *a, **k):
        super().__init__(*a, **k)
        self.net = torch.nn.Linear(64, 64)

    def loss(self, batch, player, step, gen):
        return Loss(self.net(batch.x.flatten(1)).square().mean())

    def sample(self, n, gen, condition=None):
        return self.net(torch.randn(n, 64, generator=gen)).view(n, *self.data.shape)


class Wide(Base):
    def sample(self, n, gen, condition=None):
        return torch.zeros(n, 1, 28, 28)


class Lossy(Base):
    def loss(self, batch, player, step, gen):
        return Loss(self.net(batch.x).mean())


class Exits(Base):
    def sample(self, n, gen, condition=None):
        sys.exit(3)


class Mean(Base, DequantisedDensity):
    def log_prob(self, pixels, gen=None):
        return pixels.float().mean()


class Long(Base):
    def sample(self, n, gen, condition=None):
        for _ in range(10**9):
            self.net(torch.zeros(1, 64))
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Wide", r"Wide fails on images of 1x5x7: Wide\.sample\(\): returned float32 tensor of shape \(2, 1, 28, 28\)"),
        ("Lossy", r"Lossy fails on images of 1x5x7: RuntimeError: .*mat1 and mat2 shapes cannot be multiplied"),
        ("Exits", r"Exits fails on images of 1x8x8: SystemExit: 3"),
        ("Mean", r"Mean fails on images of 1x8x8: Mean\.log_prob\(\): returned float32 tensor of shape \(\)"),
    ],
)
def test_a_model_that_cannot_compute_is_refused(tmp_path, name, words):
    (tmp_path / "wrong.py").write_text(WRONG if "8x8" in words else WRONG.replace("64", "35"))
    size = (8, 8) if "8x8" in words else (5, 7)
    with pytest.raises(SuiteError, match=rf"models\[1\]: {words}"):
        plan({"name": "vae"} if size == (8, 8) else {"name": f"{tmp_path}/wrong.py:Base"},
             {"name": f"{tmp_path}/wrong.py:{name}"}, dataset=array_data(tmp_path, *size))  # fmt: skip


def test_a_long_drawing_is_tried_for_a_moment(tmp_path):
    (tmp_path / "wrong.py").write_text(WRONG)
    assert plan({"name": f"{tmp_path}/wrong.py:Long"})


def test_a_model_whose_weights_are_elsewhere_needs_no_loss(tmp_path):
    (tmp_path / "wrong.py").write_text(WRONG)
    lossy = {"name": "lossy", "source": f"{tmp_path}/wrong.py:Lossy"}
    write_weights(load_model("x", source=lossy["source"], data=DataSpec(1, 8, 8, 17, 10)), tmp_path / "w.safetensors")
    assert plan({**lossy, "weights": str(tmp_path / "w.safetensors")})
    with pytest.raises(SuiteError, match="Lossy fails on images of 1x8x8"):
        plan(lossy)
