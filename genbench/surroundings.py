"""What code of a user's may do to the process that imports, builds or calls it, and what is put back afterwards."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # as signal, whose functions make members of an enum
import builtins
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from operator import is_
from typing import IO, Any

from genbench.errors import CellFailure, CodeError, GenbenchError, Stopped, Terminated
from genbench.interruption import interrupted
from genbench.reasons import explain
from genbench.supervision import Doing

WATCHED = (signal.SIGINT, signal.SIGTERM)
STANDARD = ("stdin", "stdout", "stderr")  # of descriptors 0, 1 and 2
WHILE = "raised while "  # begins the note of an exception that says what raised it
SHARED = (builtins, os, time)  # modules whose functions genbench itself calls; those that were replaced come back


@contextmanager
def restored(activity: str, detail: object = "", again: bool = True) -> Iterator[None]:
    """Puts back the current folder, standard streams, entries of sys.path, handlers of SIGINT and SIGTERM, SHARED, and
    torch's global settings.

    activity: what the code does, as "model.py is imported"; with `detail`, what decides whether it ends its process.
    Raises CodeError where it has ended an earlier process of this command, and for what code raises to end a program:
    SystemExit, or KeyboardInterrupt that nobody asked for. Another exception gets a note for `activity_of`. again: as
    of Doing. What was added to sys.path stays, because code may import from there later; what was removed comes back at
    its end.
    """
    doing = Doing(f"{activity}\0{detail}" if detail else activity, again)
    if doing.how:
        raise CodeError(f"the process was ended by {doing.how} while {activity}")
    handler = _signal.getsignal(signal.SIGINT)
    with doing, _state_restored():
        try:
            yield
        except (GenbenchError, CellFailure, Terminated, Stopped):
            raise
        except Exception as error:
            with suppress(TypeError):  # code has replaced its notes
                error.add_note(f"{WHILE}{activity}")
            raise
        except KeyboardInterrupt as error:
            if interrupted() or handler is signal.default_int_handler:
                raise
            raise CodeError(f"{explain(error)}, while {activity}") from None
        except BaseException as error:
            raise CodeError(f"{explain(error)}, while {activity}") from error


def activity_of(error: Exception) -> str:
    """What the user's code did that raised an exception inside of `restored`; "" for others."""
    notes = (str(note) for note in getattr(error, "__notes__", ()))
    return next((note.removeprefix(WHILE) for note in notes if note.startswith(WHILE)), "")


@contextmanager
def _state_restored() -> Iterator[None]:
    from genbench.machine import globals_restored  # late: not every command calls code of a user's

    try:
        folder = os.getcwd()  # noqa: PTH109
    except OSError:
        folder = ""
    path = list(sys.path)
    handlers = {number: _signal.getsignal(number) for number in WATCHED}
    with _functions_restored(), _streams_restored(), globals_restored():
        try:
            yield
        finally:
            with suppress(OSError):
                os.chdir(folder)
            sys.path.extend(entry for entry in path if entry not in sys.path)
            if threading.current_thread() is threading.main_thread():  # only there it can set handlers
                for number, handler in handlers.items():
                    if handler is not None and _signal.getsignal(number) != handler:
                        signal.signal(number, handler)


@contextmanager
def _functions_restored() -> Iterator[None]:
    namespaces = [(vars(module), dict(vars(module))) for module in SHARED]
    try:
        yield
    finally:
        for names, before in namespaces:
            now = tuple(names.values())
            if len(now) != len(before) or not all(map(is_, now, before.values())):
                names.update(before)


@contextmanager
def _streams_restored() -> Iterator[None]:
    """Puts back sys.stdin, sys.stdout and sys.stderr; those that were closed are opened again."""
    streams = {name: getattr(sys, name) for name in STANDARD}
    closed = {name for name, stream in streams.items() if _closed(stream)}
    before = {descriptor: found for descriptor in range(3) if (found := open_file(descriptor))}
    copies = _copies(before)
    try:
        yield
    finally:
        for descriptor, copy in copies.items():
            if open_file(copy) != before[descriptor]:  # the code has closed it, and may have opened another file
                continue
            if open_file(descriptor) != before[descriptor]:
                os.dup2(copy, descriptor, inheritable=True)
            os.close(copy)
        for descriptor, (name, stream) in enumerate(streams.items()):
            again = name not in closed and _closed(stream) and open_file(descriptor)
            setattr(sys, name, _opened_again(descriptor, stream) if again else stream)


def _copies(descriptors: Iterable[int]) -> dict[int, int]:
    """Copies of descriptors; fewer where earlier code has left none that is free."""
    copies: dict[int, int] = {}
    with suppress(OSError):
        for descriptor in descriptors:
            copies[descriptor] = os.dup(descriptor)
    return copies


def _closed(stream: IO[Any] | None) -> bool:
    return stream is not None and getattr(stream, "closed", False)


def _opened_again(descriptor: int, stream: IO[Any]) -> IO[Any]:
    mode, encoding = "r" if descriptor == 0 else "w", getattr(stream, "encoding", "utf-8")
    return open(descriptor, mode, encoding=encoding, errors="replace", closefd=False)


def open_file(descriptor: int) -> tuple[int, int] | None:
    """What a descriptor refers to; None where it is closed."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return status.st_dev, status.st_ino
