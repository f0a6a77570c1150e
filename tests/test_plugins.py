"""Models, datasets, metrics and extractors of an installed package, and of files."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

import genbench
from genbench import data, features, metrics, registry
from genbench.cli import app
from genbench.code_hash import code_hash, plugin_hash
from genbench.errors import GenbenchError, SuiteError
from genbench.features import FeatureOptions
from genbench.plan.planner import make_plan
from genbench.records import OK
from genbench.registry import DATASETS, EXTRACTORS, METRICS, MODELS, REGISTRIES, resolve_model, scan, scan_of
from genbench.runner.run import run
from genbench.suite.schema import read_suite

PACKAGE = Path(__file__).parent / "plugin_package"
SUITE = {
    "suite": "plugins",
    "dataset": {"name": "shapes", "count": 60},
    "features": "quadrants",
    "extraction": {"gain": 2},
    "samples": 40,
    "block": 20,
    "models": [{"name": "constant"}],
    "metrics": ["brightness", "fid"],
}


@pytest.fixture
def fresh_scan():
    """Entry points as they are in the test, and after it as they were before."""
    scan_of.cache_clear()
    yield
    scan_of.cache_clear()


@pytest.fixture
def installed(tmp_path, monkeypatch, fresh_scan):
    """Installs the package of plug-ins, under another version if asked, as `pip install --target` lays it out."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)

    def install(version: str = "1.0", **more: dict[str, str]) -> Path:
        for old in site.iterdir():
            shutil.rmtree(old)
        shutil.copytree(PACKAGE / "genbench_shapes", site / "genbench_shapes")
        project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
        info = site / f"genbench_shapes-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n")
        groups = {
            group: {**names, **more.get(group.removeprefix("genbench."), {})}
            for group, names in project["entry-points"].items()
        }
        lines = [f"[{group}]\n" + "".join(f"{n} = {t}\n" for n, t in names.items()) for group, names in groups.items()]
        (info / "entry_points.txt").write_text("\n".join(lines))
        forget()
        return site

    def forget() -> None:
        for name in [n for n in sys.modules if n.split(".")[0] == "genbench_shapes"]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        scan_of.cache_clear()

    return install


def written(folder: Path, **changes) -> Path:
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump({**SUITE, **changes}, sort_keys=False))
    return path


def command(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_suite_of_plugins_alone_runs_to_its_end(installed, tmp_path):
    installed()
    result = run(read_suite(written(tmp_path)), out=tmp_path / "out", device="cpu", limit_images=30)
    assert result.failed == []
    records = {(r.model, r.metric): r for r in result.records}
    assert {name for name, r in records.items() if r.status == OK} == set(records)
    fid = records["constant", "fid"]
    assert (fid.dataset, fid.family) == ("shapes", "constant")
    assert fid.protocol["features"]["extractor"] == "quadrants"
    assert fid.protocol["features"]["extractor_options"] == {"gain": 2.0}
    assert records["memorised train", "brightness"].value < records["uniform noise", "brightness"].value
    page = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "Brightness" in page


def test_the_same_objects_named_by_file(tmp_path, fresh_scan):
    shutil.copytree(PACKAGE / "genbench_shapes", tmp_path / "own")
    (tmp_path / "own" / "model.py").write_text(
        (PACKAGE / "genbench_shapes" / "model.py").read_text().replace("from .noise import SCALE", "SCALE = 0.2")
    )
    claim = {"metric": "fid", "value": 1.0, "source": "Table 1"}
    changes = {
        "dataset": {"name": "own/shapes.py:SHAPES", "count": 60},
        "features": "own/quadrants.py:QUADRANTS",
        "models": [{"name": "own/model.py:Constant", "claims": [claim]}],
        "metrics": ["own/brightness.py:BRIGHTNESS", "fid"],
    }
    result = run(read_suite(written(tmp_path, **changes)), out=tmp_path / "out", device="cpu", limit_images=30)
    assert result.failed == []
    assert {r.cell for r in result.records} >= {"Constant/SHAPES/s0", "held-out real/SHAPES/s0"}
    assert {r.metric for r in result.records if r.status == OK} == {"brightness", "fid"}
    assert "own/shapes.py:SHAPES" in (tmp_path / "out" / "suite.yaml").read_text()
    assert "Table 1" in (tmp_path / "out" / "leaderboard.md").read_text()


def test_listings_have_a_line_about_each(installed):
    installed()
    assert "one bright square at a random position" in command("ls", "datasets")
    assert "difference in mean brightness (grey range, lower is better)" in command("ls", "metrics")
    assert "mean of each quadrant" in command("ls", "features")
    assert "The mean of the training images, plus noise.; abilities: samples only" in command("ls", "models")


def test_the_plan_names_the_plugins_cells(installed, tmp_path):
    installed()
    text = command("plan", written(tmp_path), "--device", "cpu")
    assert "constant/shapes/s0 train on 320 images, paper to draw 0/2 stored" in " ".join(text.split())


def test_images_are_scored_by_a_plugins_extractor_dataset_and_metric(installed, tmp_path):
    installed()
    text = command(
        "score", "shapes:test", "--reference", "shapes", "--features", "quadrants", "--metrics", "brightness,fid",
        "--device", "cpu",
    )  # fmt: skip
    assert "extractor quadrants" in text
    target = f"{PACKAGE / 'genbench_shapes' / 'shapes.py'}:SHAPES"
    found = genbench.score(
        fake=f"{target}:test", reference=target, features="quadrants", metrics=["brightness"], device="cpu"
    )
    assert list(found.values) == ["brightness"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"dataset": {"name": "shapes", "cuont": 60}},
            "4: dataset.cuont: unknown key; did you mean 'count'? allowed: name, count, side",
        ),
        (
            {"dataset": {"name": "shapes", "side": 9}},
            "4: dataset.side: found 9 (int), allowed: an integer, at least 1, at most 8",
        ),
        ({"extraction": {"gian": 2}}, "7: extraction.gian: unknown key; did you mean 'gain'? allowed: gain"),
        ({"extraction": {"gain": 0.5}}, "7: extraction.gain: found 0.5 (float), allowed: a number, at least 1"),
        ({"extraction": {"resize": "clean"}}, "5: features: features 'quadrants': found resize 'clean', allowed: none"),
        ({"metrics": ["brightnes"]}, "13: metrics[0]: unknown metric 'brightnes'; did you mean 'brightness'? allowed:"),
    ],
)
def test_options_of_plugins_are_checked_with_file_and_line(installed, tmp_path, changes, message):
    installed()
    path = written(tmp_path, **changes)
    with pytest.raises(SuiteError) as caught:
        make_plan(read_suite(path))
    assert str(caught.value).startswith(f"{path}:{message}")


def keys(path: Path) -> dict[str, str]:
    cell = make_plan(read_suite(path)).cells[0]
    return {"weights": cell.source.weights_key, **{m.name: m.key for m in cell.metrics}}


def test_a_new_version_of_the_package_does_the_work_again(installed, tmp_path):
    path = written(tmp_path)
    installed("1.0")
    first = keys(path)
    installed("1.0")
    assert keys(path) == first
    installed("1.1")
    assert not set(keys(path).items()) & set(first.items())


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("noise.py", "SCALE = 0.2", "SCALE = 0.3", {"weights", "brightness", "fid"}),
        ("brightness.py", "abs(", "2 * abs(", {"brightness"}),
        ("quadrants.py", "self.gain * pixels", "2 * self.gain * pixels", {"fid"}),
        ("brightness.py", "The difference in", "How different is", set()),
    ],
)
def test_editing_a_plugin_repeats_only_what_depends_on_it(installed, tmp_path, file, old, new, changed):
    path = written(tmp_path)
    site = installed()
    first = keys(path)
    module = site / "genbench_shapes" / file
    assert old in module.read_text()
    module.write_text(module.read_text().replace(old, new))
    second = keys(path)
    assert {name for name in first if first[name] != second[name]} == changed


def test_what_genbench_ships_has_no_plugin_hash_and_keeps_its_code_hash(installed):
    before = code_hash(resolve_model("vae"))
    installed()
    assert code_hash(resolve_model("vae")) == before
    assert plugin_hash(METRICS, "fid") == plugin_hash(EXTRACTORS, "pixels") == metrics.get("fid").code == ""
    assert "extractor_code" not in features.protocol_fields("pixels", "digits")


def test_a_file_is_hashed_by_its_code(tmp_path):
    text = (PACKAGE / "genbench_shapes" / "brightness.py").read_text()
    for name, code in {"a": text, "b": f"# why\n{text}", "c": text.replace("abs", "float")}.items():
        (tmp_path / f"{name}.py").write_text(code)
    a, b, c = (metrics.get(f"{name}.py:BRIGHTNESS", tmp_path).code for name in "abc")
    assert a == b != c


def test_names_of_genbench_and_of_other_packages_are_not_replaced(installed):
    installed(models={"vae": "genbench_shapes.model:Constant", "a b": "genbench_shapes.model:Constant"})
    assert resolve_model("vae").__name__ == "VAE"
    assert [text.partition(": ")[2] for text in scan().refused] == [
        "genbench.models: 'a b' is ignored: allowed: a name of letters, digits, ., - and _",
        "genbench.models: 'vae' is ignored: genbench has a model of that name",
    ]
    assert "genbench-shapes 1.0: genbench.models: 'vae' is ignored" in command("ls", "models")
    assert "ignored" not in command("ls", "datasets")


def test_a_broken_plugin_breaks_nothing_but_itself(installed):
    installed(
        models={"gone": "genbench_shapes.missing:Model", "other": "genbench_shapes.shapes:SHAPES"},
        metrics={"typo": "genbench_shapes.brightness:BRIGHTNES"},
    )
    text = command("ls", "models")
    assert "gone              cannot be loaded: module 'genbench_shapes.missing' cannot be imported" in text
    assert "is DatasetSource, allowed: a subclass of genbench.contract.Draws" in text
    assert "constant" in text
    with pytest.raises(GenbenchError, match="has no 'BRIGHTNES'; did you mean 'BRIGHTNESS'\\?"):
        metrics.get("typo")


def test_load_and_describe_of_a_plugin_must_agree(tmp_path):
    text = (PACKAGE / "genbench_shapes" / "shapes.py").read_text()
    (tmp_path / "shapes.py").write_text(text.replace("load(entry, path).fingerprint", '"other"'))
    with pytest.raises(GenbenchError, match=r"load gives fingerprint \w+, describe gives other; they must be equal"):
        data.load({"name": "shapes.py:SHAPES"}, tmp_path)


def test_options_not_set_have_their_defaults(installed):
    installed()
    assert len(data.load({"name": "shapes"}).train) == 80
    assert features.load_extractor("quadrants", "shapes").gain == 1
    assert features.load_extractor("quadrants", "shapes", "cpu", FeatureOptions(own={"gain": 3})).gain == 3


def test_entry_points_are_scanned_once(installed, tmp_path, monkeypatch):
    installed()
    calls, original = [], registry.entry_points

    def counting():
        calls.append(1)
        return original()

    monkeypatch.setattr(registry, "entry_points", counting)
    models = [{"name": "constant", "label": f"m{i}"} for i in range(10)]
    plan = make_plan(read_suite(written(tmp_path, models=models, seeds=[0, 1, 2])))
    assert len(plan.cells) > 30
    assert calls == [1]


def test_two_metrics_of_one_name_are_refused(installed, tmp_path):
    installed()
    target = f"{PACKAGE / 'genbench_shapes' / 'brightness.py'}:BRIGHTNESS"
    with pytest.raises(SuiteError, match=r"metrics\[1\]: found a second metric 'brightness', allowed: once"):
        make_plan(read_suite(written(tmp_path, metrics=["brightness", target])))


@pytest.mark.parametrize("registered", REGISTRIES, ids=lambda r: r.kind)
def test_every_built_in_name_is_what_its_table_says(registered):
    for name, entry in registered.built_in.items():
        declared = registered.load(name)
        assert entry.about
        if registered is DATASETS:
            assert (declared.about, declared.options) == (entry.about, entry.options)
        if registered is EXTRACTORS:
            assert declared.about == entry.about
        if registered is METRICS:
            assert declared.name == name
    assert (registered is not METRICS) or set(metrics.BUILT_IN) == set(registered.built_in)
    assert (registered is not MODELS) or len({registered.load(name) for name in registered.built_in}) == 15


def replaced(site: Path, name: str, old: str, new: str) -> None:
    path = site / "genbench_shapes" / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_metric_that_raises_fails_its_own_values(installed, tmp_path):
    replaced(installed(), "brightness.py", "    return Value", "    raise KeyError('planted')\n    return Value")
    result = run(read_suite(written(tmp_path)), out=tmp_path / "out", device="cpu", limit_images=30)
    assert {r.metric for r in result.failed} == {"brightness"}
    assert all(r.reason.startswith("KeyError: 'planted'") for r in result.failed)
    assert {r.status for r in result.records if r.metric == "fid"} == {OK}


RAISES = """
import dataclasses

def raises(*arguments):
    raise KeyError("planted")

"""
READING = """
class Raising(type(PIXELS)):
    why_not = raises

BRIGHTNESS = dataclasses.replace(BRIGHTNESS, reads=Raising())
"""


@pytest.mark.parametrize(("name", "change", "end"), [
    ("brightness.py", READING, r" raised by genbench-shapes 1\.0 \(brightness\.py:\d+, in raises\)"),
    ("quadrants.py", "QUADRANTS = dataclasses.replace(QUADRANTS, protocol=raises)",
     " while features 'quadrants' were described"),
    ("shapes.py", "SHAPES = dataclasses.replace(SHAPES, describe=raises)", " while dataset 'shapes' was described"),
])  # fmt: skip
def test_an_error_of_an_installed_package_while_planning_is_one_line(installed, tmp_path, name, change, end):
    site = tmp_path / "site-packages"  # the name by which code is known to be installed
    shutil.copytree(installed(), site)
    with (site / "genbench_shapes" / name).open("a") as file:
        file.write(RAISES + change)
    done = subprocess.run(
        [sys.executable, "-m", "genbench", "plan", str(written(tmp_path))], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": f"{site}:{PACKAGE.parents[1]}"},
    )  # fmt: skip
    assert done.returncode == 2
    assert re.fullmatch(f"genbench: KeyError: 'planted',{end}\n", done.stderr), done.stderr
