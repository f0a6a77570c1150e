"""Files that a model reads are part of its keys, and `genbench check` finds those that it does not declare."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from genbench.check import check_model
from genbench.contract import DataSpec
from genbench.errors import CellFailure, SuiteError
from genbench.plan.planner import make_plan
from genbench.registry import resolve_model
from genbench.suite.schema import Suite

MODEL = """import ctypes
import torch
from genbench.contract import Draws


class Shift(Draws):
{declaration}
    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        {read}

    def sample(self, n, gen, condition=None):
        return (torch.rand(n, *self.data.shape, generator=gen) * 2 - 1) * self.scale
"""
DECLARED = "    @classmethod\n    def files(cls, config):\n        return ('scale.txt',)\n"
BY_PYTHON = "self.scale = float(self.beside('scale.txt').read_text())"
# As compiled libraries do: Python's audit hook does not see it.
BY_C = (
    "libc = ctypes.CDLL(None); fd = libc.open(str(self.beside('scale.txt')).encode(), 0); libc.close(fd); "
    "self.scale = 0.5"
)


def written(folder: Path, declaration: str = DECLARED, read: str = BY_PYTHON, scale: str = "0.5") -> Path:
    (folder / "m.py").write_text(MODEL.format(declaration=declaration, read=read))
    (folder / "scale.txt").write_text(scale)
    return folder


def plan(folder: Path, monkeypatch: pytest.MonkeyPatch, **entry: object):
    monkeypatch.chdir(folder)
    model = {"name": "m.py:Shift", **entry}
    data = {"suite": "s", "dataset": {"name": "digits"}, "models": [model], "metrics": ["fid"], "features": "pixels"}
    return make_plan(Suite.model_validate(data)).cells[0]


def test_a_replaced_file_changes_the_keys(tmp_path, monkeypatch):
    first = plan(written(tmp_path), monkeypatch)
    again = plan(written(tmp_path), monkeypatch)
    second = plan(written(tmp_path, scale="0.25"), monkeypatch)
    assert first.samples_key == again.samples_key != second.samples_key
    assert first.metrics[0].key == again.metrics[0].key != second.metrics[0].key


def test_the_suite_may_declare_the_file(tmp_path, monkeypatch):
    def key(scale: str, **entry: object) -> str:
        return plan(written(tmp_path, "", scale=scale), monkeypatch, **entry).samples_key

    assert key("0.5") == key("0.25")  # nobody knows of it
    assert key("0.5", files=["scale.txt"]) != key("0.25", files=["scale.txt"])


def test_a_missing_file_is_refused_where_it_is_named(tmp_path, monkeypatch):
    with pytest.raises(SuiteError, match=r"models\[0\]\.files\[0\]: .*none\.txt: not found"):
        plan(written(tmp_path), monkeypatch, files=["none.txt"])
    (tmp_path / "scale.txt").unlink()
    with pytest.raises(SuiteError, match=r"models\[0\]: Shift: files: 'scale\.txt': .*scale\.txt not found"):
        plan(tmp_path, monkeypatch)


def test_a_file_replaced_during_the_run_fails_the_cell(tmp_path, monkeypatch):
    source = plan(written(tmp_path), monkeypatch).source
    source.network.resolve()
    written(tmp_path, scale="0.25")
    with pytest.raises(CellFailure, match=r"scale\.txt changed during the run"):
        source.network.resolve()


def fault(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
    results = check_model(resolve_model("m.py:Shift"), DataSpec(1, 4, 4))
    return next(r.message for r in results if r.name == "files are declared")


@pytest.mark.parametrize("read", [BY_PYTHON, BY_C])
def test_check_finds_a_file_that_is_not_declared(tmp_path, monkeypatch, read):
    assert ctypes.CDLL(None)
    assert "scale.txt, which files() does not name" in fault(written(tmp_path, "", read), monkeypatch)
    assert fault(written(tmp_path, DECLARED, read), monkeypatch) == ""


def test_check_of_a_class_that_only_draws_passes(tmp_path, monkeypatch):
    monkeypatch.chdir(written(tmp_path))
    results = check_model(resolve_model("m.py:Shift"), DataSpec(1, 4, 4))
    assert [r for r in results if not r.passed] == []
    assert len(results) >= 8
