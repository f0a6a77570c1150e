"""What a launcher is: it decides where tasks run, and nothing else. The queue that launchers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from genbench.progress import Progress


@dataclass(frozen=True)
class Task:
    """run(*args, report) in a worker; needs: names of tasks that come first; alone: nothing else runs on its machine.

    run is a function of a module and args are plain data, so that both can be sent to another machine. group: tasks of
    one group may run one after another in one process; "" for a process of its own. sound(result): whether another task
    may follow it there. seconds: about how long it takes, 0 where unknown.
    """

    name: str
    run: Callable[..., Any]
    args: tuple[Any, ...]
    needs: frozenset[str] = frozenset()
    alone: bool = False
    group: str = ""
    sound: Callable[[Any], bool] = bool
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a task ended: its result, or why it failed."""

    result: Any = None
    failure: str = ""


OnProgress = Callable[[Task, Progress], None]
OnEnd = Callable[[Task, Outcome], None]


class Launcher(ABC):
    """Runs tasks somewhere. here: on this machine, so that the machine of its timings is known beforehand."""

    here = True

    @abstractmethod
    def run(self, tasks: Iterable[Task], on_progress: OnProgress, on_end: OnEnd) -> None:
        """Runs all tasks, each after those that it needs; a task whose need failed ends with that failure.

        on_progress and on_end are called in this thread, on_end once for each task. After an interruption (any
        exception, KeyboardInterrupt too) no task of this call runs any more.
        """


class Queue:
    """Tasks that wait, run and have ended. beside: a task that runs alone may start while others run, elsewhere.

    Of the tasks that can start, the first is the one with the longest remaining time: its own and that of the tasks
    that wait for it; where these are equal, the first one of the list.
    """

    def __init__(self, tasks: Iterable[Task], beside: bool = False) -> None:
        waiting = list(tasks)
        unknown = {need for task in waiting for need in task.needs} - {task.name for task in waiting}
        assert not unknown, f"tasks need unknown tasks: {unknown}"
        remaining = remaining_seconds(
            {task.name: task.seconds for task in waiting}, {task.name: task.needs for task in waiting}
        )
        self.waiting = sorted(waiting, key=lambda task: -remaining[task.name])
        self.beside = beside
        self.running: dict[str, Task] = {}
        self.ended: dict[str, Outcome] = {}

    def start(self, most: int | None = None, groups: Collection[str] = ()) -> list[Task]:
        """The tasks that start now, at most this many, those of the groups first; from now on they run."""
        free = len(self.waiting) if most is None else max(0, most - len(self.running))
        chosen = sorted(self._ready(), key=lambda task: task.group not in groups)[:free]
        self.running |= {task.name: task for task in chosen}
        self.waiting = [task for task in self.waiting if task.name not in self.running]
        return chosen

    def _ready(self) -> list[Task]:
        if not self.beside and any(task.alone for task in self.running.values()):
            return []
        ready = [task for task in self.waiting if task.needs <= self.ended.keys()]
        together = [task for task in ready if self.beside or not task.alone]
        return together if together or self.running else ready[:1]

    def end(self, task: Task, outcome: Outcome) -> None:
        """A running task has ended."""
        del self.running[task.name]
        self.ended[task.name] = outcome

    def end_hopeless(self, on_end: OnEnd) -> None:
        """Ends the waiting tasks of which a need failed, with the failure of that need."""
        while hopeless := [task for task in self.waiting if any(self._failure(name) for name in task.needs)]:
            for task in hopeless:
                self.ended[task.name] = Outcome(failure=self._failure(min(filter(self._failure, task.needs))))
                on_end(task, self.ended[task.name])
            self.waiting = [task for task in self.waiting if task.name not in self.ended]

    def _failure(self, name: str) -> str:
        return self.ended[name].failure if name in self.ended else ""

    @property
    def done(self) -> bool:
        """Whether every task has ended."""
        return not self.waiting and not self.running


def remaining_seconds(seconds: Mapping[str, float], needs: Mapping[str, Collection[str]]) -> dict[str, float]:
    """Of each task: its own seconds, and those of the longest sequence of tasks that need it or each other."""
    users: dict[str, list[str]] = {name: [] for name in seconds}
    for name, needed in needs.items():
        for need in needed:
            users[need].append(name)
    known: dict[str, float] = {}

    def remaining(name: str) -> float:
        if name not in known:
            known[name] = seconds[name] + max((remaining(user) for user in users[name]), default=0.0)
        return known[name]

    return {name: remaining(name) for name in seconds}


def too_long(limit: float, silent: float) -> str:
    """The failure of a task that the time limit ended; silent: seconds without progress."""
    stalled = f", the last {silent:.0f} s without progress" if silent > limit / 2 else ""
    return f"it ran for longer than --cell-timeout {limit:g} s{stalled}"
