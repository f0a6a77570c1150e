"""What cannot work is refused while planning, before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from genbench.contract import DataSpec
from genbench.errors import SuiteError
from genbench.plan.planner import make_plan
from genbench.sources.build import load_model, write_weights
from genbench.suite.schema import Suite


def plan(*models: dict[str, object], dataset: dict[str, object] | None = None, samples: int = 60):
    data = {"suite": "s", "dataset": dataset or {"name": "digits"}, "features": "pixels", "metrics": ["fid"]}
    return make_plan(Suite.model_validate({**data, "samples": samples, "models": list(models)}))


def folder_data(path: Path, height: int, width: int, n: int = 40) -> dict[str, object]:
    pixels = np.random.default_rng(0).integers(0, 256, (n, 1, height, width), dtype=np.uint8)
    np.savez(path / "data.npz", images=pixels)
    return {"name": "npz", "path": str(path / "data.npz")}


@pytest.mark.parametrize(
    ("name", "size", "words"),
    [
        ("glow", (5, 7), r"models\[0\]: Glow: config\.levels: .*5x7 images; sizes that work: 4x8, 8x8$"),
        ("dcgan", (1, 1), r"models\[0\]: DCGAN: config\.doublings: .*1x1 images; sizes that work: 2x2, 4x4, 8x8$"),
    ],
)
def test_a_size_that_a_model_cannot_have_is_refused(tmp_path, name, size, words):
    with pytest.raises(SuiteError, match=words):
        plan({"name": name}, dataset=folder_data(tmp_path, *size))


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
    with pytest.raises(SuiteError, match=r"models\[0\]\.weights: .*vae\.safetensors: does not fit GAN"):
        plan({"name": "gan", "weights": str(tmp_path / "vae.safetensors")})


def test_a_file_with_too_few_images_is_refused(tmp_path):
    np.save(tmp_path / "fifty.npy", np.zeros((50, 8, 8), dtype=np.uint8))
    entry = {"name": "theirs", "samples": str(tmp_path / "fifty.npy")}
    with pytest.raises(SuiteError, match=r"models\[0\]\.samples: found 50 images, allowed: at least 60"):
        plan(entry)
    assert plan(entry, samples=50)
