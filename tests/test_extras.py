"""Optional libraries: each extra is installed by the gate in pinned versions, and named in the error when missing."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

from genbench import data
from genbench.contract import DataSpec
from genbench.errors import GenbenchError
from genbench.features.clip import _loaded as loaded_clip
from genbench.sources.build import load_model
from genbench.store.remote import Remote
from genbench.suite.schema import Suite

ROOT = Path(__file__).parent.parent
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
BY_HAND = {
    "docs",
    "fuzz",
    "mutants",
    "ray",
    "submitit",
}  # `make docs`, `make fuzz`, `make mutants`; launchers of a cluster


def own(requirements):
    """The extras that requirements such as genbench[a,b] name, with those that these name."""
    text = ",".join(requirements)
    named = {name for group in re.findall(r"(?:genbench|\.)\[([\w,]+)\]", text) for name in group.split(",")}
    return named | {deeper for name in named for deeper in own(EXTRAS[name])}


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_gate_installs_every_extra():
    installed = own([(ROOT / ".ci" / "run").read_text(), (ROOT / "Makefile").read_text()])
    assert set(EXTRAS) - installed <= BY_HAND


def test_every_library_of_an_extra_is_pinned():
    pinned = {plain(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    names = {plain(re.match(r"[\w.-]+", r)[0]) for requirements in EXTRAS.values() for r in requirements}
    assert names - pinned <= {"genbench"}


def pipeline(folder):
    (folder / "model_index.json").write_text('{"_class_name": "DDPMPipeline", "_diffusers_version": "0.42.1"}')
    load_model("theirs", source=f"diffusers:{folder}", data=DataSpec(1, 8, 8))


def graph(folder):
    (folder / "g.onnx").write_bytes(b"")
    load_model("theirs", source=f"onnx:{folder}/g.onnx", data=DataSpec(1, 8, 8))


def dataset(folder):
    (folder / "x.parquet").write_bytes(b"")
    data.load({"name": "hf", "path": str(folder / "x.parquet")})


def repository(folder):
    Suite.model_validate(
        {"suite": "s", "dataset": {"name": "digits"}, "features": "pixels", "metrics": ["fid"],
         "models": [{"name": "ddpm", "weights": "hub:some/model"}]}
    ).weights_path("hub:some/model")  # fmt: skip


def clip(folder):
    loaded_clip(folder)


def bucket(folder):
    Remote("s3://bucket/store")


@pytest.mark.parametrize(
    ("extra", "package", "use"),
    [
        ("diffusers", "diffusers", pipeline), ("onnx", "onnx", graph), ("datasets", "datasets", dataset),
        ("hub", "huggingface_hub", repository), ("clip", "transformers", clip), ("s3", "s3fs", bucket),
    ],
)  # fmt: skip
def test_a_missing_library_is_named_with_its_extra(extra, package, use, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    with pytest.raises(
        GenbenchError, match=rf"needs (the package {package} .*|another package: )pip install 'genbench\[{extra}\]'"
    ):
        use(tmp_path)
