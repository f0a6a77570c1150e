"""When a run would end: its tasks with their durations, in workers side by side, as genbench.runner.pool runs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from genbench.runner.launcher import remaining_seconds


@dataclass(frozen=True)
class WorkItem:
    """One task. needs: names of jobs that end before it starts. alone: nothing else runs then."""

    name: str
    seconds: float
    needs: frozenset[str] = frozenset()
    alone: bool = False


def side_by_side(jobs: Sequence[WorkItem], workers: int) -> tuple[float, float]:
    """Seconds until the jobs that do not run alone have ended, and seconds of the others, which come after them."""
    together = [job for job in jobs if not job.alone]
    remaining = remaining_seconds({j.name: j.seconds for j in together}, {j.name: j.needs for j in together})
    waiting = sorted(together, key=lambda job: -remaining[job.name])
    ends: dict[str, float] = {}
    running: list[tuple[float, str]] = []
    now = 0.0
    while waiting or running:
        ready = [job for job in waiting if job.needs <= ends.keys()][: workers - len(running)]
        running += [(now + job.seconds, job.name) for job in ready]
        waiting = [job for job in waiting if job not in ready]
        now, name = min(running)
        running.remove((now, name))
        ends[name] = now
    return now, sum(job.seconds for job in jobs if job.alone)
