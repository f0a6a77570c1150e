"""All campaigns of faults, one after another: `make faults`, or only those that are named.

    PYTHONPATH=.:tests python tests/faults/campaigns.py
    PYTHONPATH=.:tests python tests/faults/campaigns.py kills disks

Each one's output is kept in build/faults/NAME.txt. A campaign that ended well is not repeated until genbench or one of
these scripts changes, so that an interrupted `make faults` continues. Exits with 1 when a campaign showed a fault.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

from genbench.text import duration

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "faults"
FOLDER = "tests/faults"
CAMPAIGNS = {
    "models": ["-m", "pytest", "-q", FOLDER, "tests/test_halving.py", "-m", "slow or not slow"],
    "suites": [f"{FOLDER}/fuzz.py", "suites", "2000"],
    "records": [f"{FOLDER}/fuzz.py", "records", "500"],
    "arrays": [f"{FOLDER}/fuzz.py", "arrays", "500"],
    "kills": [f"{FOLDER}/kills.py", "100"],
    "disks": [f"{FOLDER}/disks.py", "20"],
    "interrupts": [f"{FOLDER}/interrupts.py", "40"],
    "cells": [f"{FOLDER}/load.py", "cells", "500"],
    "many_records": [f"{FOLDER}/load.py", "records", "100000"],
}


def code() -> str:
    """A hash of genbench and of the campaigns."""
    files = sorted([*(ROOT / "genbench").rglob("*.py"), *Path(__file__).parent.glob("*.py")])
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:12]


def run(name: str, now: str) -> bool:
    """Runs a campaign unless its result is there; prints its output; whether it showed no fault."""
    path = KEPT / f"{name}.txt"
    head = f"{name}: no faults, code {now}"
    if path.is_file() and path.read_text().startswith(head):
        print(path.read_text())
        return True
    start = time.monotonic()
    variables = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    done = subprocess.run(
        [sys.executable, *CAMPAIGNS[name]], cwd=ROOT, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip
    first = head if done.returncode == 0 else f"{name}: FAULTS, code {now}"
    text = f"{first}, {duration(time.monotonic() - start)}\n{done.stdout}"
    KEPT.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    print(text, flush=True)
    return done.returncode == 0


def main(*names: str) -> int:
    """Runs the named campaigns, by default all."""
    now = code()
    ends = [run(name, now) for name in names or CAMPAIGNS]
    return 0 if all(ends) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
