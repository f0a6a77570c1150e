"""How much of the processor, or of the GPU, other processes take while something is timed.

On a processor: the CPU seconds of every process on the cores that this one may use, minus those of this process and of
those that it started. Other processes disturb a timing when less than its threads are left:

    cores taken by others + threads of the timing - cores > BUSY_CORES

Two threads on two cores tolerate nobody, one thread on two cores tolerates one neighbour. The time that the kernel made
tasks wait for a core (/proc/pressure/cpu) is stated beside it. On a GPU, NVML reports other processes that compute, and
reasons for lowered clocks other than the power limit, which is reached by normal work.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from genbench.errors import GenbenchError
from genbench.nvml import Gpu

BUSY_CORES = 0.1  # $GENBENCH_BUSY_CORES: how much of a core others may take beyond the free ones
LEAST_SECONDS = 0.25  # the system counts CPU time in steps of 0.01 s: a shorter time says little
PRESSURE = Path("/proc/pressure/cpu")


@dataclass(frozen=True)
class Counters:
    """Sums since the machine started, in seconds: time, CPU time of all and of own processes, waiting for a core.

    waiting: None where the system does not report it.
    """

    time: float
    everyone: float
    own: float
    waiting: float | None = None


def limit() -> float:
    """How much of a core others may take beyond the free ones. Raises GenbenchError for a variable that is no number.

    inf: timings are never marked, and nothing is measured for it.
    """
    text = os.environ.get("GENBENCH_BUSY_CORES", "")
    try:
        value = float(text) if text else BUSY_CORES
    except ValueError:
        value = -1.0
    if not value >= 0:
        raise GenbenchError(f"GENBENCH_BUSY_CORES: found '{text}', allowed: a number of cores from 0, or inf")
    return value


def read_counters(cores: Sequence[int]) -> Counters:
    """The counters of these cores, empty: of all."""
    each = psutil.cpu_times(percpu=True)
    chosen = [each[i] for i in cores if i < len(each)] or each
    return Counters(time.perf_counter(), sum(map(_working, chosen)), _own_seconds(), _waiting())


def _working(times: object) -> float:
    """Seconds in which a core worked or, on a virtual machine, was given to another one."""
    fields: dict[str, float] = times._asdict()  # type: ignore[attr-defined]
    return sum(v for name, v in fields.items() if name not in ("idle", "iowait", "guest", "guest_nice"))


def _own_seconds() -> float:
    """CPU seconds of this process and of all that it started."""
    total = time.process_time() + sum(os.times()[2:4])
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            total += sum(child.cpu_times()[:4])
    return total


def own_processes() -> list[int]:
    """The ids of this process and of those that it started."""
    return [os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))]


def _waiting() -> float | None:
    with suppress(OSError):
        found = re.search(r"^some .*total=(\d+)", PRESSURE.read_text(), re.MULTILINE)
        return int(found[1]) / 1e6 if found else None
    return None


def disturbance(before: Counters, after: Counters, cores: int, threads: int, most: float) -> str:
    """What others took between two readings as text, "" where enough was left for `threads` threads.

    most: how much of a core may lack.
    """
    seconds = after.time - before.time
    taken = max(0.0, after.everyone - before.everyone - (after.own - before.own)) / seconds
    if taken + min(threads, cores) - cores <= most:
        return ""
    waited = ""
    if before.waiting is not None and after.waiting is not None:
        waited = f"; tasks waited for a core {min(1.0, (after.waiting - before.waiting) / seconds):.0%} of the time"
    return f"other processes took {taken:.1f} of {cores} core{'s' if cores > 1 else ''}{waited}"


class Meter:
    """Tells whether others disturb what this process, and those that it started, compute.

    threads: of the computation. cores: those that it may use, empty: all that this process may. patience: seconds that
    may be spent on disturbed work and on waiting, over the life of the meter. gpu: the GPU that computes. A reading
    lasts from one call of `found` (first: `start`) to the next.
    """

    def __init__(
        self, threads: int, patience: float, cores: Sequence[int] = (), gpu: Gpu | None = None, *,
        most: float | None = None, read: Callable[[Sequence[int]], Counters] = read_counters,
        clock: Callable[[], float] = time.perf_counter, sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        """most: instead of limit(). read, clock, sleep: instead of the machine's."""
        self.threads, self.patience, self.gpu = threads, patience, gpu
        self.most = limit() if most is None else most
        self.read, self.clock, self.sleep = read, clock, sleep
        self.watch(cores)

    def watch(self, cores: Sequence[int]) -> None:
        """Chooses the cores, empty: all that this process may use; begins a reading."""
        allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self.cores = list(cores) or allowed
        self.count = len(self.cores) or os.cpu_count() or 1
        self.start()

    def start(self) -> None:
        """Begins a reading."""
        if math.isfinite(self.most):
            self.before = self.read(self.cores)

    def ripe(self) -> bool:
        """Whether the reading has lasted long enough to tell something."""
        return math.isfinite(self.most) and self.clock() - self.before.time >= LEAST_SECONDS

    def found(self) -> str:
        """What disturbed since the reading began, "" for nothing; begins the next. A short reading is made longer."""
        if not math.isfinite(self.most):
            return ""
        after = self.read(self.cores)
        if after.time - self.before.time < LEAST_SECONDS:
            self.sleep(LEAST_SECONDS - (after.time - self.before.time))
            after = self.read(self.cores)
        on_cores = disturbance(self.before, after, self.count, self.threads, self.most)
        on_gpu = self.gpu.disturbance(own_processes()) if self.gpu else ""
        self.before = after
        return "; ".join(filter(None, (on_cores, on_gpu)))

    def again(self, seconds: float) -> bool:
        """After work of `seconds` was disturbed: waits until nothing disturbs, and whether to repeat the work.

        False when the patience is used up.
        """
        if self.patience <= 0:
            return False
        self.patience -= seconds
        while self.patience > 0:
            self.start()
            self.sleep(LEAST_SECONDS)
            self.patience -= LEAST_SECONDS
            if not self.found():
                break
        self.start()
        return True
