"""docs/your_model.md and `genbench new model`: every class passes `check`, and what is written runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import genbench
from genbench import contract
from genbench.check import check_model
from genbench.commands.check import run_checks
from genbench.commands.new import write_skeleton
from genbench.contract import DataSpec, Draws, Model
from genbench.errors import GenbenchError
from genbench.plan.planner import make_plan
from genbench.registry import load_module
from genbench.sources.build import build
from genbench.space import seeded
from genbench.suite.schema import read_suite

TEXT = (Path(__file__).parent.parent / "docs" / "your_model.md").read_text()
SPEC = DataSpec(1, 8, 8, 17, 10)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


CLASSES = re.findall(r"^class (\w+)\((?:Model|Draws)\b", "\n".join(blocks("python")), re.MULTILINE)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page's Python as one file, and its suite beside it."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "mine.py").write_text("\n\n".join(blocks("python")))
    (folder / "mine.yaml").write_text("".join(blocks("yaml")))
    return folder


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_of_the_page_passes_check(page, name):
    kind = getattr(load_module(f"{page}/mine.py:{name}"), name)
    assert [(r.name, r.message) for r in check_model(kind, SPEC) if not r.passed] == []


def test_the_page_has_an_example_and_the_signature_of_every_ability(page):
    module = load_module(f"{page}/mine.py:Noise")
    shown = [getattr(module, name) for name in CLASSES]
    for ability in contract.ABILITIES:
        assert any(issubclass(kind, ability) for kind in shown), ability
        row = re.search(rf"^\| `{ability.__name__}` \|(.*)\|.*\|$", TEXT, re.MULTILINE)
        assert row, ability
        for method in getattr(ability, "__abstractmethods__", ()):
            assert method in row[1] or ability.__name__ == "Reconstructs", (ability, method)


def test_the_page_names_every_method_of_the_contract():
    own = {name for kind in (Draws, Model) for name, value in vars(kind).items() if not name.startswith("_")}
    unnamed = {name for name in own if f"`{name}" not in TEXT and f".{name}" not in TEXT and f"def {name}" not in TEXT}
    assert unnamed - {"device"} == set()


def test_the_estimate_of_the_page_is_exact_for_a_linear_velocity(page):
    """v(x, t) = a x: then x(1) = x exp(a), log p(x) = log N(x exp(a); 0, I) + a D; Euler's error falls as 1/steps."""
    a, model = -0.3, build(load_module(f"{page}/mine.py:Straight").Straight, SPEC, {}, {}, seed=0)

    class Linear(torch.nn.Module):
        def forward(self, x, t):
            return a * x

    model.velocity = Linear()
    pixels = torch.full((1, 1, 8, 8), 8, dtype=torch.uint8)
    x = 2 * genbench.space.dequantise(pixels, 17, seeded(0)) - 1
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(x * torch.tensor(a).exp()).sum()
    exact = float(normal + 64 * (a + torch.tensor(2 / 17).log()))
    gaps = [abs(float(model.log_prob_estimate(pixels, seeded(0), steps)) - exact) for steps in (50, 400)]
    assert gaps[1] < 0.02
    assert gaps[1] < gaps[0] / 4 + 1e-3


def test_a_suite_of_the_page_needs_only_the_classes_above_it(tmp_path):
    """A reader who adds block after block can plan after each block of the suite."""
    texts, planned = {"python": "", "yaml": ""}, []
    for language, text in re.findall(r"^```(python|yaml)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE):
        texts[language] += text
        if language == "yaml":
            folder = tmp_path / str(len(planned))
            folder.mkdir()
            (folder / "mine.py").write_text(texts["python"])
            (folder / "mine.yaml").write_text(texts["yaml"])
            planned.append([cell.label for cell in make_plan(read_suite(folder / "mine.yaml")).cells])
    assert [{"Noise", "Means"} & set(labels) for labels in planned] == [{"Noise"}, {"Noise", "Means"}]


def test_the_suite_of_the_page_gives_a_row_for_each_model(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = genbench.run(page / "mine.yaml", limit_images=40, models=["Noise", "Means"])
    assert not result.failed
    assert {"Noise", "Means"} <= set(result.leaderboard["model"])


def test_a_new_model_passes_check_and_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = write_skeleton("model", "my_flow", Path())
    assert "genbench check my_flow.py:MyFlow" in said
    said: list[str] = []
    assert run_checks("my_flow.py:MyFlow", None, "1x8x8", 17, "cpu", said.append), said
    assert "23 of 23 checks passed" in said[-1]  # as docs/your_model.md shows
    assert run_checks("MyFlow", Path("my_flow.yaml"), "", 0, "cpu", said.append), said
    with pytest.raises(GenbenchError, match="row 'held-out real' has images and no model to check; allowed: MyFlow"):
        run_checks("held-out real", Path("my_flow.yaml"), "", 0, "cpu", said.append)
    with pytest.raises(
        GenbenchError, match=r"my_flow\.yaml: no row 'MyFlo'; did you mean 'MyFlow'\? allowed: MyFlow, vae"
    ):
        run_checks("MyFlo", Path("my_flow.yaml"), "", 0, "cpu", said.append)
    result = genbench.run("my_flow.yaml", models=["MyFlow"], limit_images=60)
    assert not result.failed
    assert "MyFlow" in set(result.leaderboard["model"])


@pytest.mark.parametrize(
    ("what", "name", "message"),
    [
        ("modle", "x", "new: unknown 'modle'; did you mean 'model'? allowed: model"),
        ("model", "My-Flow", "new model: found 'My-Flow', allowed: lower-case letters, digits and _, e.g. my_flow"),
        ("model", "class", "new model: found 'class', allowed: lower-case letters, digits and _, e.g. my_flow"),
        ("model", "taken", "{folder}/taken.py: exists already; choose another name, or remove it"),
    ],
)
def test_names_that_are_refused(tmp_path, what, name, message):
    (tmp_path / "taken.py").write_text("")
    with pytest.raises(GenbenchError) as raised:
        write_skeleton(what, name, tmp_path)
    assert str(raised.value) == message.format(folder=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["taken.py"]
