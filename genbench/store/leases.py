"""Locks that expire, on shared disks and in object stores, without flock.

A lock belongs to its holder while the holder shows that it lives, every BEAT seconds. Whoever waits takes it over when
he has seen no sign of life for EXPIRY seconds of his own clock, so that clocks of machines need not agree; and at once
when the holder was a process of this machine that has ended.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from filelock import SoftFileLease, Timeout

from genbench.errors import StoreError
from genbench.progress import alive

EXPIRY = 60.0  # seconds without a sign of life after which a lock can be taken over
BEAT = EXPIRY / 4
WAIT = 20.0  # seconds between two signs of life of who waits
POLL = 0.5  # seconds between two looks at a lock in an object store


class Lease(ABC):
    """A lock of one process."""

    @abstractmethod
    def acquire(self, seconds: float) -> bool:
        """Waits at most this long; whether the lock is held now."""

    @abstractmethod
    def release(self) -> None:
        """Ends the lock."""

    @property
    @abstractmethod
    def lost(self) -> bool:
        """Whether another process took the lock over, because this one showed no sign of life in time."""


@contextmanager
def held(lease: Lease, name: str, seconds: float = -1) -> Iterator[Lease]:
    """Holds a lock. seconds: the longest to wait, -1 for no limit; StoreError after it. name: what it protects."""
    end = time.monotonic() + seconds
    while not lease.acquire(min(WAIT, max(0.0, end - time.monotonic())) if seconds >= 0 else WAIT):
        if seconds >= 0 and end <= time.monotonic():
            raise StoreError(f"{name}: another process has been writing it for {seconds} s")
        alive()  # the other process has a watch of its own
    try:
        yield lease
    finally:
        lease.release()


class DiskLease(Lease):
    """A file of a disk, which may be shared by machines: created exclusively, and touched as a sign of life."""

    def __init__(self, path: Path) -> None:
        self.lease = SoftFileLease(path, lease_duration=EXPIRY, heartbeat_interval=BEAT)

    def acquire(self, seconds: float) -> bool:
        """As Lease."""
        try:
            self.lease.acquire(timeout=max(0.0, seconds))
        except Timeout:
            return False
        return True

    def release(self) -> None:
        """As Lease."""
        self.lease.release()

    @property
    def lost(self) -> bool:
        """As Lease."""
        return self.lease.compromise is not None


class ObjectLease(Lease):
    """Objects `folder/1`, `folder/2`, ... of a file system of fsspec that can create objects exclusively.

    The holder is who created the highest number. Who takes over the lock of a dead holder creates the next number and
    then removes the others, but only if nothing else was there beside what he saw dead: so two never hold the lock.
    """

    def __init__(self, files: Any, folder: str) -> None:
        self.files, self.folder = files, folder
        self.number, self.beats, self.token = 0, 0, ""
        self._lost, self._stop = False, threading.Event()
        self._seen: dict[int, tuple[bytes, float]] = {}  # what was read last, and since when it is so

    def acquire(self, seconds: float) -> bool:
        """As Lease."""
        end = time.monotonic() + seconds
        while not self._try():
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, POLL * (0.5 + secrets.randbelow(1000) / 1000)))
        return True

    def _try(self) -> bool:
        there = self._read()
        if not all(self._is_dead(number, record) for number, record in there.items()):
            return False
        self.token, number = secrets.token_hex(8), max(there, default=0) + 1
        own = self._record()
        if not self._create(number, own):
            return False
        if self._read() != there | {number: own}:
            self._remove(number)
            return False
        for dead in there:
            self._remove(dead)
        self.number, self._lost, self._stop = number, False, threading.Event()
        self._thread = threading.Thread(target=self._live, args=(self._stop,), daemon=True)
        self._thread.start()
        return True

    def _record(self) -> bytes:
        return json.dumps({"token": self.token, "beats": self.beats, **this_process()}).encode()

    def _is_dead(self, number: int, record: bytes) -> bool:
        now = time.monotonic()
        if number not in self._seen or self._seen[number][0] != record:
            self._seen[number] = (record, now)
        return now - self._seen[number][1] > EXPIRY or has_ended(record)

    def _live(self, stop: threading.Event) -> None:
        while not stop.wait(BEAT):
            try:
                if self.lost:
                    return
                self.beats += 1
                self.files.pipe_file(self._path(self.number), self._record())
            except Exception:  # of a network, for a moment: the next sign of life may succeed
                continue

    def release(self) -> None:
        """As Lease."""
        self._stop.set()
        self._thread.join()  # a sign of life after the removal would be a lock without a holder
        self._remove(self.number)

    @property
    def lost(self) -> bool:
        """As Lease; looked up, because signs of life may have failed."""
        self._lost = self._lost or max(self._read(), default=0) != self.number
        return self._lost

    def _path(self, number: int) -> str:
        return f"{self.folder}/{number}"

    def _read(self) -> dict[int, bytes]:
        try:
            paths = self.files.ls(self.folder, detail=False, refresh=True)
        except FileNotFoundError:
            return {}
        records = {}
        for path in paths:
            try:
                records[int(path.rpartition("/")[2])] = self.files.cat_file(path)
            except FileNotFoundError:  # removed meanwhile
                continue
        return records

    def _create(self, number: int, record: bytes) -> bool:
        try:
            with self.files.open(self._path(number), "xb") as file:
                file.write(record)
        except FileExistsError:
            return False
        return True

    def _remove(self, number: int) -> None:
        try:
            self.files.rm_file(self._path(number))
        except FileNotFoundError:  # another process took over
            self._lost = True


def this_process() -> dict[str, Any]:
    """What identifies this process among those of all machines."""
    return {"host": _host(), "pid": os.getpid(), "started": psutil.Process().create_time()}


def has_ended(record: bytes) -> bool:
    """Whether the process of a record was one of this machine and has ended."""
    try:
        holder = json.loads(record)
        if holder["host"] != _host():
            return False
        return bool(psutil.Process(holder["pid"]).create_time() != holder["started"])
    except psutil.NoSuchProcess:
        return True
    except (ValueError, KeyError, TypeError, psutil.Error):
        return False


def _host() -> str:
    """The machine, and on Linux the namespace of process numbers, of which containers have their own."""
    namespace = Path("/proc/self/ns/pid")
    return f"{socket.gethostname()} {namespace.readlink() if namespace.is_symlink() else ''}"
