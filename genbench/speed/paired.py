"""Two revisions timed in alternation on this machine: A is another revision, B the work tree.

Each side is a process. Both are bound to the same cores, because the load from other processes differs between cores. A
quad is four short slices of work in the order A B B A or B A A B, chosen at random, so that linear drift cancels and
neither side has an advantage. A round is half a second of quads; its result is the centre of their ratios. After 12
rounds, and then at growing intervals, the verdict is computed; a model is finished as soon as its interval lies on one
side of the tolerance. Every four rounds use new processes, because processes that run the same code differ by their
memory layout. A round during which other processes took a core is measured again (genbench.contention); if the machine
stays busy, the comparison is marked and answers nothing.
"""

from __future__ import annotations

import math
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import geometric_mean, median

import torch

from genbench.contention import Meter
from genbench.draw.repeats import meter_for
from genbench.errors import CellFailure, GenbenchError
from genbench.speed.client import Worker
from genbench.speed.comparison import Comparison
from genbench.speed.judge import Ratio, centre, fastest, sequential
from genbench.speed.slices import Announce, call_seconds, calls_in, prepare, time_slice
from genbench.speed.subjects import TimedModel

SLICE_SECONDS, ROUND_SECONDS = 0.004, 0.5  # a quad must end before the load of the machine changes
SHORT_CALL = 0.002  # seconds; two calls fill a slice, and only the first has cold caches
LEAST_BATCH = 8
ROUNDS_A_PAIR = 4  # of processes
PATIENCE = 30.0  # seconds for a model, at most half of its time: disturbed rounds, and waiting for other processes


class NotInBase(CellFailure):
    """The work tree can draw the model and the other revision cannot: nothing to compare, and no failure."""


@dataclass(frozen=True)
class Options:
    """How models are compared.

    threads 0: all cores. batch: images in a call; with shorten, the most, reduced until calls are short enough to
    alternate quickly. tolerance: the share of time by which B may be slower. seed: of every random choice.
    """

    device: str
    threads: int
    batch: int
    tolerance: float
    max_minutes: float = 10.0
    seed: int = 0
    shorten: bool = False


@dataclass
class Pair:
    """Side A and side B of one subject in two warm processes.

    batch: images in a call. calls: calls in a slice. quads: quads in a round. cores: that both are bound to.
    """

    a: Worker
    b: Worker
    batch: int
    calls: int = 1
    quads: int = 1
    cores: tuple[int, ...] = ()

    def prepare(self, subject: TimedModel, other: TimedModel, options: Options) -> None:
        """Builds the subject on both sides and chooses the size of a slice and of a round.

        other: the subject in A's tree. Raises CellFailure where B cannot be built or drawn from, NotInBase where only A
        cannot.
        """
        prepare(self.b, subject, self.batch)
        try:
            prepare(self.a, other, self.batch)
        except CellFailure as error:
            raise NotInBase(f"A: {error}") from None
        each = self.call_seconds()
        while options.shorten and each > SHORT_CALL and self.batch >= 2 * LEAST_BATCH:
            self.batch //= 2
            each = self.call_seconds()
        self.calls = calls_in(SLICE_SECONDS, each)
        self.quads = max(1, round(ROUND_SECONDS / (4 * self.calls * each)))

    def call_seconds(self) -> float:
        """Seconds of one call of the slower side. Both sides run, because memory layout depends on earlier calls."""
        return max(call_seconds(worker, self.batch) for worker in (self.a, self.b))

    def same_pixels(self) -> bool:
        """Whether both sides draw the same images."""
        a, b = (worker.request("fingerprint", batch=self.batch)["pixels"] for worker in (self.a, self.b))
        return bool(a == b)

    def round(self, rng: random.Random) -> tuple[float, float]:
        """Seconds of a call of A and of B: the median of A over all quads, and that times the centre of the ratios."""
        quads = [self.quad(rng) for _ in range(self.quads)]
        a = median(a for a, _ in quads)
        return a, a * math.exp(centre([math.log(b / a) for a, b in quads]))

    def quiet_round(self, rng: random.Random, meter: Meter) -> tuple[tuple[float, float], str]:
        """A round that nothing disturbed, or the last one that the meter's patience allows and what disturbed it."""
        while True:
            start = time.monotonic()
            found, busy = self.round(rng), meter.found()
            if not busy or not meter.again(time.monotonic() - start):
                return found, busy

    def quad(self, rng: random.Random) -> tuple[float, float]:
        """Seconds of a call of A and of B, each the mean of two slices, in random order A B B A or B A A B."""
        sides, seconds = (self.a, self.b), [0.0, 0.0]
        for side in rng.choice(((0, 1, 1, 0), (1, 0, 0, 1))):
            seconds[side] += fastest(time_slice(sides[side], self.batch, self.calls)) / 2
        return seconds[0], seconds[1]


def compare(
    subjects: Sequence[TimedModel], trees: tuple[Path, Path], options: Options, announce: Announce
) -> Iterator[Comparison]:
    """Compares each subject. trees: the folders of A and of B; the same path below both is the same file."""
    start = time.monotonic()
    for i, subject in enumerate(subjects):
        left = options.max_minutes * 60 - (time.monotonic() - start)
        deadline = time.monotonic() + left / (len(subjects) - i)
        try:
            yield compare_one(subject, trees, options, len(subjects), deadline, announce)
        except NotInBase as error:
            yield Comparison(subject.label, options.batch, reason=str(error))
        except CellFailure as error:
            yield Comparison(subject.label, options.batch, reason=str(error), failed=True)


def compare_one(
    subject: TimedModel, trees: tuple[Path, Path], options: Options, models: int, deadline: float, announce: Announce
) -> Comparison:
    """Measures rounds until the verdict is certain, the looks are used up or the deadline has passed.

    models: how many models share the error. deadline: on the clock time.monotonic. Raises as Pair.prepare, and
    CellFailure where a process dies.
    """
    rng = random.Random(f"{options.seed} {subject.label}")
    rounds: list[tuple[float, float]] = []
    same: list[bool] = []
    busy: list[str] = []
    patience = min(PATIENCE, max(0.0, deadline - time.monotonic()) / 2)
    meter = meter_for(torch.device(options.device), patience, options.threads)
    chosen = options  # the first pair may reduce the batch

    def rounds_of_a_pair(most: int) -> None:
        nonlocal chosen
        with open_pair(trees, chosen, rng) as pair:
            pair.prepare(subject, subject.within(trees[1], trees[0]), chosen)
            chosen = replace(chosen, batch=pair.batch, shorten=False)
            same.append(pair.same_pixels())
            meter.watch(pair.cores)
            for _ in range(most):
                found, disturbed = pair.quiet_round(rng, meter)
                rounds.append(found)
                busy.extend([disturbed] if disturbed else [])
        announce(f"{subject.label}: {len(rounds)} rounds")

    def more(count: int) -> list[float]:
        start = len(rounds)
        while len(rounds) < start + count and (not start or time.monotonic() < deadline):
            rounds_of_a_pair(min(ROUNDS_A_PAIR, start + count - len(rounds)))
        return [math.log(b / a) for a, b in rounds[start:]]

    ratio = sequential(more, options.tolerance, models)
    comparison = comparison_of(subject, chosen.batch, rounds, ratio, all(same))
    return replace(comparison, busy=busy[0] if busy else "")


def comparison_of(
    subject: TimedModel, batch: int, rounds: list[tuple[float, float]], ratio: Ratio, same: bool
) -> Comparison:
    """The Comparison that the rounds give. rounds: seconds of a call of A and of B. same: both draw the same images."""
    a, b = (geometric_mean(r[side] for r in rounds) for side in (0, 1))
    note = f"{len(rounds)} rounds of {batch} images{'' if same else '; A and B draw different images'}"
    return Comparison(subject.label, batch, a, b, ratio, note=note, raw=tuple(rounds))


def some_cores(threads: int, rng: random.Random) -> list[int]:
    """Chooses `threads` of the cores that this process may use, at random; all of them where threads is 0.

    Empty where the system cannot bind a process to cores (macOS, Windows).
    """
    allowed = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    return rng.sample(allowed, threads) if 0 < threads < len(allowed) else allowed


@contextmanager
def open_pair(trees: tuple[Path, Path], options: Options, rng: random.Random) -> Iterator[Pair]:
    """Starts two processes in random order, on the same cores where the system can bind them."""
    opened: dict[int, Worker] = {}
    try:
        for side in rng.sample((0, 1), 2):
            opened[side] = Worker(options.device, options.threads, trees[side])
        cores = some_cores(options.threads, rng)
        for worker in opened.values():
            worker.request("bind", cores=cores)
        yield Pair(opened[0], opened[1], options.batch, cores=tuple(cores))
    finally:
        for worker in opened.values():
            worker.close()


@contextmanager
def checked_out(revision: str, inside: Path) -> Iterator[tuple[Path, Path]]:
    """Checks the revision out into a temporary folder; yields it and the root of the repository that contains `inside`.

    Raises GenbenchError where there is no repository or no such revision, or the checkout fails.
    """
    root = Path(git(inside, "rev-parse", "--show-toplevel")).resolve()
    commit = git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", hint=f"revision '{revision}'")
    with tempfile.TemporaryDirectory(prefix="genbench-base-") as folder:
        tree = Path(folder).resolve() / "tree"
        git(root, "worktree", "add", "--detach", "--quiet", str(tree), commit)
        try:
            yield tree, root
        finally:
            git(root, "worktree", "remove", "--force", str(tree))


def git(where: Path, *arguments: str, hint: str = "") -> str:
    """Runs git and returns its output. Raises GenbenchError with the last line of its error output."""
    done = subprocess.run(["git", "-C", str(where), *arguments], capture_output=True, text=True)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"found no {hint}"]
        raise GenbenchError(f"--base: {where}: {last[0]}; allowed: a commit, branch or tag of this repository")
    return done.stdout.strip()
