"""Programs that write images, as a source: `command:python draw.py --n {n} --seed {seed} --out {out}`."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Gt
from torch import Generator, Tensor

from genbench import data as images_of
from genbench.adapters.base import Adapted, Adapter, bound_class, located_in
from genbench.builtin import Location
from genbench.contract import ClassConditional, Condition, TextConditional
from genbench.errors import CellFailure, DataError, ModelError
from genbench.space import to_unit_range

REQUIRED, LABELS, PROMPTS = ("{n}", "{seed}", "{out}"), "{labels}", "{prompts}"
LAST_LINES, LAST_CHARACTERS = 3, 150  # of what a failed program wrote to the screen; a record's reason has 300
LONGEST_READ = 1 << 16  # bytes
LONGEST_SHOWN = 60  # characters of a command in a message; the whole one is in the protocol


@dataclass(frozen=True)
class CommandConfig:
    """timeout: seconds after which a call is stopped and fails. cwd: the folder in which the program runs, relative to
    the suite; None: an empty folder, which is removed afterwards.
    """

    timeout: Annotated[float, Gt(0)] = 3600.0
    cwd: Location | None = None


class Command(Adapted):
    """A program that is called once for each block of images and writes them to a folder.

    {n} images, {seed}, {out}: an empty folder for pictures in the order of their names, or one .npy or .npz. {labels}:
    a file with the number of a class in each line, {prompts}: a file with a text in each line.
    """

    Config = CommandConfig
    words: ClassVar[tuple[str, ...]] = ()
    template: ClassVar[str] = ""

    def sample(self, n: int, gen: Generator, condition: Condition | None = None) -> Tensor:
        """Calls the program for n images; CellFailure when it fails or writes other images."""
        seed = int(torch.randint(2**31, (), generator=gen, device=gen.device))
        with tempfile.TemporaryDirectory(prefix="genbench-") as scratch:
            out = Path(scratch) / "images"
            out.mkdir()
            values = {"{n}": str(n), "{seed}": str(seed), "{out}": str(out), **wishes(condition, Path(scratch))}
            self._run([with_values(word, values) for word in self.words], Path(scratch))
            return self._read(out, n).to(gen.device)

    def _run(self, words: list[str], scratch: Path) -> None:
        folder = scratch / "work"
        folder.mkdir()
        cwd = folder if self.config.cwd is None else self.beside(self.config.cwd)
        screen = scratch / "screen.txt"
        with screen.open("wb") as file:
            process = start(words, cwd, file)
            try:
                with ending_with_this_process(process):
                    code = process.wait(self.config.timeout)
            except subprocess.TimeoutExpired:
                raise CellFailure(f"{self._shown}: stopped after {self.config.timeout:g} seconds") from None
            finally:
                stop(process)
        if code:
            raise CellFailure(f"{self._shown}: ended with exit code {code}: {last_words(screen)}")

    def _read(self, out: Path, n: int) -> Tensor:
        arrays = [p for p in out.iterdir() if p.suffix in (".npy", ".npz")]
        if not any(out.iterdir()):
            raise CellFailure(f"{self._shown}: wrote nothing to {{out}}, required: {n} images")
        if len(arrays) > 1:
            raise CellFailure(f"{self._shown}: wrote {len(arrays)} arrays to {{out}}, allowed: pictures, or one array")
        try:
            pixels = images_of.read_images(arrays[0] if len(arrays) == 1 else out, self.data).pixels
        except DataError as error:
            raise CellFailure(f"{self._shown}: {str(error).replace(str(out), '{out}')}") from None
        if len(pixels) != n:
            raise CellFailure(f"{self._shown}: wrote {len(pixels)} images, required: {n}")
        return to_unit_range(pixels, self.data.levels)

    @property
    def _shown(self) -> str:
        """The command for messages."""
        return textwrap.shorten(self.template, LONGEST_SHOWN, placeholder=" ...")

    @property
    def caveat(self) -> str:
        """The command, and what its times include."""
        return f"drawn by a program, `{self.template}`; times include its start and the reading of its files"

    @property
    def parameter_count(self) -> int | None:
        """Not known."""
        return None


def bind_command(text: str, folder: Path) -> Any:
    """The class for a command; the files that it names are those that it depends on."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ModelError(f"command:{text}: {error}") from None
    missing = [name for name in REQUIRED if name not in text]
    if not words or missing:
        raise ModelError(
            f"command:{text}: found no {missing[0] if missing else 'program'}, allowed: {' '.join(REQUIRED)}"
        )
    if LABELS in text and PROMPTS in text:
        raise ModelError(f"command:{text}: found {LABELS} and {PROMPTS}, allowed: one of them")
    interpreter = words[:1] if Path(words[0]).is_absolute() else []
    named = tuple(word for word in words[len(interpreter) :] if located_in(folder, word).is_file())
    absolute = tuple(str(located_in(folder, word)) if word in named else word for word in words)
    program = sys.executable if absolute[0] == "python" else absolute[0]
    abilities = [kind for mark, kind in ((LABELS, ClassConditional), (PROMPTS, TextConditional)) if mark in text]
    facts: dict[str, Any] = {"named": named, "words": (program, *absolute[1:]), "template": text}
    return bound_class(Command, folder, *abilities, text=text, **facts)


def wishes(condition: Condition | None, scratch: Path) -> dict[str, str]:
    """Files with the requested classes or texts, by placeholder."""
    if condition is None or condition.images is not None:
        return {}
    labels = [] if condition.labels is None else condition.labels.tolist()
    path, lines = scratch / "wishes.txt", condition.texts or [str(label) for label in labels]
    path.write_text("".join(f"{' '.join(line.split())}\n" for line in lines), encoding="utf-8")
    return {LABELS: str(path), PROMPTS: str(path)}


def with_values(word: str, values: dict[str, str]) -> str:
    """A word of the command with its placeholders replaced."""
    for name, value in values.items():
        word = word.replace(name, value)
    return word


def start(words: list[str], cwd: Path, screen: Any) -> subprocess.Popen[bytes]:
    """The program in a process group of its own, without a terminal. Raises CellFailure when it cannot be started."""
    try:
        return subprocess.Popen(
            words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=screen, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        if not cwd.is_dir():
            raise CellFailure(f"config.cwd: found no folder {cwd}, allowed: a folder") from None
        allowed = "a program of the PATH, or an executable file beside the suite"
        raise CellFailure(f"{words[0]}: cannot be started: {error.strerror}; allowed: {allowed}") from None


@contextmanager
def ending_with_this_process(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """While it is open, the program's group is killed when this process ends, also by SIGKILL.

    A shell waits for the end of a pipe that only this process has open.
    """
    if not hasattr(os, "killpg"):
        yield
        return
    watch = ["/bin/sh", "-c", 'read line; kill -9 "-$0"', str(process.pid)]
    watching = subprocess.Popen(watch, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield
    finally:
        watching.kill()
        watching.communicate()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ends whatever is left of the program and of what it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def last_words(screen: Path) -> str:
    """The end of what the program wrote, without the marks below the lines of a traceback of Python."""
    with screen.open("rb") as file:
        file.seek(max(0, screen.stat().st_size - LONGEST_READ))
        lines = file.read().decode(errors="replace").strip().splitlines()
    said = " / ".join([line.strip() for line in lines if line.strip(" ^~")][-LAST_LINES:])
    cut = said if len(said) <= LAST_CHARACTERS else f"... {said[-LAST_CHARACTERS:]}"
    return cut or "it wrote nothing to the screen"


COMMAND = Adapter("a program that writes images", bind_command)
