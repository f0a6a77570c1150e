"""Every test has an artefact store of its own, and no more threads than the machine has to spare."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
torch.set_num_threads(1)


@pytest.fixture
def device():
    """Where tests that can choose compute; $GENBENCH_TEST_DEVICE, default cpu."""
    return os.environ.get("GENBENCH_TEST_DEVICE", "cpu")


@pytest.fixture(autouse=True)
def own_store(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path_factory.mktemp("store")))


@pytest.fixture(autouse=True)
def any_load(monkeypatch):
    """What else runs on the machine marks no timing; tests of the mark inject what the meter reads."""
    monkeypatch.setenv("GENBENCH_BUSY_CORES", "inf")
