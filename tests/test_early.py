"""When the server of workers begins before a run is planned."""

import pytest

from genbench.runner import early
from genbench.suite.schema import read_suite


@pytest.fixture
def begun(monkeypatch):
    """The modules of each server that was begun."""
    calls = []
    monkeypatch.setattr(early, "start_server", calls.append)
    return calls


def test_it_imports_what_the_datasets_need(begun, tmp_path):
    early.begin_workers(read_suite("digits"), tmp_path)
    (modules,) = begun
    assert modules[0] == "genbench.runner.tasks"
    assert "sklearn.datasets" in modules
    assert modules[-1] == "genbench.runner.warm"


def test_not_where_there_may_be_nothing_to_do(begun, tmp_path):
    (tmp_path / early.RECORDS).touch()
    early.begin_workers(read_suite("digits"), tmp_path)
    assert not begun


def test_not_for_a_plug_in_which_would_be_imported(begun, tmp_path):
    (tmp_path / "data.py").write_text("raise AssertionError")
    text = "suite: s\nversion: 1\nseeds: [0]\ndataset: {name: ./data.py:DATA}\nfeatures: pixels\nsamples: 100\n"
    (tmp_path / "s.yaml").write_text(text + "models: [{name: vae}]\nmetrics: [fid]\n")
    early.begin_workers(read_suite(tmp_path / "s.yaml"), tmp_path)
    assert not begun


def test_not_below_torchrun(begun, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    early.begin_workers(read_suite("digits"), tmp_path)
    assert not begun
