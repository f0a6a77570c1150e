"""A task on its way to another machine: as plain data, and how a process there performs it."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from genbench.errors import ProcessDied, Stopped
from genbench.machine import threads_allowed, use_threads
from genbench.progress import Progress, Throttle, request_stop
from genbench.reasons import explain
from genbench.runner.launcher import Outcome, Task
from genbench.store import LOCATION, default_location

TELL_SECONDS = 1.0  # between two messages about the progress of a phase


@dataclass(frozen=True)
class Lost:
    """A task that its worker did not end: the machine failed, or was needed for something else."""

    reason: str


Send = Callable[[Progress], bool]


@dataclass(frozen=True)
class Work:
    """A task with what it needs of the command that sent it: folder, environment variables, paths of modules.

    content: the pickled task, which can be read only where its modules are found.
    """

    name: str
    alone: bool
    content: bytes
    folder: str
    variables: dict[str, str]
    modules: tuple[str, ...]

    @classmethod
    def of(cls, task: Task) -> Work:
        """The task as this process sends it; genbench's variables hold where it is performed."""
        own = {name: value for name, value in os.environ.items() if name.startswith("GENBENCH_")}
        own |= {LOCATION: default_location()}
        paths = tuple(str(Path(path).absolute()) for path in sys.path)
        return cls(task.name, task.alone, pickle.dumps(task), str(Path.cwd()), own, paths)

    def perform(self, send: Send) -> Outcome | Lost:
        """Runs the task in this process. send: passes on progress; True when the run wants to stop."""
        os.environ.update(self.variables)
        if Path(self.folder).is_dir():
            os.chdir(self.folder)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, lambda *_: request_stop())
        sys.path += [path for path in self.modules if path not in sys.path]
        use_threads(threads_allowed() if self.alone else 1)
        try:
            task: Task = pickle.loads(self.content)
            return Outcome(task.run(*task.args, _Reporter(send)))
        except Stopped:
            return Lost("it was told to stop")
        except ProcessDied as error:
            return Lost(explain(error))
        except Exception as error:
            return Outcome(failure=explain(error))


class _Reporter:
    def __init__(self, send: Send) -> None:
        self.send, self.phase, self.due = send, "", Throttle(TELL_SECONDS)

    def __call__(self, progress: Progress) -> None:
        if (self.due.due() or progress.note or progress.phase != self.phase) and self.send(progress):
            request_stop()
        self.phase = progress.phase
