"""A model in a file may import from its own folder, and its hash follows what it imports."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from genbench.code_hash import code_hash, files_of
from genbench.errors import ModelError
from genbench.registry import resolve_model

MODEL = """import torch
import shared.widths as widths
from genbench.contract import Draws
from helpers import VALUE


def of(x):
    return x + 1


class Mine(Draws):
    def sample(self, n, gen, condition=None):
        import late

        return of(VALUE), widths.NARROW, late.LATE


class Other(Draws):
    def sample(self, n, gen, condition=None):
        return 2
"""


@pytest.fixture
def folder(tmp_path: Path):
    """Writes a folder with a model, a helper and a sub-package, and loads its class."""

    def write(name: str = "a", model: str = MODEL, value: int = 1, kind: str = "Mine", **files: str) -> type:
        own = tmp_path / name
        (own / "shared").mkdir(parents=True, exist_ok=True)
        texts = {"shared/__init__": "", "shared/base": "NARROW = 5\n", "shared/widths": "from .base import NARROW\n"}
        texts |= {"late": "LATE = 7\n", "helpers": f"VALUE = {value}\n", "m": model, **files}
        for file, text in texts.items():
            (own / f"{file}.py").write_text(text)
        return resolve_model("mine", "m.py:Mine".replace("Mine", kind), own)

    return write


def test_neighbours_are_imported_without_a_path(folder):
    before = list(sys.path)
    assert folder().sample(None, 1, None) == (2, 5, 7)
    assert sys.path == before
    assert not {"helpers", "shared", "late"} & set(sys.modules)


def test_two_folders_have_helpers_of_the_same_name(folder):
    a, b = folder("a", value=10), folder("b", value=20)
    assert (a.sample(None, 1, None)[0], b.sample(None, 1, None)[0]) == (11, 21)
    assert code_hash(a) != code_hash(b)
    assert code_hash(folder("c", value=10)) == code_hash(a)


def test_the_hash_follows_neighbours(folder):
    names = {
        f.relative_to(f.parents[1] if f.parent.name == "shared" else f.parent).as_posix() for f in files_of(folder())
    }
    assert names >= {"m.py", "helpers.py", "late.py", "shared/widths.py", "shared/base.py"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("helpers", "VALUE = 3\n"),
        ("late", "LATE = 8\n"),
        ("shared/base", "NARROW = 6\n"),
        ("m", MODEL.replace("x + 1", "x + 2")),
        ("m", MODEL + "\n\nMine.family = 'flow'\n"),
        ("helpers", "VALUE = 1\n\n\ndef change():\n    global VALUE\n    VALUE = 2\n"),
        ("helpers", "VALUE = 1\nVALUE += 1\n"),
        ("helpers", "import torch\n\nVALUE = 1\ntorch.manual_seed(3)\n"),
        ("helpers", "def f():\n    return 1\n\n\nVALUE = globals()['f'].__name__\n"),
    ],
)
def test_an_edit_that_can_matter_changes_the_hash(folder, file, text):
    before = code_hash(folder())
    assert code_hash(folder(**{file: text})) != before


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("m", MODEL.replace("return 2", "return 3")),
        ("m", MODEL.replace("class Other", "def unused():\n    pass\n\n\nclass Other")),
        ("m", MODEL.replace("import VALUE", "import VALUE, UNUSED")),
        ("helpers", "VALUE = 1\nUNUSED = 2\n"),
        ("m", MODEL + "\n\nif __name__ == '__main__':\n    Mine()\n"),
    ],
)
def test_an_edit_of_another_class_or_name_does_not(folder, file, text):
    more = {"helpers": "VALUE = 1\nUNUSED = 3\n"} if "UNUSED" in text and file == "m" else {}
    before = code_hash(folder())
    assert code_hash(folder(**{**more, file: text})) == before


def test_each_class_of_a_file_has_its_own_hash(folder):
    edited = MODEL.replace("return 2", "return 3")
    first = {kind: code_hash(folder(kind=kind)) for kind in ("Mine", "Other")}
    second = {kind: code_hash(folder(kind=kind, model=edited)) for kind in ("Mine", "Other")}
    assert first["Mine"] == second["Mine"]
    assert first["Other"] != second["Other"]


def test_a_name_that_may_be_found_at_run_time_makes_the_whole_file_count(folder):
    dynamic = MODEL.replace("return of(VALUE)", "return globals()['o' + 'f'](VALUE)")
    first = code_hash(folder(model=dynamic))
    assert code_hash(folder(model=dynamic.replace("return 2", "return 3"))) != first


def test_an_edited_file_is_imported_again(folder):
    assert folder(value=1).sample(None, 1, None)[0] == 2
    assert folder(value=4).sample(None, 1, None)[0] == 5


def test_genbench_and_the_standard_library_are_never_neighbours(folder):
    kind = folder(genbench="x = 1\n", json="x = 1\n", late="import json\n\nLATE = json.dumps(7)\n")
    assert kind.sample(None, 1, None)[2] == "7"


def test_a_missing_neighbour_is_one_line(folder):
    with pytest.raises(ModelError, match=r"m\.py: cannot be imported: ModuleNotFoundError: No module named 'nowhere'"):
        folder(model="import nowhere\n")
