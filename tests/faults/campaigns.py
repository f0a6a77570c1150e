"""All campaigns of faults, two at a time: `make faults`, or only those that are named.

    PYTHONPATH=.:tests python tests/faults/campaigns.py
    PYTHONPATH=.:tests python tests/faults/campaigns.py kills disks

Those that measure times run alone, after the others. Names and times are on the screen; each one's output is kept in
build/faults/NAME.txt, and its end is shown when it has ended. A campaign that ended well is not repeated until genbench
or one of these scripts changes, so that an interrupted `make faults` continues. Exits with 1 when a campaign showed a
fault.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from genbench.text import duration

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "faults"
FOLDER = "tests/faults"
LINES = 20  # of a campaign's output on the screen
BESIDE = 2  # campaigns at a time, of one thread each
# The longest first, because the last one to end decides.
CAMPAIGNS = {
    "kills": [f"{FOLDER}/kills.py", "100"],
    "models": ["-m", "pytest", "-q", FOLDER, "tests/test_halving.py", "-m", "slow or not slow"],
    "suites": [f"{FOLDER}/fuzz.py", "suites", "2000"],
    "records": [f"{FOLDER}/fuzz.py", "records", "500"],
    "arrays": [f"{FOLDER}/fuzz.py", "arrays", "500"],
    "damage": [f"{FOLDER}/damage.py"],
    "commands": [f"{FOLDER}/hostile_commands.py"],
    "disks": [f"{FOLDER}/disks.py", "20"],
    "interrupts": [f"{FOLDER}/interrupts.py", "40"],
    "cells": [f"{FOLDER}/load.py", "cells", "500"],
    "many_records": [f"{FOLDER}/load.py", "records", "100000"],
}
TIMED = ("interrupts", "cells", "many_records")


def code() -> str:
    """A hash of genbench and of the campaigns."""
    files = sorted([*(ROOT / "genbench").rglob("*.py"), *Path(__file__).parent.glob("*.py")])
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()[:12]


def run(name: str, now: str) -> bool:
    """Runs a campaign unless its result is there; prints the end of its output; whether it showed no fault."""
    path = KEPT / f"{name}.txt"
    head = f"{name}: no faults, code {now}"
    if path.is_file() and path.read_text().startswith(head):
        print(f"{head}, as before: {path}", flush=True)
        return True
    print(f"{time.strftime('%H:%M:%S')} {name} begins; its output: {path}.now", flush=True)
    start, output = time.monotonic(), path.with_suffix(".txt.now")
    variables = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "PYTHONUNBUFFERED": "1"}
    with output.open("w") as file:
        done = subprocess.run(
            [sys.executable, *CAMPAIGNS[name]], cwd=ROOT, env=variables, stdout=file, stderr=subprocess.STDOUT
        )
    first = head if done.returncode == 0 else f"{name}: FAULTS, code {now}"
    text = f"{first}, {duration(time.monotonic() - start)}\n{output.read_text()}"
    path.write_text(text)
    output.unlink()
    print("\n".join([*text.splitlines()[:1], *text.splitlines()[1:][-LINES:]]), flush=True)
    return done.returncode == 0


def main(*names: str) -> int:
    """Runs the named campaigns, by default all."""
    now, chosen = code(), names or tuple(CAMPAIGNS)
    KEPT.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(BESIDE) as together:
        ends = list(together.map(lambda name: run(name, now), [name for name in chosen if name not in TIMED]))
    ends += [run(name, now) for name in chosen if name in TIMED]
    return 0 if all(ends) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
