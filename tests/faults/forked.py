"""Commands in children of this process, which share its imports; they are supervised as a command of a shell is."""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import sys
import warnings
from pathlib import Path

from genbench.__main__ import main

LONGEST = 300  # seconds of a command


def ended(arguments: str, folder: Path) -> tuple[int, str]:
    """Exit code and output of a command with a store in the folder. arguments: {} is the folder."""
    text = folder / "text"
    child = os.fork()
    if not child:
        atexit._clear()  # functions of this process, which remove its temporary folders
        faulthandler.disable()  # pytest's, which would write to its terminal
        warnings.resetwarnings()  # which are errors in tests
        os.setsid()
        signal.alarm(LONGEST)
        for descriptor in (1, 2):
            os.dup2(os.open(text, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
        sys.stdout, sys.stderr = (os.fdopen(descriptor, "w") for descriptor in (1, 2))
        os.environ["GENBENCH_CACHE"] = str(folder / "cache")
        os.environ["GENBENCH_BUSY_CORES"] = "inf"  # a baseline is made beside other processes
        sys.argv = ["genbench", *arguments.replace("{}", str(folder)).split()]
        try:
            main()
        finally:
            os._exit(99)  # main ends the process
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    output = text.read_text(errors="replace") if text.exists() else ""
    text.unlink(missing_ok=True)
    return code, output
