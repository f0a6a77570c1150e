"""A class that declares something else than the contract says is refused while planning, in one line."""

from __future__ import annotations

from dataclasses import make_dataclass

import numpy as np
import pytest
import yaml

from genbench.contract import DataSpec, ExactLikelihood, LikelihoodEstimate, Loss, Model, Recipe, Stage, Translates
from genbench.declared import check_declared
from genbench.errors import CellFailure, ModelError, SuiteError
from genbench.metrics.likelihood import check_together
from genbench.plan.planner import make_plan
from genbench.suite.schema import read_suite

SPEC = DataSpec(1, 4, 4)
NEEDS = make_dataclass("Needs", [("width", int)], frozen=True)


class Nothing(Model):
    """Declares what the contract says."""

    def loss(self, batch, player, step, gen):
        raise NotImplementedError

    def sample(self, n, gen, condition=None):
        raise NotImplementedError


def returning(value):
    return classmethod(lambda cls, data: value)


WRONG = {
    "family": (3, "family: found 3"),
    "Config": (None, "Config: found None, required: a frozen dataclass"),
    "Sampler": (NEEDS, "Sampler: .* required: a default for every field"),
    "preset": (returning({}), r"preset\(\): found a value of type dict, required: a NoOptions"),
    "recipe": (returning(None), r"recipe\(\): found None, required: a genbench.contract.Recipe"),
    "small": (returning(Recipe()), r"small\(\): found .* required: a NoOptions and a Recipe"),
    "stages": ((), "at least one genbench.contract.Stage"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_declaration_is_named(name):
    value, words = WRONG[name]
    check_declared(Nothing, SPEC)
    with pytest.raises(CellFailure, match=words):
        check_declared(type("Wrong", (Nothing,), {name: value}), SPEC)


SIGNATURES = {
    "sample": (lambda self, n, gen: None, r"sample\(self, n, gen\), required: .* as sample\(n, gen, condition\)"),
    "loss": (lambda self, batch: None, r"loss\(self, batch\), required: .* loss\(batch, player, step, gen\)"),
    "settle": (lambda self: None, r"settle\(self\), required: .* as settle\(gen\)"),
    "preset": (lambda self, data: None, r"preset\(self, data\), required: .* as preset\(data\)"),
    "players": (None, r"players: found None, required: a method that can be called as players\(\)"),
    "log_prob": (lambda self, pixels: None, r"log_prob\(self, pixels\), required: .* as log_prob\(pixels, gen\)"),
    "log_prob_estimate": (lambda self, x, gen: None, r"as log_prob_estimate\(pixels, gen, steps=steps\)"),
    "translate": (staticmethod(lambda x: None), r"translate\(x\), required: .* as translate\(x, direction\)"),
    "__init__": (lambda self: None, r"as __init__\(data, config, sampler\)"),
}


@pytest.mark.parametrize("name", SIGNATURES)
def test_methods_take_the_arguments_that_they_receive(name):
    method, words = SIGNATURES[name]
    kind = type("Able", (Nothing, ExactLikelihood, LikelihoodEstimate, Translates), {})
    check_declared(kind, SPEC)
    if name != "preset":
        check_declared(type("Other", (kind,), {name: lambda *arguments, **options: None}), SPEC)
    with pytest.raises(CellFailure, match=words):
        check_declared(type("Wrong", (kind,), {name: method}), SPEC)


@pytest.mark.parametrize("stage", [Stage("a", ()), Stage("a", ("all",), 0.0), Stage("a", ("all",), float("nan"))])
def test_stages_have_turns_and_a_share(stage):
    with pytest.raises(CellFailure, match="stages: "):
        check_declared(type("Wrong", (Nothing,), {"stages": (stage,)}), SPEC)


@pytest.mark.parametrize("field", [{"lr": float("nan")}, {"batch": 0}, {"decay": "x"}, {"ema": 1.0}, {"images": 2**60}])
def test_a_recipe_is_within_its_bounds(field):
    with pytest.raises(CellFailure, match=rf"Wrong.recipe\(\): {next(iter(field))}: found .* allowed: "):
        check_declared(type("Wrong", (Nothing,), {"recipe": returning(Recipe(**field))}), SPEC)


def test_terms_of_a_loss_are_tensors():
    with pytest.raises(ModelError, match="a dict from names to tensors"):
        Loss(np.zeros(()), {"a": 1.0})


BAD = """
import sys
from genbench.contract import Draws

DEEP = 1
for _ in range(3000):
    DEEP = [DEEP]

from dataclasses import dataclass, field

@dataclass(frozen=True)
class Deep:
    width: list = field(default_factory=lambda: DEEP)

class Base(Draws):
    def sample(self, n, gen, condition=None):
        return None

class Raises(Base):
    @classmethod
    def preset(cls, data):
        return 1 / 0

class Exits(Base):
    def __init__(self, *_):
        sys.exit(3)

class NoFiles(Base):
    @classmethod
    def files(cls, config):
        return None

class Device(Base):
    @classmethod
    def files(cls, config):
        return ("/dev/zero",)

class Nested(Base):
    Sampler = Deep
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Raises", "ZeroDivisionError: division by zero (bad.py:"),
        ("Exits", "SystemExit: 3 (bad.py:"),
        ("NoFiles", "NoFiles.files(): found None, required: a tuple of names"),
        ("Device", "found a device or a pipe"),
        ("Nested", "nested more deeply, allowed: at most 50 levels"),
    ],
)
def test_code_that_fails_while_planning_is_one_line_of_the_suite(tmp_path, name, words):
    (tmp_path / "bad.py").write_text(BAD)
    np.savez(tmp_path / "data.npz", images=np.zeros((20, 4, 4), np.uint8))
    suite = {"suite": "bad", "dataset": {"name": "npz", "path": "data.npz"}, "features": "pixels", "samples": 4}
    suite |= {"metrics": ["fid"], "models": [{"name": "m", "source": f"bad.py:{name}"}]}
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(suite))
    with pytest.raises(SuiteError) as caught:
        make_plan(read_suite(tmp_path / "bad.yaml"))
    assert "models[0]" in str(caught.value)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_images_have_at_most_the_probability_1_together():
    """The highest mean is minus the entropy of the frequencies: of a, a, b that is -(2/3 ln 3/2 + 1/3 ln 3)."""
    images = np.array([[1, 2], [1, 2], [3, 4]], np.uint8)
    best = np.log([2 / 3, 2 / 3, 1 / 3])
    check_together(best, images)
    check_together(np.zeros(3), images[[0, 0, 0]])
    with pytest.raises(CellFailure, match=r"3 images, 2 of them different, allowed: at most -0\.6365"):
        check_together(best + 1e-3, images)
    with pytest.raises(CellFailure, match=r"allowed: at most -0\.6931"):
        check_together(np.zeros(2), images[1:])
