"""Starts a worker process (see worker) and sends it commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from genbench.errors import CellFailure
from genbench.machine import KEEPING_MEMORY, SHORT_SPINS

WORKER = Path(__file__).with_name("worker.py")
SHOWN = 300  # characters of a dead worker's error output


class Worker:
    """A process that times drawing with `threads` threads (0: one for each core).

    tree: the folder whose packages it imports; None: the installed packages.
    """

    def __init__(self, device: str, threads: int, tree: Path | None = None) -> None:
        self.errors = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - open as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), device, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.errors, text=True, env=environment(tree),
        )  # fmt: skip

    def request(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Sends a command and returns the answer. Raises CellFailure when the command fails or the process has died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"command": command, **arguments}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise CellFailure(self._cause_of_death()) from None
        line = self.process.stdout.readline()
        if not line:
            raise CellFailure(self._cause_of_death())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CellFailure(answer["error"])
        return answer

    def _cause_of_death(self) -> str:
        code = self.process.wait()
        self.errors.seek(0)
        last = " ".join(self.errors.read().split())[-SHOWN:]
        return f"its process ended with code {code}: {last}".rstrip(": ")

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.errors):
            assert file is not None
            with suppress(BrokenPipeError):  # the dead process has not read everything
                file.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def environment(tree: Path | None) -> dict[str, str]:
    """Environment variables of a worker: packages are searched in the tree and its `src` first.

    glibc is set to keep freed memory. By default, whether it returns memory after a call depends on what the process
    allocated before. That can make one process a third slower than another one that runs the same code.
    """
    steady = {**KEEPING_MEMORY, **SHORT_SPINS, **os.environ}
    if tree is None:
        return steady
    folders = [str(tree), str(tree / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**steady, "PYTHONPATH": os.pathsep.join(folders)}
