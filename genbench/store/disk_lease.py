"""Locks that expire, as files of a disk."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from genbench.store import leases
from genbench.store.leases import NumberedLease, Sight

HEARTBEAT = "genbench signs of life"  # name of a thread


class DiskLease(NumberedLease):
    """Files `path.1`, `path.2`, ... of a disk, which may be shared by machines.

    Signs of life change a file's time. One thread of the process shows those of all its locks: starting a thread takes
    longer than everything else.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.folder, self.start = path.parent, f"{path.name}."

    def _path(self, number: int) -> Path:
        return self.folder / f"{self.start}{number}"

    def _read(self) -> dict[int, Sight]:
        records: dict[int, Sight] = {}
        try:
            names = os.listdir(self.folder)  # noqa: PTH208 - half the time of iterdir
        except FileNotFoundError:  # `genbench cache --prune` has removed all locks
            return records
        for name in names:
            if name.startswith(self.start) and (number := name[len(self.start) :]).isdecimal():
                with suppress(FileNotFoundError):  # removed meanwhile
                    records[int(number)] = self._seen_now(int(number))
        return records

    def _seen_now(self, number: int) -> Sight:
        with self._path(number).open("rb", buffering=0) as file:  # opening makes a network's disk tell the time anew
            return file.read(), os.fstat(file.fileno()).st_mtime_ns

    def _create(self, number: int) -> Sight | None:
        try:
            with self._path(number).open("xb", buffering=0) as file:
                self._fill(file, number)
        except FileExistsError:
            return None
        return self._seen_now(number)

    def _fill(self, file: IO[bytes], number: int) -> None:
        try:
            file.write(self._record())
        except OSError:  # the disk is full
            self._path(number).unlink()
            raise

    def _remove(self, number: int) -> None:
        try:
            self._path(number).unlink()
        except FileNotFoundError:  # another process took over
            self._lost = True

    def _show(self) -> None:
        os.utime(self._path(self.number))

    def _begin(self) -> None:
        _HEART.add(self)

    def _end(self) -> None:
        _HEART.remove(self)


class _Heart:
    """A thread that shows the signs of life of all locks that this process has on disks."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """No locks: a forked process has none of its parent's, and not its thread."""
        self.lock, self.leases = threading.Lock(), set[DiskLease]()
        self.thread: threading.Thread | None = None

    def add(self, lease: DiskLease) -> None:
        with self.lock:
            self.leases.add(lease)
            if self.thread is None:
                self.thread = threading.Thread(target=self._work, name=HEARTBEAT, daemon=True)
                self.thread.start()

    def remove(self, lease: DiskLease) -> None:
        with self.lock:
            self.leases.discard(lease)

    def _work(self) -> None:
        while True:
            time.sleep(leases.BEAT)
            with self.lock:
                for lease in self.leases:
                    lease.live()


_HEART = _Heart()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_HEART.forget)
