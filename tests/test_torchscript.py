"""An extractor in a TorchScript file: its input, its output, its identity, in suites and for other images."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn
from typer.testing import CliRunner

import genbench
from genbench import features
from genbench.cli import app
from genbench.errors import DataError, SuiteError
from genbench.features import FeatureOptions
from genbench.plan.planner import make_plan
from genbench.suite.schema import Suite, read_suite

TOYS = Path(__file__).parent / "toys.py"
EXAMPLE = Path(__file__).parent.parent / "examples" / "torchscript"


class Flat(nn.Module):
    """The whole input as one vector."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


def saved(net: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(net).save(path)  # type: ignore[attr-defined]
    return path


def vectors(path: Path, pixels: Tensor, levels: int = 256, resize: str = "", **own: Any) -> np.ndarray:
    options = FeatureOptions(path, resize, own={"scaling": "unit", **own})
    return features.load_extractor("torchscript", "x", "cpu", options)(pixels, levels).vectors


def images(n: int = 5, channels: int = 1, side: int = 4) -> Tensor:
    return torch.randint(256, (n, channels, side, side), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    return saved(Flat(), tmp_path / "flat.pt")


def test_the_input_is_scaled_as_named(flat):
    x = images(channels=3)
    unit = x.flatten(1).numpy() / 255
    np.testing.assert_allclose(vectors(flat, x), unit, atol=1e-6)
    np.testing.assert_allclose(vectors(flat, x, scaling="symmetric"), 2 * unit - 1, atol=1e-6)
    np.testing.assert_allclose(vectors(flat, x, scaling="bytes"), x.flatten(1).numpy(), atol=1e-4)
    mean, std = ([[[[k]] for k in row]] for row in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    published = ((x.numpy() / 255 - np.array(mean)) / np.array(std)).reshape(5, -1)
    np.testing.assert_allclose(vectors(flat, x, scaling="imagenet"), published, atol=1e-5)
    given = vectors(flat, x, scaling="given", mean=(0.5,), std=(0.25,))
    np.testing.assert_allclose(given, (unit - 0.5) / 0.25, atol=1e-5)


def test_grey_images_are_repeated_or_stay_and_levels_are_spread(flat):
    x = images() % 17
    three, one = vectors(flat, x, 17), vectors(flat, x, 17, channels=1)
    assert three.shape == (5, 48)
    np.testing.assert_array_equal(three, np.tile(one, 3))
    np.testing.assert_allclose(one, np.round(x.flatten(1).double().numpy() * 255 / 16 + 1e-9) / 255, atol=1e-6)
    with pytest.raises(DataError, match=r"flat.pt: images of 3 channels, allowed: 1 or 1"):
        vectors(flat, images(channels=3), channels=1)


def test_the_input_is_resized_by_the_named_filter(flat):
    x = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    x[..., ::2] = 200
    assert vectors(flat, x, size=2, channels=1).shape == (1, 4)
    clean, tf1 = (vectors(flat, x, resize=policy, size=2, channels=1) * 255 for policy in ("clean", "tf1-bilinear"))
    np.testing.assert_allclose(tf1, 200, atol=1e-3)  # takes every second column
    assert clean.max() < 150  # averages its neighbours


class Map(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x.flatten(1)


class NaN(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) / 0.0 * 0.0


class Fixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.flatten(1))


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (Map(), r"returned shape \(5, 3, 4, 4\), torch.float32 for 5 images, allowed: floats \(5, D\)"),
        (Pair(), r"returned tuple for 5 images"),
        (NaN(), "returned NaN or infinity"),
        (Fixed(), r"fails on images of \(3, 4, 4\): .*cannot be multiplied"),
    ],
)
def test_an_output_that_is_no_vector_is_refused(tmp_path, net, words):
    with pytest.raises(DataError, match=f"net.pt: {words}"):
        vectors(saved(net, tmp_path / "net.pt"), images())


def test_other_files_and_options_are_refused(tmp_path, flat):
    torch.save({"a": torch.zeros(2)}, tmp_path / "state.pt")
    for path, own, words in [
        (tmp_path / "state.pt", {}, "state.pt: no TorchScript file, allowed: what torch.jit.save"),
        (tmp_path / "none.pt", {}, "features 'torchscript': found weights .*none.pt, allowed: a TorchScript file"),
        (flat, {"scaling": "imagnet"}, "scaling: found 'imagnet' .*; did you mean 'imagenet'?"),
        (flat, {"mean": (0.5,)}, "found mean or std beside scaling 'unit', allowed: with 'given'"),
        (flat, {"scaling": "given", "mean": (0.5, 0.5), "std": (1.0,)}, "allowed: 1 or 3 numbers each"),
    ]:
        with pytest.raises(DataError, match=words):
            vectors(path, images(), **own)


def suite(**extraction: Any) -> dict[str, Any]:
    toy = {"name": "toy", "source": f"{TOYS}:Diagonal"}
    keys = {"suite": "s", "dataset": {"name": "digits"}, "features": "torchscript", "metrics": ["fid"]}
    return {**keys, "extraction": extraction, "models": [toy], "samples": 70, "block": 70, "budget": {"images": 64}}


def test_a_suite_names_the_file_and_a_replaced_file_has_another_key(tmp_path, flat):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(suite(weights="flat.pt", scaling="unit", channels=1)))
    keys = [make_plan(read_suite(tmp_path / "s.yaml")).cells[0].metrics[0].key]
    saved(Fixed(), flat)
    keys.append(make_plan(read_suite(tmp_path / "s.yaml")).cells[0].metrics[0].key)
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(suite(weights="flat.pt", scaling="symmetric", channels=1)))
    keys.append(make_plan(read_suite(tmp_path / "s.yaml")).cells[0].metrics[0].key)
    assert len(set(keys)) == 3
    for own, words in [
        ({}, r"extraction: .*scaling.*missing|extraction.scaling: missing"),
        ({"scaling": "unit", "sise": 8}, r"extraction.sise: unknown key; did you mean 'size'\?"),
        ({"scaling": "unit", "size": 0}, r"extraction.size: found 0 \(int\), allowed: an integer, at least 1"),
    ]:
        with pytest.raises(SuiteError, match=words):
            Suite.model_validate(suite(weights="flat.pt", **own))


def test_the_command_line_and_the_suite_agree(tmp_path, flat):
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(suite(weights="flat.pt", scaling="symmetric", size=6, channels=1)))
    record = next(r for r in genbench.run(tmp_path / "s.yaml", out=tmp_path / "o", device="cpu").records if r.value)
    samples, named = tmp_path / "drawn.npy", str(tmp_path / "s.yaml")
    CliRunner().invoke(app, ["sample", record.cell, "--suite", named, "-n", "70", "--out", str(samples)])
    options = ["scaling=symmetric", "size=6", "channels=1"]
    command = ["score", str(samples), "--reference", "digits", "--features", "torchscript", "--weights", str(flat)]
    command += [part for option in options for part in ("--extraction", option)] + ["--metrics", "fid", "--json", "-"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    (scored,) = json.loads(done.stdout)["records"]
    assert (scored["value"], scored["protocol_hash"]) == (pytest.approx(record.value), record.protocol_hash)
    assert scored["protocol"]["features"]["mean"] == [0.5]


def test_options_of_the_command_line_are_checked(flat):
    command = ["score", "digits:test", "--reference", "digits", "--features", "torchscript", "--weights", str(flat)]
    for option, words in [("size", "allowed: KEY=VALUE"), ("sise=3", "did you mean 'size'?"), ("size=3", "scaling")]:
        done = CliRunner().invoke(app, [*command, "--extraction", option])
        assert (done.exit_code != 0, words in f"{done.output} {done.exception}") == (True, True)


def test_an_extractor_of_a_file_is_checked_too(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom genbench.features import Extractor, ExtractorSource, Features\n\n\n"
        "class Wrong(Extractor):\n    name, weights_hash = 'wrong', 'none'\n\n"
        "    def __call__(self, pixels, levels, batch=500):\n"
        "        return Features(np.zeros((3, 4, 4), np.float32))\n\n\n"
        "WRONG = ExtractorSource('wrong', load=lambda dataset, device, options: Wrong())\n"
    )
    with pytest.raises(DataError, match=r"Wrong: returned vectors of shape \(3, 4, 4\) for 360 images, allowed"):
        genbench.score(fake="digits:test", reference="digits", features=f"{tmp_path}/mine.py:WRONG", metrics=["fid"])


def test_the_example_makes_its_file_and_scores_with_it(tmp_path):
    (tmp_path / "make_net.py").write_text((EXAMPLE / "make_net.py").read_text())
    (tmp_path / "suite.yaml").write_text((EXAMPLE / "suite.yaml").read_text())
    code = compile((tmp_path / "make_net.py").read_text(), "make_net.py", "exec")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(code, {"__name__": "__main__", "__file__": str(tmp_path / "make_net.py")})
    plan = make_plan(read_suite(tmp_path / "suite.yaml"))
    assert plan.cells[0].facts.extractor["input_channels"] == 1
    assert not plan.cells[0].metrics[0].reason
