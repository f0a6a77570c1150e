"""genbench.run called by a script at its top level, without a guard, and by a program read from standard input."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TOYS = Path(__file__).parent / "toys.py"

SCRIPT = """
import genbench
print("script starts")
models = [{"name": "a", "source": SOURCE}]
whole = {"suite": "s", "dataset": {"name": "npz", "path": "data.npz"}, "features": "pixels", "samples": 40,
         "models": models, "metrics": ["precision"], "budget": {"images": 64}}
from genbench.suite.schema import Suite
result = genbench.run(Suite.model_validate(whole), out="out", device="cpu")
print("failed:", len(result.failed))
"""


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_a_script_needs_no_guard(tmp_path, way):
    images = np.random.default_rng(0).integers(0, 256, (120, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "data.npz", images=images)

    script = SCRIPT.replace("SOURCE", repr(f"{TOYS}:Diagonal"))
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, "script.py"] if way == "file" else [sys.executable, "-"]
    done = subprocess.run(
        command, input=script if way == "stdin" else None, capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("script starts") == 1
    assert "failed: 0" in done.stdout
