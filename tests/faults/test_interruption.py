"""Signals, a killed fork server, a time limit, damaged artefacts: a message, no traceback, and a rerun works."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from test_runner import TOYS, command, genbench, place, toy, write  # noqa: F401 - place is a fixture

from genbench.records import read_records
from genbench.store import Kind, Store
from genbench.text import without_folders

MOST_SECONDS = 40  # 2 on a machine that does nothing else: tests/faults/interrupts.py measures it
SLOW = {"config": {"sleep": 0.05}, "budget": {"images": 64_000}}


def started(path: Path, *more: str) -> subprocess.Popen[str]:
    """A run whose training has reached its first checkpoint."""
    run = subprocess.Popen(command(path, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not list((Store().root / "scratch" / Kind.WEIGHTS).glob("*/checkpoint.pt")):
        assert time.monotonic() < deadline
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    return run


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_a_run_with_a_checkpoint_and_a_message(place, number, code, word):  # noqa: F811
    path = write(place, [toy(**SLOW)], metrics=["fid"])
    run = started(path)
    checkpoint = next((Store().root / "scratch" / Kind.WEIGHTS).glob("*/checkpoint.pt"))
    checkpoint.unlink()
    run.send_signal(number)
    _, errors = run.communicate(timeout=MOST_SECONDS)
    assert run.returncode == code
    assert errors.strip() == f"genbench: {word}; run the same command to continue"
    assert checkpoint.is_file()


@pytest.mark.parametrize("where", ["None", "not None"], ids=["planning", "worker"])
def test_an_interrupt_while_a_run_plans_or_starts_a_worker(place, where):  # noqa: F811
    """The file of the model waits while it is imported; SIGINT goes to all processes, as a terminal sends it."""
    (place / "waits.py").write_text(WAITS.format(where=where, path=str(place / "reached")))
    path = write(place, [{"name": "m", "source": "waits.py:M"}], metrics=["fid"])
    run = subprocess.Popen(
        command(path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not (place / "reached").exists():
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGINT)
    _, errors = run.communicate(timeout=MOST_SECONDS)
    assert run.returncode == 130
    assert errors.strip() == "genbench: interrupted; run the same command to continue"


WAITS = f"""
import multiprocessing, pathlib, sys, time
sys.path.append({str(TOYS.parent)!r})
from toys import Diagonal

class M(Diagonal):
    pass

if multiprocessing.parent_process() is {{where}}:
    pathlib.Path({{path!r}}).touch()
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_killed_fork_server_is_named_and_a_rerun_recovers(place):  # noqa: F811
    path = write(place, [toy(config={"sleep": 0.05}, budget={"images": 3_200})], metrics=["fid"])
    run = started(path)
    for child in psutil.Process(run.pid).children(recursive=True):
        if "forkserver" in " ".join(child.cmdline()):
            child.kill()
    text = "".join(run.communicate(timeout=200))
    assert "Traceback" not in text
    assert run.returncode in (0, 1)
    genbench(path)


@pytest.mark.slow
def test_a_cell_that_runs_for_too_long_fails(place):  # noqa: F811
    path = write(place, [toy(label="endless", **SLOW), toy()], metrics=["fid"])
    genbench(path, "--cell-timeout", "40", rc=1)
    reasons = {r.model: r.reason for r in read_records(place / "out" / "records.jsonl") if r.status == "failed"}
    assert reasons == {"endless": "it ran for longer than --cell-timeout 40 s"}


def _with_another_byte(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes(b ^ 1 for b in content[middle : middle + 1]) + content[middle + 1 :]


@pytest.mark.slow
def test_damaged_artefacts_are_made_again(place):  # noqa: F811
    """Files of each kind of artefact are emptied, cut short and changed; each rerun gives the same values."""
    path, rng = write(place, [toy()], metrics=["fid", "bits_per_dim"]), random.Random(0)
    genbench(path)
    before = {(r.model, r.metric): r.value for r in read_records(place / "out" / "records.jsonl")}
    names = sorted(p.relative_to(Store().root) for kind in Kind for p in (Store().root / kind).glob("*/*"))
    for kind in Kind:
        files = [Store().root / n for n in names if n.parts[0] == kind]
        for damage in (lambda b: b"", lambda b: b[: len(b) // 2], _with_another_byte):
            for file in rng.sample(files, min(4, len(files))):
                if file.is_file():
                    file.write_bytes(damage(file.read_bytes()))
        genbench(path)
        assert {(r.model, r.metric): r.value for r in read_records(place / "out" / "records.jsonl")} == before


def test_a_truncated_page_and_what_a_killed_run_left_are_mended(place):  # noqa: F811
    path, out = write(place, [toy()], metrics=["fid"]), place / "out"
    genbench(path)
    whole = (out / "leaderboard.html").read_bytes()
    (out / "leaderboard.html").write_bytes(whole[:1000])
    (out / ".records.jsonl.123").write_text("half")
    records = (out / "records.jsonl").read_bytes()
    genbench(path)
    assert (out / "leaderboard.html").read_bytes() == whole
    assert (out / "records.jsonl").read_bytes() == records
    assert not (out / ".records.jsonl.123").exists()


def test_finished_records_survive_an_emptied_cache_and_an_early_kill(place, tmp_path_factory, monkeypatch):  # noqa: F811
    path, out = write(place, [toy(config={"sleep": 0.05}, budget={"images": 3_200})], metrics=["fid"]), place / "out"
    genbench(path)
    before = (out / "records.jsonl").read_bytes()
    monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path_factory.mktemp("empty")))
    run = started(path)
    run.kill()
    run.communicate()
    (place / "before.jsonl").write_bytes(before)
    old, now = (read_records(p) for p in (place / "before.jsonl", out / "records.jsonl"))
    assert {(r.model, r.metric): r.value for r in old} == {(r.model, r.metric): r.value for r in now}


def test_reasons_hold_no_folders_of_the_machine():
    root, cache = Path("/home/ann/suites"), Path("/data/cache")
    text = "/home/ann/suites/w/x.npz and /data/cache/weights/k: not '/home/bob/.ssh/id', a/b and 3 images/s of 1/2"
    assert without_folders(text, root, cache) == "w/x.npz and weights/k: not 'id', a/b and 3 images/s of 1/2"
    others = "at file:///home/bob/x.py, ~bob/notes/y and \\\\server\\share\\z"
    assert without_folders(others, root, cache) == "at x.py, y and z"
