"""What code of a model changes while it is imported is put back."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from genbench.errors import ModelError
from genbench.registry import load_object

CODE = """
import os, signal, sys
os.chdir("/")
sys.path.clear()
sys.path.append("elsewhere")
sys.stdout = sys.stderr = None
signal.signal(signal.SIGTERM, signal.SIG_IGN)
NAME = 1
"""


@pytest.mark.parametrize("end", ["", "raise ValueError('planted')"])
def test_an_import_leaves_the_process_as_it_was(tmp_path, monkeypatch, end):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "code.py").write_text(CODE + end)

    def state():
        return Path.cwd(), sys.stdout, sys.stderr, signal.getsignal(signal.SIGTERM), set(sys.path) - {"elsewhere"}

    before = state()
    if end:
        with pytest.raises(ModelError, match="cannot be imported: ValueError: planted"):
            load_object(f"{tmp_path / 'code.py'}:NAME")
    else:
        assert load_object(f"{tmp_path / 'code.py'}:NAME") == 1
    assert state() == before
