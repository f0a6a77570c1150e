"""The other end of a worker process."""

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
from genbench.machine import KEEPING_MEMORY

WORKER = Path(__file__).with_name("worker.py")
SHOWN = 300  # characters of a dead worker's last words


class Worker:
    """A process that times drawing on `threads` cores (0: all of them).

    tree: the folder whose packages it imports; None: those installed here.
    """

    def __init__(self, device: str, threads: int, tree: Path | None = None) -> None:
        self.words = tempfile.TemporaryFile(mode="w+")  # noqa: SIM115 - lives as long as the process
        self.process = subprocess.Popen(
            [sys.executable, "-P", str(WORKER), device, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=self.words, text=True, env=environment(tree),
        )  # fmt: skip

    def ask(self, do: str, **given: Any) -> dict[str, Any]:
        """The worker's answer to a command. Raises CellFailure with its reason when it cannot do it or has died."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **given}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise CellFailure(self._died()) from None
        line = self.process.stdout.readline()
        if not line:
            raise CellFailure(self._died())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise CellFailure(answer["error"])
        return answer

    def _died(self) -> str:
        code = self.process.wait()
        self.words.seek(0)
        last = " ".join(self.words.read().split())[-SHOWN:]
        return f"its process ended with code {code}: {last}".rstrip(": ")

    def close(self) -> None:
        """Ends the process."""
        self.process.kill()
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.words):
            assert file is not None
            with suppress(BrokenPipeError):  # what a dead process did not read
                file.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def environment(tree: Path | None) -> dict[str, str]:
    """The variables of a worker's process: the tree and its `src` come first where packages are looked for.

    glibc is told to keep freed memory: whether it gives it back after every call depends on what a process happened to
    allocate before, and makes one process a third slower than another of the very same code.
    """
    steady = {**KEEPING_MEMORY, **os.environ}
    if tree is None:
        return steady
    places = [str(tree), str(tree / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**steady, "PYTHONPATH": os.pathsep.join(places)}
