"""What a launcher is: it decides where tasks run, and nothing else. The queue that launchers share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from genbench.progress import Progress


@dataclass(frozen=True)
class Task:
    """run(*args, report) in a worker; needs: names of tasks that come first; alone: nothing else runs on its machine.

    run is a function of a module and args are plain data, so that both can be sent to another machine. group: tasks of
    one group may run one after another in one process; "" for a process of its own. sound(result): whether another task
    may follow it there.
    """

    name: str
    run: Callable[..., Any]
    args: tuple[Any, ...]
    needs: frozenset[str] = frozenset()
    alone: bool = False
    first: int = 0
    group: str = ""
    sound: Callable[[Any], bool] = bool


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
    """Tasks that wait, run and have ended. beside: a task that runs alone may start while others run, elsewhere."""

    def __init__(self, tasks: Iterable[Task], beside: bool = False) -> None:
        self.waiting = sorted(tasks, key=lambda task: -task.first)
        self.beside = beside
        self.running: dict[str, Task] = {}
        self.ended: dict[str, Outcome] = {}
        unknown = {need for task in self.waiting for need in task.needs} - {task.name for task in self.waiting}
        assert not unknown, f"tasks need unknown tasks: {unknown}"

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


def too_long(limit: float, silent: float) -> str:
    """The failure of a task that the time limit ended; silent: seconds without progress."""
    stalled = f", the last {silent:.0f} s without progress" if silent > limit / 2 else ""
    return f"it ran for longer than --cell-timeout {limit:g} s{stalled}"
