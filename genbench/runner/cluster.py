"""What launchers of other machines share: order, lost workers, stalls and the time limit."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field

from genbench.progress import STALL_SECONDS, Progress
from genbench.runner.execution import LaunchRequest
from genbench.runner.launcher import Launcher, OnEnd, OnProgress, Outcome, Queue, Task, too_long
from genbench.runner.remote_work import Lost

MOST_LOST = 3  # workers of one task; the task fails with the next one
Message = tuple[str, Progress | Outcome | Lost]  # of the task with this name


@dataclass
class _Sent:
    lost: int = 0
    started: float | None = None  # when its worker was heard first: it may wait for a machine before
    heard: float = field(default_factory=time.monotonic)
    progressed: float = field(default_factory=time.monotonic)

    def hear(self) -> None:
        self.heard = self.progressed = time.monotonic()
        self.started = self.started or self.heard


class Cluster(Launcher):
    """Sends tasks to an engine that finds machines for them.

    beside: timings have a machine of their own, so that they may run while others run. most: tasks at a time, None for
    as many as the engine accepts.
    """

    beside = True
    most: int | None = None
    here = False

    def __init__(self, request: LaunchRequest) -> None:
        self.request, self.sent = request, dict[str, _Sent]()

    @abstractmethod
    def submit(self, tasks: list[Task]) -> None:
        """Sends tasks to the engine."""

    @abstractmethod
    def messages(self) -> Iterable[Message]:
        """What workers have told since the last call; waits for it, at most a second."""

    @abstractmethod
    def cancel(self, task: Task) -> None:
        """Ends a task's worker."""

    @abstractmethod
    def stop(self) -> None:
        """Lets what runs write checkpoints for a moment, then ends it; afterwards nothing runs."""

    def run(self, tasks: Iterable[Task], on_progress: OnProgress, on_end: OnEnd) -> None:
        """As Launcher; the task of a lost worker is sent again, and continues from its checkpoint."""
        queue = Queue(tasks, self.beside)
        try:
            while not queue.done:
                queue.end_hopeless(on_end)
                self._send(queue.start(self.most))
                for name, message in self.messages() if queue.running else ():
                    self._receive(queue, name, message, on_progress, on_end)
                self._watch(queue, on_end)
        finally:
            self.stop()

    def _send(self, tasks: list[Task]) -> None:
        self.sent |= {task.name: _Sent() for task in tasks}
        if tasks:
            self.submit(tasks)

    def _receive(
        self, queue: Queue, name: str, message: Progress | Outcome | Lost, on_progress: OnProgress, on_end: OnEnd
    ) -> None:
        task, sent = queue.running.get(name), self.sent[name]
        if task is None:  # it was ended meanwhile
            return
        sent.hear()
        if isinstance(message, Progress):
            on_progress(task, message)
        elif isinstance(message, Outcome):
            queue.end(task, message)
            on_end(task, message)
        elif sent.lost < MOST_LOST:
            sent.lost, sent.started = sent.lost + 1, None
            note = f"its worker was lost ({message.reason}); it is sent again"
            on_progress(task, Progress("worker", 0, 0, note=note))
            self.submit([task])
        else:
            outcome = Outcome(failure=f"{sent.lost + 1} workers were lost, the last one: {message.reason}")
            queue.end(task, outcome)
            on_end(task, outcome)

    def _watch(self, queue: Queue, on_end: OnEnd) -> None:
        now, limit = time.monotonic(), self.request.limit
        for name, task in list(queue.running.items()):
            sent = self.sent[name]
            if sent.started is None:
                continue
            if limit is not None and now - sent.started > limit:
                self.cancel(task)
                outcome = Outcome(failure=too_long(limit, now - sent.progressed))
                queue.end(task, outcome)
                on_end(task, outcome)
            elif now - sent.heard > STALL_SECONDS:
                sent.heard = now
                self.request.on_stall(task, STALL_SECONDS)
