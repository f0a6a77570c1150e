"""Checks that a model declares every file that it reads; otherwise results stay in the cache after a file is replaced.

An audit hook detects the files that Python opens in this process. On Linux, inotify also detects those that compiled
code opens (onnxruntime, torch.jit, safetensors), below the folder of the class's file and below the current folder. It
does not tell which process opened them, so such a file counts only if it is opened in every building and drawing, and
never while the model rests in between.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
import sysconfig
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from genbench.check.subject import Subject

IGNORED_ENDS = (".py", ".pyc", ".pyi", ".so", ".pyd", ".dll", ".dylib", ".pth")
SYSTEM = tuple(Path(p) for p in ("/proc", "/sys", "/dev", "/etc", "/usr", "/lib", "/lib64"))
INSTALLED = tuple(Path(p).resolve() for p in {sys.prefix, sys.base_prefix, *sysconfig.get_paths().values()})
IN_OPEN, IN_ISDIR, EVENT = 0x20, 0x40000000, struct.Struct("iIII")
MOST_FOLDERS = 500
CONFIRMATIONS = 3
SHORTEST_REST = 0.3  # seconds
_watching: list[_Reads] = []  # the recordings in progress
_hooked: list[bool] = []


@dataclass
class _Reads:
    """Resolved paths of files.

    by_python: that Python read in this process. seen: that were opened, by any code of any process. written: that
    Python wrote in this process.
    """

    by_python: set[Path] = field(default_factory=set)
    seen: set[Path] = field(default_factory=set)
    written: set[Path] = field(default_factory=set)

    def without(self, declared: list[Path]) -> _Reads:
        """The reads outside the declared files and folders."""

        def kept(paths: set[Path]) -> set[Path]:
            return {p for p in paths if not any(p == own or own in p.parents for own in declared)}

        return _Reads(kept(self.by_python), kept(self.seen))


def files_are_declared(subject: Subject) -> str:
    """Building and drawing read only files that files() names."""
    reads = _undeclared(subject)
    again = _undeclared(subject).by_python if reads.by_python else set()  # some files are read once in a process
    loose = reads.by_python & again or _confirmed(subject, reads.seen)
    if not loose:
        return ""
    first, more = min(loose), f" ({len(loose)} such)" if len(loose) > 1 else ""
    return f"reads {first}{more}, which files() does not name; after it is replaced, old results would be shown"


def _confirmed(subject: Subject, seen: set[Path]) -> set[Path]:
    """Those of the files that this model opens each time, and that no other process opens."""
    for _ in range(CONFIRMATIONS):
        if not seen:
            break
        start = time.perf_counter()
        seen = seen & _undeclared(subject).seen
        with recorded_reads(*_folders(subject)) as resting:
            time.sleep(max(time.perf_counter() - start, SHORTEST_REST))
        seen = seen - resting.seen
    return seen


def _undeclared(subject: Subject) -> _Reads:
    """What one building and drawing read and files() does not name."""
    kind = subject.kind
    with recorded_reads(*_folders(subject)) as reads:
        model = subject.build(0)
        subject.draw(1, model=model)
    return reads.without([kind.beside(name).resolve() for name in kind.files(model.config)])


def _folders(subject: Subject) -> tuple[Path, Path]:
    return Path(sys.modules[subject.kind.__module__].__file__ or ".").resolve().parent, Path.cwd()


@contextmanager
def recorded_reads(*folders: Path) -> Iterator[_Reads]:
    """Yields an object that holds, after the block, the files that were read.

    folders: below them, reads by compiled code are detected too. Python modules, installed packages, system files and
    files written inside the block are left out.
    """
    if not _hooked:
        sys.addaudithook(_audit)  # cannot be removed again
        _hooked.append(True)
    reads = _Reads()
    _watching.append(reads)
    watch = _Inotify(folders) if sys.platform == "linux" else None
    try:
        yield reads
    finally:
        _watching.remove(reads)
        opened = watch.close() if watch is not None else set()
        reads.by_python = {p for p in reads.by_python if p not in reads.written and not _ignored(p)}
        reads.seen = {p for p in opened if p not in reads.written and not _ignored(p)}


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if event != "open" or not _watching or not isinstance(arguments[0], str | bytes):
        return
    path = Path(os.fsdecode(arguments[0])).resolve()
    mode, flags = arguments[1], arguments[2]
    by_flags = isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))
    writes = any(c in mode for c in "wax+") if isinstance(mode, str) else by_flags
    for reads in _watching:
        (reads.written if writes else reads.by_python).add(path)


def _ignored(path: Path) -> bool:
    if path.name.startswith(".") or path.suffix in IGNORED_ENDS or path.is_dir() or not path.exists():
        return True
    return any(root in path.parents for root in (*SYSTEM, *INSTALLED))


class _Inotify:
    """Detects files opened in folders and the folders below them, by any code."""

    def __init__(self, folders: tuple[Path, ...]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = self._libc.inotify_init1(os.O_NONBLOCK)
        self._folders: dict[int, Path] = {}
        for folder in _below(folders):
            number = self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), IN_OPEN)
            self._folders[number] = folder

    def close(self) -> set[Path]:
        """Stops and returns the files that were opened."""
        opened: set[Path] = set()
        while True:
            try:
                data = os.read(self._descriptor, 1 << 16)
            except OSError:  # no more events, or no inotify on this system
                break
            opened |= set(self._paths(data))
        if self._descriptor >= 0:
            os.close(self._descriptor)
        return opened

    def _paths(self, data: bytes) -> Iterator[Path]:
        start = 0
        while start < len(data):
            number, mask, _, length = EVENT.unpack_from(data, start)
            name = data[start + EVENT.size : start + EVENT.size + length].rstrip(b"\0")
            start += EVENT.size + length
            if name and not mask & IN_ISDIR and number in self._folders:
                yield (self._folders[number] / os.fsdecode(name)).resolve()


def _below(folders: tuple[Path, ...]) -> list[Path]:
    """The folders and all folders below them, without hidden and installed ones; at most MOST_FOLDERS."""
    waiting, chosen = [folder.resolve() for folder in folders], list[Path]()
    while waiting and len(chosen) < MOST_FOLDERS:
        folder = waiting.pop(0)
        if folder in chosen or folder in INSTALLED or any(root in folder.parents for root in INSTALLED):
            continue
        chosen.append(folder)
        try:
            waiting += [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))]
        except OSError:
            continue
    return chosen
