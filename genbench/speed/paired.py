"""Two revisions timed in alternation on this machine: A is another revision, B the work tree.

Either side is a process of its own. A round times slices in the order A B B A or B A A B, drawn at random, so that
drift cancels and luck has no side. After 12 rounds, and then at growing intervals, the verdict is looked at, and a
model is left as soon as its interval lies on one side of the tolerance. Each stretch of rounds has fresh processes,
since two processes of one code differ by where their memory happens to lie.
"""

from __future__ import annotations

import math
import random
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from genbench.errors import CellFailure, GenbenchError
from genbench.speed.client import Worker
from genbench.speed.judge import Ratio, fastest, sequential
from genbench.speed.outcome import Outcome
from genbench.speed.slices import calls_in, prepare, time_slice
from genbench.speed.subjects import Subject

SLICE_SECONDS = 0.08
Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How models are compared. tolerance: the share of time by which B may be slower. seed: of the order of slices."""

    device: str
    threads: int
    batch: int
    tolerance: float
    max_minutes: float = 10.0
    slice_seconds: float = SLICE_SECONDS
    seed: int = 0


@dataclass
class Pair:
    """Side A and side B of one subject in two processes, warm, and how many calls make a slice."""

    a: Worker
    b: Worker
    options: Options
    calls: int = 1

    def prepare(self, subject: Subject, other: Subject) -> None:
        """Builds the subject on both sides. Raises CellFailure that names the side."""
        each = []
        for name, worker, built in (("A", self.a, other), ("B", self.b, subject)):
            try:
                each.append(prepare(worker, built, self.options.batch))
            except CellFailure as error:
                raise CellFailure(f"{name}: {error}") from None
        self.calls = calls_in(self.options.slice_seconds, min(each))

    def same_pixels(self) -> bool:
        """Whether both sides draw the same images."""
        a, b = (worker.ask("fingerprint", batch=self.options.batch)["pixels"] for worker in (self.a, self.b))
        return bool(a == b)

    def round(self, rng: random.Random) -> tuple[float, float]:
        """Seconds of a call of A and of B: geometric means of two slices each."""
        order = rng.choice(((self.a, self.b, self.b, self.a), (self.b, self.a, self.a, self.b)))
        logs: dict[int, float] = {id(self.a): 0.0, id(self.b): 0.0}
        for worker in order:
            logs[id(worker)] += math.log(fastest(time_slice(worker, self.options.batch, self.calls))) / 2
        return math.exp(logs[id(self.a)]), math.exp(logs[id(self.b)])


def compare(subjects: Sequence[Subject], trees: tuple[Path, Path], options: Options, say: Say) -> Iterator[Outcome]:
    """The outcome of each subject. trees: the folders of A and of B, the same path within each being the same file."""
    start = time.monotonic()
    for i, subject in enumerate(subjects):
        left = options.max_minutes * 60 - (time.monotonic() - start)
        deadline = time.monotonic() + left / (len(subjects) - i)
        try:
            yield compare_one(subject, trees, options, len(subjects), deadline, say)
        except CellFailure as error:
            yield Outcome(subject.label, options.batch, reason=str(error))


def compare_one(
    subject: Subject, trees: tuple[Path, Path], options: Options, models: int, deadline: float, say: Say
) -> Outcome:
    """Rounds until the question is answered, the looks are used up or the deadline is past.

    Raises CellFailure where a side cannot build or draw.
    """
    rng = random.Random(f"{options.seed} {subject.label}")
    rounds: list[tuple[float, float]] = []
    same: list[bool] = []

    def more(count: int) -> list[float]:
        start = len(rounds)
        if start and time.monotonic() >= deadline:
            return []
        with open_pair(trees, options) as pair:
            pair.prepare(subject, subject.within(trees[1], trees[0]))
            same.append(pair.same_pixels())
            while len(rounds) < start + count and (not start or time.monotonic() < deadline):
                rounds.append(pair.round(rng))
        say(f"{subject.label}: {len(rounds)} rounds")
        return [math.log(b / a) for a, b in rounds[start:]]

    ratio = sequential(more, options.tolerance, models)
    return outcome(subject, options.batch, rounds, ratio, all(same))


def outcome(subject: Subject, batch: int, rounds: list[tuple[float, float]], ratio: Ratio, same: bool) -> Outcome:
    """What the rounds say."""
    a, b = (math.exp(sum(math.log(r[side]) for r in rounds) / len(rounds)) for side in (0, 1))
    note = f"{len(rounds)} rounds{'' if same else '; A and B draw different images'}"
    return Outcome(subject.label, batch, a, b, ratio, note=note, raw=tuple(rounds))


@contextmanager
def open_pair(trees: tuple[Path, Path], options: Options) -> Iterator[Pair]:
    """Two processes, started side by side."""
    a = Worker(options.device, options.threads, trees[0])
    b = Worker(options.device, options.threads, trees[1])
    try:
        yield Pair(a, b, options)
    finally:
        a.close()
        b.close()


@contextmanager
def checked_out(revision: str, inside: Path) -> Iterator[tuple[Path, Path]]:
    """The revision in a folder of its own, and the root of the repository that `inside` lies in.

    Raises GenbenchError where there is no repository, no such revision, or it cannot be checked out.
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
    """What git prints. Raises GenbenchError with its last line."""
    done = subprocess.run(["git", "-C", str(where), *arguments], capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"found no {hint}"]
        raise GenbenchError(f"--base: {where}: {said[0]}; allowed: a commit, branch or tag of this repository")
    return done.stdout.strip()
