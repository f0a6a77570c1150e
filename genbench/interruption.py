"""SIGINT and SIGTERM: the command ends at once with one line, or, while there is something to save, by an exception.

Ending at once leaves what a kill leaves, which the next run continues from. It needs no time, and it is safe while
modules are imported, where an exception can be swallowed or leave a module half imported.

The command imports this module first, and what it imports is loaded by then: until the handlers are installed, Ctrl-C
shows Python's own traceback.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module signal takes milliseconds to import
import os
import time

from genbench.supervision import ends

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the import
if TYPE_CHECKING:
    from types import TracebackType
    from typing import NoReturn

INTERRUPTED, TERMINATED = 130, 143
TOGETHER = 5.0  # seconds; a terminal sends SIGINT also to the parent, which passes it on, late on a busy machine
WORDS = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}
_open: list[None] = []  # of Unwinding
_received: list[float] = []  # when a signal raised KeyboardInterrupt, in seconds of a clock
_ending: list[None] = []  # not empty once the process ends; another signal must not write the line again


def handle_signals() -> None:
    """Installs the handlers of a command."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _terminate)


class Unwinding:
    """While it is open, SIGINT raises KeyboardInterrupt and SIGTERM raises Terminated."""

    def __enter__(self) -> None:
        _open.append(None)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _open.pop()


def interrupted() -> bool:
    """Whether a signal has raised KeyboardInterrupt here, and not code of a model."""
    return bool(_received)


def end_at_once(code: int) -> NoReturn:
    """Ends the process at once with one line on standard error; unloading torch would take a second."""
    _ending.append(None)
    ends(code)
    os.write(2, f"genbench: {WORDS[code]}; run the same command to continue\n".encode())
    os._exit(code)


def _interrupt(number: int, frame: object) -> None:
    if _ending:
        return
    again = _received and time.monotonic() - _received[0] > TOGETHER
    if not _open or again:
        end_at_once(INTERRUPTED)
    if not _received:
        _received.append(time.monotonic())
        raise KeyboardInterrupt


def _terminate(number: int, frame: object) -> None:
    if _ending:
        return
    if not _open:
        end_at_once(TERMINATED)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    from genbench.errors import Terminated

    raise Terminated
