"""What code of a model may change in the process that imports or builds it, and what is put back afterwards."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

WATCHED = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def restored() -> Iterator[None]:
    """Puts back the current folder, sys.stdout and sys.stderr, entries of sys.path, and handlers of SIGINT and SIGTERM.

    What was added to sys.path stays, because code may import from there later; what was removed comes back at its end.
    """
    try:
        folder = os.getcwd()  # noqa: PTH109
    except OSError:
        folder = ""
    path, streams = list(sys.path), (sys.stdout, sys.stderr)
    handlers = {number: signal.getsignal(number) for number in WATCHED}
    try:
        yield
    finally:
        with suppress(OSError):
            os.chdir(folder)
        sys.path.extend(entry for entry in path if entry not in sys.path)
        sys.stdout, sys.stderr = streams
        if threading.current_thread() is threading.main_thread():  # only there it can set handlers
            for number, handler in handlers.items():
                if handler is not None and signal.getsignal(number) != handler:
                    signal.signal(number, handler)
