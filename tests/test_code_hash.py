"""The hash of a model's code: changed by all that may change its weights, by nothing else."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from genbench import code_hash as code_hash_module
from genbench.code_hash import code_hash, code_text, files_of
from genbench.code_parts import Walk
from genbench.registry import resolve_model
from genbench.store import default_root, derived

LAYERS = '"""Layers."""\nWIDTHS = {"narrow": 2}\n'
MODEL = '''"""A model."""

from genbench.contract import Model

from .layers import WIDTHS  # a constant, which does not know where it comes from


class Mine(Model):
    """Says something."""

    def width(self):
        """Says more."""
        note = """no docstring,  # no comment"""
        return WIDTHS["narrow"], note  # sum
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Writes a package of two modules and loads its class afresh."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "__init__.py").write_text("")

    def write(model: str = MODEL, layers: str = LAYERS) -> type:
        (tmp_path / "theirs" / "layers.py").write_text(layers)
        (tmp_path / "theirs" / "model.py").write_text(model)
        for name in [n for n in sys.modules if n.split(".")[0] == "theirs"]:
            monkeypatch.delitem(sys.modules, name)
        importlib.invalidate_caches()
        return resolve_model("mine", "theirs.model:Mine")

    return write


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Says something.", "Says something else."),
        ('        """Says more."""\n', ""),
        ("# sum", "# total"),
        ('"""A model."""', '"""A model\n\nof two lines."""'),
        ("\n\n\nclass", "\n\nclass"),
    ],
)
def test_explaining_better_trains_nothing_again(package, before, after):
    first = code_hash(package())
    assert before in MODEL
    assert code_hash(package(MODEL.replace(before, after))) == first


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("no docstring", "a docstring"),
        ("# no comment", "# comment"),
        ("narrow", "wide"),
        ("class Mine", "class  Mine"),
    ],
)
def test_editing_the_code_trains_again(package, before, after):
    first = code_hash(package())
    layers = LAYERS.replace(before, after)
    assert code_hash(package(MODEL.replace(before, after), layers)) != first


def test_a_constant_from_a_sibling_counts(package):
    first = code_hash(package())
    assert code_hash(package(layers=LAYERS.replace("2", "3"))) != first


def test_what_siblings_import_counts():
    names = {f.name for f in files_of(resolve_model("ddim"))}
    assert names == {"ddim.py", "ddpm.py", "denoising.py", "nets.py", "portable.py", "probability_flow.py"}
    assert {f.name for f in files_of(resolve_model("cgan"))} == {"cgan.py", "dcgan.py", "gan.py", "nets.py"}


def test_a_file_of_ones_own_counts_with_what_it_takes_from_the_zoo(tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("from zoo.realnvp import RealNVP\n\n\nclass Mine(RealNVP):\n    pass\n")
    names = {f.name for f in files_of(resolve_model("mine", "mine.py:Mine", tmp_path))}
    assert {"mine.py", "realnvp.py"} <= names
    assert not {"models.py", "abilities.py", "space.py"} & names


def test_code_text_keeps_the_code_as_it_was_written():
    source = '"""Doc."""  # why\n\nx = [  # values\n    "#1",\n    """two\n\nlines""",\n]\n\n\n'
    source += 'def f():\n    "doc"\n\n    # why\n    return x\n'
    assert code_text(source) == 'x = [\n    "#1",\n    """two\n\nlines""",\n]\ndef f():\n    return x\n'


def test_a_kept_hash_is_used_while_no_file_changes(package, monkeypatch):
    """The files are made old, as a hash of files that have just changed is not kept."""
    kind = package()
    for file in files_of(kind):
        os.utime(file, (1e9, 1e9))
    monkeypatch.setattr(derived, "_SETTLED", -60.0)
    hashed = code_hash(kind)
    with monkeypatch.context() as refused:
        refused.setattr(code_hash_module, "_walk", lambda roots: pytest.fail("the code was read again"))
        assert code_hash(kind) == hashed
    assert code_hash(package(MODEL.replace('["narrow"]', '["wide"]'))) != hashed
    assert code_hash(package()) == hashed


def test_a_new_neighbour_makes_the_hash_be_computed_again(package, monkeypatch):
    kind = package()
    monkeypatch.setattr(derived, "_SETTLED", -60.0)
    code_hash(kind)
    (next(iter(files_of(kind))).parent / "added.py").write_text("")
    read = []
    monkeypatch.setattr(code_hash_module, "_walk", lambda roots: read.append(roots) or Walk())
    code_hash(kind)
    assert read


def test_a_hash_of_a_file_that_changed_a_moment_ago_is_not_kept(package, monkeypatch):
    kind, hashed = package(), None
    for _ in range(2):
        hashed = hashed or code_hash(kind)
        assert code_hash(kind) == hashed
    assert not (default_root() / "derived").exists()
