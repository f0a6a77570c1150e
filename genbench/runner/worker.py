"""The process of a worker: it runs the tasks that the pool sends, and reports how they go."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from genbench.errors import Stopped
from genbench.machine import VISIBLE_GPUS
from genbench.neighbours import learn_files
from genbench.progress import Progress, request_stop
from genbench.runner.launcher import Outcome, Task

if TYPE_CHECKING:
    from genbench.runner.process_state import ProcessState

TERMINATED = 143


@dataclass(frozen=True)
class Last:
    """A worker's last message about a task. open: whether it waits for another one of the same group."""

    outcome: Outcome
    open: bool


def work(
    connection: Connection,
    known: tuple[dict[str, Path], dict[str, Path]],
    threads: int,
    gpu: str,
    prepare: Callable[[int], None],
    explain: Callable[[BaseException], str],
) -> None:
    """Runs the tasks that the pool sends: the first, and those of its group while the process shows no traces.

    known: as of `neighbours.known_files`. The process ends at once afterwards: it neither waits for threads nor runs
    functions of atexit, which code of a model may have left.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: request_stop())
    threading.Thread(target=_end_with_the_run, daemon=True).start()
    threading.excepthook = lambda failed: _tell(failed, explain)
    if gpu:
        os.environ[VISIBLE_GPUS] = gpu  # before this process first uses CUDA
    prepare(threads)
    learn_files(known)
    try:
        _run_tasks(connection, explain)
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, ValueError):  # None or closed, by code of a model
                stream.flush()
    except OSError:  # the run is no more
        _end(1)
    except BaseException as error:  # code of a model has changed what the worker itself needs
        with suppress(Exception):
            print(f"a worker cannot continue: {explain(error)}", file=sys.stderr, flush=True)
        _end(1)
    _end(0)


def _end(code: int) -> NoReturn:
    """Ends this process, and the processes that code of a model started with multiprocessing and left."""
    with suppress(Exception):
        for child in multiprocessing.active_children():
            child.kill()
    os._exit(code)


def _run_tasks(connection: Connection, explain: Callable[[BaseException], str]) -> None:
    state: ProcessState | None = None
    while True:
        try:
            task: Task = connection.recv()
        except (EOFError, OSError):  # there is no further task
            return
        except Exception as error:  # an argument cannot be imported here
            connection.send(Last(Outcome(failure=explain(error)), open=False))
            return
        state = _state() if task.group and state is None else state
        outcome = _outcome(connection, task, explain)
        sound = not outcome.failure and task.sound(outcome.result)
        connection.send(last := Last(outcome, state is not None and sound and state.renewed()))
        if not last.open:
            return


def _state() -> ProcessState:
    from genbench.runner.process_state import ProcessState  # imports torch, which not every task needs

    return ProcessState()


def _outcome(connection: Connection, task: Task, explain: Callable[[BaseException], str]) -> Outcome:
    def report(progress: Progress) -> None:
        try:
            connection.send(progress)
        except OSError:
            _end(1)

    try:
        return Outcome(task.run(*task.args, report))
    except Stopped:
        _end(TERMINATED)
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: they come from code of a model
        return Outcome(failure=explain(error))


def _tell(failed: threading.ExceptHookArgs, explain: Callable[[BaseException], str]) -> None:
    """Prints why a thread of a model's code ended, in one line; SystemExit is an ordinary end of a thread."""
    if failed.exc_value is not None and failed.exc_type is not SystemExit and sys.stderr is not None:
        print(f"a thread of the model's code failed: {explain(failed.exc_value)}", file=sys.stderr, flush=True)


def _end_with_the_run() -> None:
    """Waits until the run's process has ended for any reason, and then ends this process at once."""
    run = multiprocessing.parent_process()
    if run is not None:
        wait([run.sentinel])
        _end(1)
