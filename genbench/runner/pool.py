"""Tasks in parallel worker processes, whose death does not end the run.

A task has a fresh process, or one that has run other tasks of its group and shows no traces of them (see
genbench.runner.process_state). Workers are forked from one clean server process that has imported torch.
On a CPU several workers of one thread are faster than one process of many threads; timings run alone with all cores.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

from genbench.errors import GenbenchError
from genbench.machine import KEEPING_MEMORY, SHORT_SPINS
from genbench.neighbours import known_files
from genbench.progress import STALL_SECONDS, Progress
from genbench.runner.launcher import Launcher, OnEnd, OnProgress, Outcome, Queue, Task, too_long
from genbench.runner.worker import Last, work

POOL_MODULES = ("genbench.runner.process_state", "genbench.runner.warm")  # for start_server; the latter last
MOST_WORKERS = 8
GRACE = 1.2  # seconds that workers have to write checkpoints
LOST = 255  # exit code of a worker whose fork server is no more


@dataclass
class _Running:
    task: Task
    process: BaseProcess
    connection: Connection
    gpu: str
    started: float = field(default_factory=time.monotonic)
    heard: float = field(default_factory=time.monotonic)
    progressed: float = field(default_factory=time.monotonic)


@dataclass
class Pool(Launcher):
    """Processes of this machine: at most `workers` tasks at a time; explain turns an exception into a sentence.

    threads: of each worker, a fixed number, because it changes trained weights. Timings use all `cores`.
    gpus: CUDA's names of the GPUs, of which each task sees one, and a timing the first; as many as workers.
    limit: seconds after which a task fails. quiet: seconds without progress after which on_stall is told.
    """

    workers: int
    cores: int
    prepare: Callable[[int], None]
    explain: Callable[[BaseException], str]
    preload: tuple[str, ...] = ()
    threads: int = 1
    gpus: tuple[str, ...] = ()
    limit: float | None = None
    quiet: float = STALL_SECONDS
    on_stall: Callable[[Task, float], None] = lambda task, seconds: None
    running: dict[str, _Running] = field(default_factory=dict)
    idle: dict[str, list[_Running]] = field(default_factory=dict)  # by group

    def run(self, tasks: Iterable[Task], on_progress: OnProgress, on_end: OnEnd) -> None:
        """As Launcher; an interrupt kills the running tasks. GenbenchError in a process that may not start others."""
        if multiprocessing.current_process().daemon:
            raise GenbenchError(
                "a run starts processes, which a daemonic process (a worker of multiprocessing.Pool) may not; call it "
                "in the main process, or in a Process with daemon=False"
            )
        queue = Queue(tasks)

        def end(task: Task, outcome: Outcome) -> None:
            queue.end(task, outcome)
            on_end(task, outcome)

        context = start_server(self.preload)
        try:
            while not queue.done:
                queue.end_hopeless(on_end)
                for task in queue.start(self.workers, self.idle):
                    if not self._continue(task):
                        self._launch(task, self.cores if task.alone else self.threads, context)
                self._end_idle()
                self._listen(on_progress, end)
                self._watch(end)
        finally:
            self._stop_workers()

    def _stop_workers(self) -> None:
        """Lets what runs write a checkpoint within GRACE seconds, then kills it."""
        self._end_idle()
        for entry in self.running.values():
            entry.process.terminate()
        deadline = time.monotonic() + GRACE
        for entry in self.running.values():
            entry.process.join(max(0.0, deadline - time.monotonic()))
            entry.process.kill()
        if self.running:
            _kill_server()  # it would hold standard output for a while, for which `genbench run | tee` waits

    def _watch(self, on_end: OnEnd) -> None:
        """Names tasks without progress, and ends those that run for longer than the limit."""
        now = time.monotonic()
        for entry in list(self.running.values()):
            if self.limit is not None and now - entry.started > self.limit:
                _kill(entry.process)
                self._end(entry, Outcome(failure=too_long(self.limit, now - entry.progressed)), on_end)
            elif now - entry.heard > self.quiet:
                entry.heard = now
                self.on_stall(entry.task, self.quiet)

    def _end(self, entry: _Running, outcome: Outcome, on_end: OnEnd) -> None:
        del self.running[entry.task.name]
        on_end(entry.task, outcome)

    def _continue(self, task: Task) -> bool:
        """Gives a task to a process that has run another one of its group; whether there was such a process."""
        waiting = self.idle.get(task.group, [])
        while waiting:
            entry = waiting.pop()
            with suppress(OSError):  # it dies now
                if entry.process.is_alive():
                    entry.connection.send(task)
                    self.running[task.name] = _Running(task, entry.process, entry.connection, entry.gpu)
                    return True
            _end(entry.process)
        return False

    def _end_idle(self) -> None:
        ended = [entry for entries in self.idle.values() for entry in entries]
        self.idle.clear()
        for entry in ended:
            entry.connection.close()
        for entry in ended:
            _end(entry.process)

    def _launch(self, task: Task, threads: int, context: BaseContext) -> None:
        ours, theirs = context.Pipe()
        gpu = self._free_gpu()
        arguments = (theirs, known_files(), threads, gpu, self.prepare, self.explain)
        process = context.Process(target=work, args=arguments, daemon=True)  # type: ignore[attr-defined]
        with _without_main():
            process.start()
        theirs.close()
        self.running[task.name] = _Running(task, process, ours, gpu)
        with suppress(OSError):  # it has died, which _receive notices
            ours.send(task)

    def _free_gpu(self) -> str:
        used = {entry.gpu for entry in self.running.values()}
        return next((gpu for gpu in self.gpus if gpu not in used), "")

    def _listen(self, on_progress: OnProgress, on_end: OnEnd) -> None:
        sources: dict[Any, _Running] = {}
        for entry in self.running.values():  # a process may end while a child of it still has its connection
            sources |= {entry.connection: entry, entry.process.sentinel: entry}
        for entry in {id(sources[source]): sources[source] for source in wait(list(sources), timeout=0.5)}.values():
            message = _receive(entry)
            entry.heard = entry.progressed = time.monotonic()
            if isinstance(message, Progress):
                on_progress(entry.task, message)
                continue
            if message.open:
                self.idle.setdefault(entry.task.group, []).append(entry)
            self._end(entry, message.outcome, on_end)


def _receive(entry: _Running) -> Progress | Last:
    try:
        message: Progress | Last = entry.connection.recv() if entry.connection.poll() else _dead(entry)
    except (EOFError, OSError):
        return _dead(entry)
    if isinstance(message, Last) and not message.open:
        _end(entry.process)
    return message


def _dead(entry: _Running) -> Last:
    entry.process.join(GRACE)
    closed = entry.process.is_alive()
    _kill(entry.process)
    failure = "its worker closed its connection to the command" if closed else _death(entry.process.exitcode)
    return Last(Outcome(failure=failure), open=False)


def _end(process: BaseProcess) -> None:
    """Waits until a process that has nothing to do has ended, and kills it when it does not."""
    process.join(GRACE)
    _kill(process)


def _kill(process: BaseProcess) -> None:
    process.kill()
    process.join()


def _death(code: int | None) -> str:
    if code == -signal.SIGKILL:
        return "its worker was killed (signal 9): most likely out of memory"
    if code == LOST:
        return "the process that starts workers was killed; run again"
    if code is not None and code < 0:
        names = {number.value: f", {number.name}" for number in signal.Signals}
        return f"its worker was ended by signal {-code}{names.get(-code, '')}"
    return f"its worker died (exit code {code})"


def start_server(preload: tuple[str, ...]) -> BaseContext:
    """What workers are started with; their server begins to import these modules, unless there is one already."""
    if sys.platform == "win32":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    resource_tracker.ensure_running()  # it unblocks SIGINT
    variables = {**KEEPING_MEMORY, **SHORT_SPINS, **os.environ}
    with _variables(variables), _without_main(), without_interrupts():
        forkserver.ensure_running()
    return context


def _kill_server() -> None:
    server = getattr(getattr(forkserver, "_forkserver", None), "_forkserver_pid", None)
    if server is not None:
        with suppress(ProcessLookupError):
            os.kill(server, signal.SIGKILL)


@contextmanager
def without_interrupts() -> Iterator[None]:
    """Starts processes that never receive SIGINT, which a terminal sends to all of a command's processes."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_main() -> Iterator[None]:
    """Hides the calling script from new processes: they need only genbench's modules, and importing the script again
    would run it again.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def _variables(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def worker_count(device_type: str, cores: int, gpus: int = 0) -> int:
    """Number of parallel workers: one for each GPU, one on another accelerator, else one for each core, at most
    MOST_WORKERS.
    """
    if gpus:
        return gpus
    return 1 if device_type != "cpu" else min(cores, MOST_WORKERS)
