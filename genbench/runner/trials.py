"""Trials of all models of a run, in worker processes, before anything is trained.

A model that raises, returns something else than the contract says, or ends its process fails its own row at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from genbench.machine import cores_available
from genbench.plan.cells import Cell
from genbench.progress import Progress
from genbench.runner.execution import LaunchRequest
from genbench.runner.executors import make_launcher
from genbench.runner.launcher import Outcome, Task
from genbench.runner.tryouts import Trial, TrialResult, try_task
from genbench.sources.network import NetworkSource
from genbench.sources.trained import Trained
from genbench.store import Kind, Store

SECONDS = 60.0  # after which a trial is ended and nothing is concluded from it
TOGETHER = 20  # trials in one process at most: on a GPU, starting a process takes longer than a trial


def cells_by_trial(cells: Iterable[Cell], store: Store) -> dict[Trial, list[Cell]]:
    """The trials that these cells need, each with its cells: of networks whose samples are not in the store."""
    by_trial: dict[Trial, list[Cell]] = {}
    for cell, source in ((cell, cell.source) for cell in cells):
        if isinstance(source, NetworkSource) and not store.has(Kind.SAMPLES, cell.samples_key):
            fit = source.fit if isinstance(source, Trained) else None
            trained = fit is not None and store.intact(Kind.WEIGHTS, source.weights_key)
            trial = Trial(source.network, cell.data, cell.drawing.precision, fit, trained)
            by_trial.setdefault(trial, []).append(cell)
    return by_trial


def verdicts_of(trials: Sequence[Trial], launch: LaunchRequest) -> dict[Trial, TrialResult]:
    """The verdict of each trial, from the workers of a run."""
    verdicts: dict[Trial, TrialResult] = {}
    request = replace(launch, limit=SECONDS) if launch.execution.here else launch
    while rest := [trial for trial in trials if trial not in verdicts]:
        verdicts |= _Round(request).of(rest)
    return verdicts


class _Round:
    """Trials until each process has come to its end or to its first failure."""

    def __init__(self, request: LaunchRequest) -> None:
        self.request = request
        self.begun: dict[str, float] = {}
        self.at: dict[str, int] = {}
        self.verdicts: dict[Trial, TrialResult] = {}

    def of(self, trials: Sequence[Trial]) -> dict[Trial, TrialResult]:
        """The verdicts that became known."""
        beside = cores_available() if self.request.execution.device == "cpu" else 1
        processes = max(min(beside, len(trials)), -(-len(trials) // TOGETHER))
        parts = [tuple(trials[first::processes]) for first in range(processes)]
        device = self.request.execution.device
        tasks = [Task(f"try {number}", try_task, (part, device)) for number, part in enumerate(parts)]
        make_launcher(self.request).run(tasks, self._progress, self._end)
        return self.verdicts

    def _progress(self, task: Task, progress: Progress) -> None:
        self.begun.setdefault(task.name, time.monotonic())
        self.at[task.name] = progress.done

    def _end(self, task: Task, outcome: Outcome) -> None:
        known = outcome.result or [*[TrialResult()] * self.at.get(task.name, 0), self._without_result(task, outcome)]
        self.verdicts |= dict(zip(task.args[0], known, strict=False))

    def _without_result(self, task: Task, outcome: Outcome) -> TrialResult:
        """Of the model that was tried when its process ended."""
        slow = time.monotonic() - self.begun.get(task.name, time.monotonic()) > 0.9 * SECONDS
        return TrialResult() if slow else TrialResult(outcome.failure)
