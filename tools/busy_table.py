"""How far timings move beside a planted neighbour, on one and on two cores; the tables of docs/performance.md.

    python tools/busy_table.py                 about 6 minutes on a quiet machine
    python tools/busy_table.py --spinning      what OpenMP's waiting threads cost, about 6 minutes more

A neighbour is a process that computes all the time, bound to the same cores. It rests while a worker starts. The first
line states the machine and its load. A value is marked `*` where processes other than these took a core meanwhile: the
table must then be measured again.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import psutil
import torch

from genbench.contention import Counters, Meter, read_counters
from genbench.machine import processor_name
from genbench.speed.client import Worker
from genbench.speed.slices import calls_in, prepare
from genbench.speed.subjects import TimedModel

SPEC = {"channels": 1, "height": 8, "width": 8, "levels": 17, "classes": 10}
BATCH, MODELS = 64, ("dcgan", "vae", "realnvp", "glow", "ddpm")
SPIN = [sys.executable, "-c", "while True: pass"]
NEIGHBOURS = (0, 1, 2)
PLACES = ((1, 1), (2, 2), (2, 1))  # cores and threads
SPINS = (300_000, 20_000, 1_000, 0)  # the first is libgomp's default, the second genbench's


@contextmanager
def neighbours(count: int, cores: Sequence[int]) -> Iterator[list[psutil.Process]]:
    """Processes bound to these cores, stopped at first."""
    started = [subprocess.Popen(SPIN, preexec_fn=lambda: os.sched_setaffinity(0, cores)) for _ in range(count)]
    try:
        for process in started:
            process.send_signal(signal.SIGSTOP)
        yield [psutil.Process(process.pid) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def own_counters(worker: Worker, cores: Sequence[int]) -> Counters:
    """The counters with the worker's CPU time alone as own, as in the process that times."""
    whole = read_counters(cores)
    return Counters(whole.time, whole.everyone, sum(psutil.Process(worker.process.pid).cpu_times()[:2]), whole.waiting)


def measured(model: str, cores: Sequence[int], threads: int, beside: int, seconds: float, spins: int = SPINS[1]) -> str:
    """Images/s of the median call, with `busy` where genbench marks it and `*` where strangers took a core."""
    os.environ["GOMP_SPINCOUNT"] = str(spins)
    subject = TimedModel(model, model, None, ".", {}, {}, "fp32", SPEC)
    with neighbours(beside, cores) as planted, Worker("cpu", threads) as worker:
        worker.request("bind", cores=list(cores))
        calls = calls_in(seconds, prepare(worker, subject, BATCH))
        for process in planted:
            process.resume()
        strangers = Meter(len(cores), 0.0, cores)
        marks = Meter(threads, 0.0, cores, read=lambda cores: own_counters(worker, cores))
        times: list[float] = []
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(times) < 3:
            times += worker.request("slice", batch=BATCH, calls=max(1, calls // 10))["seconds"]
        busy, foreign = marks.found(), strangers.found()
    return f"{BATCH / median(times):,.0f}{' busy' if busy else ''}{' *' if foreign else ''}"


def heading() -> None:
    """Prints the machine and what it does at the moment."""
    load = ", ".join(f"{x:.2f}" for x in os.getloadavg())
    print(f"{processor_name()}, {len(os.sched_getaffinity(0))} cores, Linux {platform.release()}, Python "
          f"{platform.python_version()}, torch {torch.__version__}; load averages {load}\n")  # fmt: skip


def beside_neighbours(models: Sequence[str], cores: Sequence[int], seconds: float) -> None:
    """Prints a row for each model and number of cores."""
    print("| model | cores | threads | nobody else | one neighbour | two neighbours |\n|---|---:|---:|---:|---:|---:|")
    for model in models:
        for count, threads in PLACES:
            values = [measured(model, cores[:count], threads, beside, seconds) for beside in NEIGHBOURS]
            print(f"| {model} | {count} | {threads} | {' | '.join(values)} |", flush=True)


def waiting_threads(models: Sequence[str], cores: Sequence[int], seconds: float) -> None:
    """Prints a row for each model and number of times that an idle OpenMP thread looks for work, with two threads."""
    print("| model | GOMP_SPINCOUNT | nobody else | one neighbour | two neighbours |\n|---|---:|---:|---:|---:|")
    for model in models:
        for spins in SPINS:
            values = [measured(model, cores, len(cores), beside, seconds, spins) for beside in NEIGHBOURS]
            print(f"| {model} | {spins:,} | {' | '.join(values)} |", flush=True)


def main() -> None:
    """Reads the command line and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spinning", action="store_true", help="compare ways in which OpenMP's threads wait")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each timing")
    parser.add_argument("--models", default=",".join(MODELS), help="some of the models, separated by commas")
    asked = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))[:2]
    heading()
    (waiting_threads if asked.spinning else beside_neighbours)(asked.models.split(","), cores, asked.seconds)


if __name__ == "__main__":
    main()
