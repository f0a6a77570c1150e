"""SIGKILL at random times of runs of a tiny suite; the same command again; the values of an undisturbed run.

    python tests/faults/kills.py 100

A third of the kills hits the command (its process, or the parent that supervises it), a third one of its other
processes (a worker, or the server that starts workers), a third all of them. After each kill the records that were
there before must still be there with the same values, and the folder must be readable. When a run has ended, its values
must be those of the undisturbed run, and the next kills hit a new folder with an empty store.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil

from faults.tiny import command, environment, values, write_suite

SLEEP = 0.05  # seconds of a training step, so that some kills hit a training
Values = dict[tuple[str, str], float | None]


def start(folder: Path) -> subprocess.Popen[str]:
    """The command, running; its output goes to folder/text."""
    with (folder / "text").open("w") as text:
        return subprocess.Popen(
            command(folder), env=environment(folder / "cache"), stdout=text, stderr=text, text=True,
            start_new_session=True,
        )  # fmt: skip


def kill(run: subprocess.Popen[str], rng: random.Random) -> str:
    """Kills a part of a run; returns which."""
    own = psutil.Process(run.pid).children()  # the supervised process
    children = [child for process in own for child in process.children(recursive=True)]
    what = rng.choice(["command", "process", "all"])
    if what == "process" and children:
        with suppress(psutil.NoSuchProcess):
            rng.choice(children).kill()
        return "process"
    if what == "all":
        os.killpg(run.pid, signal.SIGKILL)
    with suppress(psutil.NoSuchProcess):
        rng.choice([psutil.Process(run.pid), *own]).kill()
    return "all" if what == "all" else "command"


def killed_once(folder: Path, rng: random.Random, longest: float) -> tuple[str, int]:
    """Starts a run and kills a part of it at a random time; returns which, "ended" before, and its exit code."""
    run, what = start(folder), "ended"
    with suppress(subprocess.TimeoutExpired):
        return what, run.wait(timeout=rng.uniform(0, longest))
    with suppress(psutil.NoSuchProcess):
        what = kill(run, rng)
    return what, run.wait(timeout=600)


def fault_of(folder: Path, before: Values, what: str, code: int) -> str:
    """What is wrong with a folder after a kill; "" for nothing."""
    text = (folder / "text").read_text()
    now = values(folder)
    lost = {key: value for key, value in before.items() if now.get(key) != value}
    if lost:
        return f"lost or changed: {lost}"
    if "Traceback" in text:
        return f"a traceback: {text[-300:]}"
    return f"exit code {code} after a killed process: {text[-300:]}" if what == "process" and code not in (0, 1) else ""


def campaign(count: int, root: Path, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """How many kills hit what, and the faults that they showed."""
    rng, ends, faults = random.Random(seed), Counter[str](), list[str]()
    whole = write_suite(root / "whole", sleep=SLEEP)
    began = time.monotonic()
    assert start(whole).wait() == 0, (whole / "text").read_text()
    longest, expected = time.monotonic() - began, values(whole)
    folder = write_suite(root / "0", sleep=SLEEP)
    while ends.total() - ends["ended"] < count:
        before = values(folder)
        what, code = killed_once(folder, rng, longest)
        ends[what] += 1
        fault = fault_of(folder, before, what, code)
        faults += [f"kill {ends.total()} ({what}): {fault}"] if fault else []
        print(f"kill {ends.total() - ends['ended']} of {count}: {what}; {len(faults)} faults", flush=True)
        if code == 0:
            faults += [f"other values: {values(folder)}, expected {expected}"] if values(folder) != expected else []
            shutil.rmtree(folder)
            folder = write_suite(root / str(ends.total()), sleep=SLEEP)
    if start(folder).wait() != 0 or values(folder) != expected:
        faults.append(f"the last run: {(folder / 'text').read_text()[-300:]}")
    return ends, faults


def main(count: str) -> int:
    """Prints the counts; exits with 1 when anything failed."""
    with tempfile.TemporaryDirectory() as name:
        ends, faults = campaign(int(count), Path(name))
    hit = ", ".join(f"{n} {what}" for what, n in sorted(ends.items()) if what != "ended")
    print(f"kills: {count} tried ({hit}), {len(faults)} failed; {ends['ended']} runs ended between them")
    print(*faults, sep="\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
