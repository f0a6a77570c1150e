"""SIGINT and SIGTERM at random times of a run, from its first moment to its end: exit code, message, and how soon.

    python tests/faults/interrupts.py 40

Each try starts a run with an empty store, waits for a random time, sends the signal (SIGINT to all its processes, as a
terminal does), and expects: exit code 130 or 143, one line on standard error that says how to continue, no traceback,
and an end within 2 seconds. What happens before Python runs a line of genbench is counted apart. The times are of the
wall clock: give the machine nothing else to do.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from faults.tiny import command, environment, write_suite

LIMIT = 2.0  # seconds from the signal to the end
LONGEST = 60  # seconds after which a try is ended
WORDS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}


def attempt(folder: Path, number: signal.Signals, delay: float) -> tuple[str, float]:
    """How one interrupted run ended, and the seconds that the command took to end."""
    with (folder / "errors").open("w") as errors:
        run = subprocess.Popen(
            command(folder), env=environment(folder / "cache"), stdout=subprocess.DEVNULL, stderr=errors,
            start_new_session=True,
        )  # fmt: skip
        try:
            end = "finished" if run.wait(timeout=delay) == 0 else "failed: it ended before the signal"
            return end, 0.0
        except subprocess.TimeoutExpired:
            start = time.monotonic()
            (os.killpg if number == signal.SIGINT else os.kill)(run.pid, number)
        try:
            run.wait(timeout=LONGEST)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            return f"failed: it did not end in {LONGEST} s", float(LONGEST)
    seconds = time.monotonic() - start
    return judged(run.returncode, (folder / "errors").read_text().strip(), seconds, number), seconds


def judged(found: int, errors: str, seconds: float, number: signal.Signals) -> str:
    """Whether an interrupted run ended as it must."""
    code, word = WORDS[number]
    if found in (-number, 1) and "/genbench/" not in errors:
        return "python"
    if found != code or errors != f"genbench: {word}; run the same command to continue":
        return f"failed: exit code {found}, {errors[-300:]!r}"
    return "ended" if seconds <= LIMIT else f"failed: {seconds:.1f} s after the signal"


def main(count: str, longest: str = "25") -> int:
    """Prints the counts and times; exits with 1 when anything failed."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts in the background
    rng, ends, times = random.Random(0), Counter[str](), list[float]()
    with tempfile.TemporaryDirectory() as name:
        for i in range(int(count)):
            print(f"\r{i} of {count}", end="", file=sys.stderr, flush=True)
            folder = write_suite(Path(name) / str(i), images=64_000)
            delay = rng.uniform(0, float(longest)) if i % 2 else rng.uniform(0, 4)  # half of them while it starts
            number = rng.choice(list(WORDS))
            end, seconds = attempt(folder, number, delay)
            times.append(seconds)
            ends[end if not end.startswith("failed") else f"{end} ({number.name} after {delay:.2f} s)"] += 1
    failures = {text: n for text, n in ends.items() if text.startswith("failed")}
    before = f"{ends['python']} while Python itself started, {ends['finished']} had finished"
    done = f"{ends['ended']} ended as they must, {before}, {sum(failures.values())} failed"
    print(f"signals: {count} tried, {done}")
    median, most = statistics.median(times), sorted(times)[int(0.9 * (len(times) - 1))]
    print(f"from the signal to the end: median {median:.2f} s, 90 % within {most:.2f} s, longest {max(times):.2f} s")
    print(*failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
