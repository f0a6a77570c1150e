"""SIGINT and SIGTERM: the command ends at once with one line, or, while there is something to save, by an exception.

Ending at once leaves what a kill leaves, which the next run continues from. It needs no time, and it is safe while
modules are imported, where an exception can be swallowed or leave a module half imported.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from genbench.errors import Terminated

INTERRUPTED, TERMINATED = 130, 143
WORDS = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}
_open: list[None] = []  # of `unwinding`


def handle_signals() -> None:
    """Installs the handlers of a command."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _terminate)


@contextmanager
def unwinding() -> Iterator[None]:
    """While it is open, SIGINT raises KeyboardInterrupt and SIGTERM raises Terminated."""
    _open.append(None)
    try:
        yield
    finally:
        _open.pop()


def end_at_once(code: int) -> NoReturn:
    """Ends the process at once with one line on standard error; unloading torch would take a second."""
    os.write(2, f"genbench: {WORDS[code]}; run the same command to continue\n".encode())
    os._exit(code)


def _interrupt(number: int, frame: object) -> None:
    if not _open:
        end_at_once(INTERRUPTED)
    raise KeyboardInterrupt


def _terminate(number: int, frame: object) -> None:
    if not _open:
        end_at_once(TERMINATED)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated
