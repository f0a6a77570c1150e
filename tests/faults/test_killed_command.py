"""SIGKILL of a command alone: everything that it has started ends soon, also in the middle of a long computation."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from faults.tiny import NOISE, environment

MOST_SECONDS = 40  # about one on a machine that does nothing else
LONG = "import pathlib, time\npathlib.Path({reached!r}).touch()\ntime.sleep(600)\n"
SUITE = """suite: long
dataset: {{name: npz, path: data.npz}}
features: pixels
samples: 20
metrics: [fid]
models:
- {{name: long, source: "{source}"}}
"""


def what_is_left(folder: Path, *arguments: str) -> list[str]:
    """Processes that are left MOST_SECONDS after the kill; the command has reached the long computation before."""
    np.savez(folder / "data.npz", images=np.zeros((60, 4, 4), dtype=np.uint8))
    run = subprocess.Popen([sys.executable, "-m", "genbench", *arguments], env=environment(folder / "cache"))
    deadline = time.monotonic() + 100
    while not (folder / "reached").exists():
        assert time.monotonic() < deadline
        assert run.poll() is None
        time.sleep(0.05)
    own = psutil.Process(run.pid).children()  # the supervised process
    all_of_them = psutil.Process(run.pid).children(recursive=True)
    assert len(all_of_them) > len(own)
    for process in own:
        process.kill()
    run.wait()
    deadline = time.monotonic() + MOST_SECONDS
    while (left := [process for process in all_of_them if runs(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    names = [" ".join(process.cmdline()) for process in left]
    for process in left:
        process.kill()
    return names


def runs(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that nobody waits for has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_workers_their_server_and_the_program_of_a_killed_run_end(tmp_path):
    (tmp_path / "long.py").write_text(LONG.format(reached=str(tmp_path / "reached")))
    (tmp_path / "s.yaml").write_text(SUITE.format(source="command:python long.py {n} {seed} {out}"))
    assert what_is_left(tmp_path, "run", f"{tmp_path / 's.yaml'}", "--out", f"{tmp_path / 'out'}") == []


@pytest.mark.slow
def test_the_process_that_times_for_a_killed_speed_ends(tmp_path):
    drawing = "".join(f"        {line}\n" for line in LONG.format(reached=str(tmp_path / "reached")).splitlines())
    (tmp_path / "long.py").write_text(NOISE.replace("        return", f"{drawing}        return"))
    (tmp_path / "s.yaml").write_text(SUITE.format(source="long.py:Noise"))
    assert what_is_left(tmp_path, "speed", f"{tmp_path / 's.yaml'}", "--random-weights") == []
