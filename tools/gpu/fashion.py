"""Step `fashion`: suites/fashion_mnist.yaml, as many cells as fit; the same call again continues.

What lets another machine continue goes to the output folder: the store's trained weights and values, and checkpoints
of unfinished trainings, as an archive in pieces of at most 15 MiB, beside the results folder's archive.
"""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

from tools.gpu.common import ROOT, Part, Setting
from tools.gpu.suites import SUITES, written

PIECE, MOST_PIECES = 15 * 2**20, 5
RESULTS, STORE = "fashion.tar.gz", "fashion-store.tar"
KEPT = ("weights", "values", "likelihoods")  # of the store; samples and features are drawn again
CLOSING = 25.0  # seconds to stop, and to write the archives


def parts(setting: Setting) -> list[Part]:
    """One process."""
    return [Part(("suite",), "tools.gpu.fashion:suite", seconds=60.0)]


def suite(setting: Setting, item: str) -> dict[str, Any]:
    """Runs or continues the suite and archives it. Raises TimeoutError with what was done where time ran out."""
    work, out = Path(setting.work) / "fashion", Path(setting.out)
    restore(out, work)
    path = SUITES / "fashion_mnist.yaml"
    if setting.tiny:
        few = {"dataset": {"name": "digits"}, "metrics": ["fid", "bits_per_dim", "parameters"]}
        path = written("fashion_mnist", work, True, **few, models=[{"name": "gan"}, {"name": "vae"}])
    command = [sys.executable, "-m", "genbench.cli", "run", str(path), "--out", str(work / "results"),
               "--device", setting.device]  # fmt: skip
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "GENBENCH_CACHE": str(work)})
    try:
        code = process.wait(setting.left - CLOSING)
    except subprocess.TimeoutExpired:
        code = stopped(process)
    left_out = archive(out, work)
    done = finished(work / "results" / "records.jsonl")
    if code == 130:
        raise TimeoutError(f"stopped in time, to be continued; {done}; {left_out}")
    if code:
        raise RuntimeError(f"genbench run ended with code {code}; {done}; {left_out}")
    return {"cells": done, "archives": left_out}


def stopped(process: subprocess.Popen[bytes]) -> int:
    """Interrupts the run as Ctrl-C does, which leaves checkpoints behind; 130."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(8)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return 130


def finished(records: Path) -> str:
    """How many values there are, of how many cells."""
    if not records.is_file():
        return "no values yet"
    from genbench.records import read_records

    found = [r for r in read_records(records) if r.status == "ok"]
    return f"{len(found)} values of {len({r.cell for r in found})} cells"


def archive(out: Path, work: Path) -> str:
    """Writes the results and the store to the output folder; what was left out, in words."""
    with tarfile.open(out / RESULTS, "w:gz") as file:
        if (work / "results").is_dir():
            file.add(work / "results", "results")
    for names in ((*KEPT, "scratch/weights"), KEPT):
        data = packed(work, names)
        if len(data) <= PIECE * MOST_PIECES:
            break
    else:
        return f"the store is {len(data)} bytes and was not archived"
    for old in out.glob(f"{STORE}.*"):
        old.unlink()
    for number in range(-(-len(data) // PIECE)):
        (out / f"{STORE}.{number}").write_bytes(data[number * PIECE : (number + 1) * PIECE])
    return f"{', '.join(names)} archived"


def packed(work: Path, names: tuple[str, ...]) -> bytes:
    """A tar of folders of the store."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name in names:
            if (work / name).is_dir():
                file.add(work / name, name)
    return buffer.getvalue()


def restore(out: Path, work: Path) -> None:
    """Unpacks an earlier call's archives where this machine has no store yet."""
    pieces = sorted(out.glob(f"{STORE}.*"))
    if (work / "weights").is_dir() or not pieces:
        return
    work.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(b"".join(piece.read_bytes() for piece in pieces))) as file:
        file.extractall(work, filter="data")
    if (out / RESULTS).is_file():
        with tarfile.open(out / RESULTS) as file:
            file.extractall(work, filter="data")
