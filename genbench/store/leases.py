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
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import psutil

from genbench.errors import StoreError
from genbench.progress import alive

EXPIRY = 60.0  # seconds without a sign of life after which a lock can be taken over
BEAT = EXPIRY / 4
WAIT = 20.0  # seconds between two signs of life of who waits
POLL = 0.5  # seconds between two looks at a lock
Sight = tuple[bytes, int]  # a record, and on a disk the time of the last sign of life in nanoseconds


class Lease(ABC):
    """A lock of one process. found: whether another process had it, or left it, when this one asked for it."""

    found = False

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


class NumberedLease(Lease):
    """Records with the numbers 1, 2, ..., which can be created exclusively. The holder is who created the highest one.

    Who takes over the lock of a dead holder creates the next number and then removes the others, but only if nothing
    else was there beside what he saw dead: so two never hold the lock.
    """

    def __init__(self) -> None:
        self.number, self.beats, self.token, self._lost = 0, 0, "", False
        self._busy = threading.RLock()  # a record that is being written again looks like another process's
        self._seen: dict[int, tuple[Sight, float]] = {}  # what was read last, and since when it is so

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
        self.found = self.found or bool(there)
        if not all(self._is_dead(number, sight) for number, sight in there.items()):
            return False
        self.token, number = secrets.token_hex(8), max(there, default=0) + 1
        own = self._create(number)
        if own is None:
            return False
        if self._read() != there | {number: own}:
            self._remove(number)
            return False
        for dead in there:
            self._remove(dead)
        self.number, self._lost = number, False
        self._begin()
        return True

    def _record(self) -> bytes:
        return json.dumps({"token": self.token, "beats": self.beats, **this_process()}).encode()

    def _is_dead(self, number: int, sight: Sight) -> bool:
        now = time.monotonic()
        if number not in self._seen or self._seen[number][0] != sight:
            self._seen[number] = (sight, now)
        return now - self._seen[number][1] > EXPIRY or has_ended(sight[0])

    def live(self) -> None:
        """Shows a sign of life, unless the lock is lost."""
        with self._busy, suppress(Exception):  # of a network, for a moment: the next sign of life may succeed
            if not self.lost:
                self.beats += 1
                self._show()

    def release(self) -> None:
        """As Lease."""
        self._end()  # a sign of life after the removal would be a lock without a holder
        if not self.lost:  # then this number may be another process's
            self._remove(self.number)

    @property
    def lost(self) -> bool:
        """As Lease; looked up, because signs of life may have failed."""
        with self._busy:
            if not self._lost:
                there = self._read()
                self._lost = max(there, default=0) != self.number or self.token.encode() not in there[self.number][0]
            return self._lost

    @abstractmethod
    def _read(self) -> dict[int, Sight]:
        """What is there by number; it changes with every sign of life."""

    @abstractmethod
    def _create(self, number: int) -> Sight | None:
        """Creates a number, and returns what _read will return of it; None where another process has created it."""

    @abstractmethod
    def _remove(self, number: int) -> None:
        """Removes a number; the lock is lost where it is no more."""

    @abstractmethod
    def _show(self) -> None:
        """Changes the own record."""

    @abstractmethod
    def _begin(self) -> None:
        """From now on live() is called every BEAT seconds."""

    @abstractmethod
    def _end(self) -> None:
        """From now on it is not."""


def this_process() -> dict[str, Any]:
    """What identifies this process among those of all machines."""
    return _identity(os.getpid())


@lru_cache(maxsize=1)
def _identity(pid: int) -> dict[str, Any]:
    return {"host": _host(), "pid": pid, "started": psutil.Process(pid).create_time()}


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
