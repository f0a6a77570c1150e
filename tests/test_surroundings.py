"""What code of a model changes while it is imported is put back."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from genbench.errors import ModelError
from genbench.registry import load_object

CODE = """
import builtins, os, signal, sys, time
time.perf_counter = lambda: 0.0
builtins.sum = max
del os.replace
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
        functions = time.perf_counter, sum, getattr(os, "replace", None)
        handler = signal.getsignal(signal.SIGTERM)
        return Path.cwd(), sys.stdout, sys.stderr, handler, set(sys.path) - {"elsewhere"}, functions

    before = state()
    if end:
        with pytest.raises(ModelError, match="cannot be imported: ValueError: planted"):
            load_object(f"{tmp_path / 'code.py'}:NAME")
    else:
        assert load_object(f"{tmp_path / 'code.py'}:NAME") == 1
    assert state() == before
