"""A command runs in a child of the process that was started, which can therefore say how it ended.

Code of a user's may end its process at any time: by os._exit, or by an error in a library of C. The parent then starts
the command again, in a new child in which that code is refused with the reason, as if it had raised an exception: one
model of a suite fails, or the command ends with one line. Where that is not possible, the parent prints the line.

The parent imports nothing else, so that forking costs about a millisecond. It passes signals on, and the child ends
with it. Where processes cannot be forked, the command runs in the process that was started.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # the module signal takes milliseconds to import
import _thread
import atexit
import mmap
import os
import sys

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the import
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import NoReturn

FAILED = 2  # exit code of a command that ended without its own
SIZE = 4096  # bytes that parent and child share: whether the command ended by itself, its exit code, and what it does
MOST_STARTS = 50
PASSED_ON = (signal.SIGINT, signal.SIGTERM)


class _Command:
    """What the process of a command shares with its parent."""

    def __init__(self) -> None:
        self.page = mmap.mmap(-1, SIZE)
        self.process = 0  # of the command
        self.fatal: dict[str, str] = {}  # what ended an earlier process of this command, and how

    @property
    def activity(self) -> str:
        """What the command does."""
        length = int.from_bytes(self.page[2:4], "little")
        return self.page[4 : 4 + length].decode(errors="replace")

    @activity.setter
    def activity(self, text: str) -> None:
        content = text.encode()
        self.page[2 : 4 + len(content)] = len(content).to_bytes(2, "little") + content


_command: list[_Command] = []  # one, where the command is supervised


class Doing:
    """While it is open, the process does `activity` of the user's; `how` is how that ended an earlier process, or "".

    again: whether the command may be started again when that ends the process.
    """

    def __init__(self, activity: str, again: bool = True) -> None:
        text = f"{'+' if again else '-'}{activity}".encode(errors="replace")
        self.activity = text[: SIZE - 4].decode(errors="ignore")
        self.command = next((c for c in _command if c.process == os.getpid()), None)
        self.how = self.command.fatal.get(self.activity, "") if self.command is not None else ""

    def __enter__(self) -> None:
        if self.command is not None:
            self.before, self.command.activity = self.command.activity, self.activity

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.command is not None:
            self.command.activity = self.before


def ends(code: int) -> None:
    """The command ends by itself with this exit code, whatever happens to its process afterwards."""
    for command in _command:
        if command.process == os.getpid():
            command.page[:2] = bytes((1, code & 0xFF))


def end_command(code: int) -> NoReturn:
    """Ends the process of a command; where it is supervised, without waiting for threads that a user's code left."""
    ends(code)
    if not any(command.process == os.getpid() for command in _command):
        sys.exit(code)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, ValueError, OSError):  # None, closed, or a pipe that nobody reads
            continue
    os._exit(code)


def supervise(handle_signals: Callable[[], None]) -> None:
    """Returns in a child of this process, which ends when the child has ended. handle_signals: of the command.

    A debugger, a profiler or a measurement of coverage follows this process: then the command runs in it.
    """
    if not hasattr(os, "fork") or sys.gettrace() is not None or sys.getprofile() is not None:
        return
    command = _Command()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    for _ in range(MOST_STARTS if os.environ.get("RANK", "0") == "0" else 1):  # a group waits for other ranks in vain
        command.page[:] = bytes(SIZE)
        reading, writing = os.pipe()  # closed by the end of this process
        command.process = os.fork()
        if not command.process:
            os.close(writing)
            _begin(command, reading, handle_signals)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            return
        os.close(reading)
        status = _wait(command.process, mask)
        os.close(writing)
        if command.page[0]:
            os._exit(command.page[1])
        how, activity = _how(status), command.activity
        if not activity.startswith("+") or activity in command.fatal or os.WTERMSIG(status) == signal.SIGKILL:
            break
        command.fatal[activity] = how
    doing = f" while {activity[1:]}".partition("\0")[0] if activity else ""
    os.write(2, f"genbench: its process was ended by {how}{doing}\n".encode())
    os._exit(FAILED)


def _begin(command: _Command, parent: int, handle_signals: Callable[[], None]) -> None:
    """Makes this process that of the command. parent: the end of a pipe that closes with the parent."""
    command.process = os.getpid()
    _command.append(command)
    _thread.start_new_thread(_end_with_the_parent, (parent,))
    handle_signals()


def _wait(child: int, mask: set[int]) -> int:
    """How the child ended; signals, with this mask, are passed on to it until then, and blocked afterwards."""

    def pass_on(number: int, frame: object) -> None:
        try:
            os.kill(child, number)
        except ProcessLookupError:  # it has ended
            return

    for number in PASSED_ON:
        signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    status = os.waitpid(child, 0)[1]
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    return status


def _end_with_the_parent(reading: int) -> None:
    """Ends this process when the parent has ended, of which only the other end of the pipe is left."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        os.read(reading, 1)
    except OSError:  # code of a user's has closed the pipe
        return
    os.kill(os.getpid(), signal.SIGKILL)


def _how(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    name = next((name for name in dir(signal) if name.startswith("SIG") and getattr(signal, name) == -code), "")
    memory = ": most likely out of memory" if -code == signal.SIGKILL else ""
    return f"signal {-code}{', ' * bool(name)}{name}{memory}"
