"""Runs with several processes for each task: the same numbers and keys, whoever starts the processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toys
from safetensors.numpy import load_file

from genbench.errors import GenbenchError
from genbench.records import OK, Record
from genbench.runner.executors import Execution, LaunchRequest, choose_execution, make_launcher
from genbench.runner.run import run
from genbench.store import default_root

SUITE = f"""
suite: several
dataset: {{name: digits}}
features: pixels
budget: {{images: 320}}
samples: 60
block: 25
likelihood_images: 120
models:
  - {{name: toy, source: "{toys.__file__}:Diagonal"}}
metrics: [fid, bits_per_dim]
"""


@pytest.fixture
def suite(tmp_path):
    (tmp_path / "several.yaml").write_text(SUITE)
    return tmp_path / "several.yaml"


def weights() -> dict[str, np.ndarray]:
    (file,) = default_root().glob("weights/*/model.safetensors")
    return load_file(file)


def of_toy(records: tuple[Record, ...] | list[Record]) -> dict[str, Record]:
    return {r.metric: r for r in records if r.model == "toy" and r.status == OK}


def assert_the_same(one: dict[str, Record], several: dict[str, Record]) -> None:
    assert [r.key for r in one.values()] == [r.key for r in several.values()]
    assert [r.protocol_hash for r in one.values()] == [r.protocol_hash for r in several.values()]
    assert [r.value for r in one.values()] == pytest.approx([r.value for r in several.values()], rel=1e-6)
    made = [r.protocol["model"]["trained_with"].get("processes") for r in (*one.values(), *several.values())]
    assert made == [None, None, 2, 2]


def test_a_run_on_two_processes_has_the_numbers_and_keys_of_one(suite, tmp_path, monkeypatch):
    one = run(suite, out=tmp_path / "one", device="cpu")
    before = weights()
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "another"))
    several = run(suite, out=tmp_path / "several", device="cpu", processes=2)
    assert all(np.allclose(value, before[name], atol=1e-6) for name, value in weights().items())
    assert_the_same(of_toy(one.records), of_toy(several.records))


@pytest.mark.slow
def test_torchrun_starts_the_processes_of_a_run(suite, tmp_path, monkeypatch):
    one = run(suite, out=tmp_path / "one", device="cpu")
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / "another"))
    command = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "genbench", "run", str(suite)]
    root = Path(__file__).parent.parent
    variables = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command, "--out", str(tmp_path / "several")], env=variables, check=True)
    several = run(suite, out=tmp_path / "several", device="cpu")
    assert several.measured == 0
    assert_the_same(of_toy(one.records), of_toy(several.records))


def launched(monkeypatch, size: int, rank: int = 0) -> None:
    names = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": size, "RANK": rank, "LOCAL_RANK": rank}
    for name, value in names.items():
        monkeypatch.setenv(name, str(value))


def test_torchrun_decides_the_number_of_processes(monkeypatch):
    assert choose_execution("local", "cpu").processes == 1
    assert choose_execution("local", "cpu", processes=3).processes == 3
    launched(monkeypatch, 2)
    assert choose_execution("local", "cpu") == Execution("local", "cpu", processes=2, launched=True)
    with pytest.raises(GenbenchError, match="--processes: found 3, allowed: 2, which torchrun has started"):
        choose_execution("local", "cpu", processes=3)


def test_tasks_of_several_processes_share_the_gpus(tmp_path):
    def pool(processes: int, launched: bool = False):
        execution = Execution("local", "cuda", ("4", "5", "6", "7", "8"), {}, processes, launched)
        return make_launcher(LaunchRequest(execution, (), tmp_path, None, lambda task, seconds: None))

    assert (pool(1).workers, pool(1).gpus) == (5, ("4", "5", "6", "7", "8"))
    assert (pool(2).workers, pool(2).gpus) == (2, ("4,5", "6,7"))
    assert pool(2, launched=True).workers == 1
