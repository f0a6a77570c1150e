"""Peak memory of a block of work of known size."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from genbench.draw.memory import MIB, peak_memory, return_freed_memory
from genbench.machine import KEEPING_MEMORY


def test_peak_memory_sees_what_was_allocated_and_freed():
    with peak_memory(torch.device("cpu")) as peak:
        torch.ones(40 * MIB // 4)
    if peak[0] is None:
        pytest.skip("this system does not report the peak memory of a block of work")
    assert 39 < peak[0] < 60


def test_peak_memory_counts_what_an_allocator_had_kept():
    code = (
        "import torch\nfrom genbench.draw.memory import peak_memory\n"
        "for _ in range(2):\n"
        "    with peak_memory(torch.device('cpu')) as peak:\n"
        "        torch.ones(16 * 2**18)\n"
        "print(peak[0])"
    )
    environment = {**os.environ, **KEEPING_MEMORY}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    if done.stdout.strip() == "None":
        pytest.skip("this system does not report the peak memory of a block of work")
    assert 15 < float(done.stdout) < 24


def test_freed_memory_is_returned_where_the_c_library_can(monkeypatch):
    calls: list[int] = []
    libraries = {None: SimpleNamespace(malloc_trim=calls.append)}
    monkeypatch.setattr("ctypes.CDLL", libraries.get)
    return_freed_memory()
    assert calls == [0]
    libraries[None] = SimpleNamespace()  # as musl's
    return_freed_memory()
