"""Artefacts on disk (weights, samples, features, values), each under the hash of what it depends on.

An artefact is a folder written elsewhere, flushed to the disk and moved into place, so it is whole or absent. meta.json
has the checksum, size and time of each of its files. When an artefact is read, checksums of files up to SMALL are
always computed; a larger file whose size and time are as recorded is trusted until `genbench cache --verify`. A damaged
artefact counts as absent and is made again. Unfinished work (checkpoints, drawn blocks) is in a scratch folder that
remains after a kill.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from genbench.errors import StoreError
from genbench.files import UNREADABLE, flush
from genbench.keys import file_hash
from genbench.progress import alive


class Kind(StrEnum):
    """The kinds of artefacts."""

    DATA = "data"
    WEIGHTS = "weights"
    SAMPLES = "samples"
    FEATURES = "features"
    NEIGHBOURS = "neighbours"
    REFERENCES = "references"
    LIKELIHOODS = "likelihoods"
    VALUES = "values"


Make = Callable[[Path], dict[str, Any] | None]
Content = TypeVar("Content")
SMALL = 2**20  # bytes
WAIT = 20.0  # seconds between two signs of life while another process has a lock


@dataclass(frozen=True)
class Artefact:
    """One entry of the store: its kind, key, folder, size in bytes and whether it is finished."""

    kind: str
    key: str
    path: Path
    size: int
    finished: bool


def default_root() -> Path:
    """$GENBENCH_CACHE, else genbench's folder in the user's cache."""
    root = os.environ.get("GENBENCH_CACHE")
    return Path(root).expanduser() if root else user_cache_path("genbench")


class Store:
    """The artefact store below one root folder, shared by all suites and safe for several processes."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = default_root() if root is None else Path(root)

    def path(self, kind: str, key: str) -> Path:
        """Where the finished artefact is or will be."""
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Whether the artefact is finished; its checksums are not read."""
        return _described(self.path(kind, key)) is not None

    def meta(self, kind: str, key: str) -> dict[str, Any]:
        """The meta data that the artefact was stored with. Raises StoreError where it is not finished."""
        described = _described(self.path(kind, key))
        if described is None:
            raise StoreError(f"{self.path(kind, key)}: missing or damaged; run the suite again to make it")
        return dict(described["meta"])

    def intact(self, kind: str, key: str, full: bool = False) -> bool:
        """Whether the artefact is finished and its files are as they were written; a damaged one is removed.

        full: computes the checksum of every file, of large ones too.
        """
        folder = self.path(kind, key)
        if not folder.is_dir():
            return False
        described = _described(folder)
        if described is not None:
            stats = described.get("stat", {})
            if all(_as_written(folder / n, v, None if full else stats.get(n)) for n, v in described["sha256"].items()):
                return True
        self.discard(kind, key)
        return False

    def discard(self, kind: str, key: str) -> None:
        """Removes an artefact that turned out to be damaged."""
        shutil.rmtree(self.path(kind, key), ignore_errors=True)

    def verify(self) -> list[Artefact]:
        """Computes every checksum in the store; the damaged artefacts, which are removed."""
        return [a for a in self.entries() if a.path.parent.name == a.kind and a.path.parent.parent == self.root
                and not a.path.name.startswith(".") and not self.intact(a.kind, a.key, full=True)]  # fmt: skip

    def kept(self, kind: str, key: str, make: Make) -> Path:
        """The folder of a finished artefact; if it is absent, make(folder) writes its files and returns its meta.

        Only one process makes it; others wait. What make raises is raised, and nothing is kept.
        """
        with self.lock(kind, key):
            if not self.intact(kind, key):
                self._write(kind, key, make)
        return self.path(kind, key)

    def kept_content(self, kind: str, key: str, make: Make, read: Callable[[Path], Content]) -> Content:
        """What `read` makes of the folder of a kept artefact; one that cannot be read is made again, once."""
        folder = self.kept(kind, key, make)
        try:
            return read(folder)
        except UNREADABLE:
            self.discard(kind, key)
        return read(self.kept(kind, key, make))

    def kept_arrays(
        self,
        kind: str,
        key: str,
        make: Callable[[], dict[str, np.ndarray]],
        facts: Callable[[], dict[str, Any]] = dict,
    ) -> dict[str, np.ndarray]:
        """Named arrays, made and stored if they are absent, with what facts() then returns as their meta data."""

        def write(folder: Path) -> dict[str, Any]:
            np.savez(folder / "arrays.npz", allow_pickle=False, **make())
            return facts()

        def read(folder: Path) -> dict[str, np.ndarray]:
            with (folder / "arrays.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)

        return self.kept_content(kind, key, write, read)

    def _write(self, kind: str, key: str, make: Make) -> None:
        target = self.path(kind, key)
        make_folder(target.parent)
        for stale in target.parent.glob(f".{key[:12]}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{key[:12]}-", dir=target.parent))
        try:
            meta = make(folder) or {}
            _describe(folder, meta)
            if target.exists():
                shutil.rmtree(target)
            folder.replace(target)
            flush(target.parent)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self._scratch_path(kind, key), ignore_errors=True)

    def scratch(self, kind: str, key: str) -> Path:
        """The folder for unfinished work on this artefact, created if it is absent."""
        return make_folder(self._scratch_path(kind, key))

    @contextmanager
    def lock(self, kind: str, key: str, seconds: float = -1) -> Iterator[None]:
        """Only one process at a time works on an artefact; the lock ends with its process.

        seconds: the longest to wait, -1 for no limit; StoreError after it.
        """
        lock, end = FileLock(make_folder(self.root / "locks") / f"{kind}-{key}"), time.monotonic() + seconds
        while not lock.is_locked:
            left = end - time.monotonic() if seconds >= 0 else WAIT
            try:
                lock.acquire(timeout=max(0.0, min(left, WAIT)))
            except Timeout:
                if left <= 0:
                    text = f"another process has been writing it for {seconds} s"
                    raise StoreError(f"{self.path(kind, key)}: {text}") from None
                alive()  # the other process has a watch of its own
        try:
            yield
        finally:
            lock.release()

    def entries(self) -> list[Artefact]:
        """Everything in the store, finished or not, largest first."""
        entries = [self._entry(kind, folder, True) for kind in Kind for folder in _folders(self.root / kind)]
        entries += [self._entry(p.name, f, False) for p in _folders(self.root / "scratch") for f in _folders(p)]
        return sorted(entries, key=lambda a: -a.size)

    def prune(self) -> int:
        """Deletes everything in the store; returns the bytes freed."""
        freed = sum(a.size for a in self.entries())
        for name in (*Kind, "scratch", "locks"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        return freed

    def _scratch_path(self, kind: str, key: str) -> Path:
        return self.root / "scratch" / kind / key

    def _entry(self, kind: str, folder: Path, finished: bool) -> Artefact:
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        return Artefact(kind, folder.name, folder, size, finished and _described(folder) is not None)


def _describe(folder: Path, meta: dict[str, Any]) -> None:
    """Writes meta.json and waits until everything in the folder is on the disk."""
    files = sorted(folder.iterdir())
    sums, stats = {p.name: file_hash(p) for p in files}, {p.name: _stat(p) for p in files}
    described = {"meta": meta, "sha256": sums, "stat": stats}
    (folder / "meta.json").write_text(json.dumps(described, sort_keys=True))
    for path in (*files, folder / "meta.json", folder):
        flush(path)


def _described(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's meta.json; None where it is absent or damaged."""
    try:
        described = json.loads((folder / "meta.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    parts = (described.get("meta"), described.get("sha256")) if isinstance(described, dict) else ()
    return described if parts and all(isinstance(part, dict) for part in parts) else None


def _as_written(path: Path, checksum: str, stat: list[int] | None) -> bool:
    """Whether a file has its checksum; stat, for a large file: the size and time that make computing it needless."""
    if not path.is_file():
        return False
    if stat is not None and stat[0] > SMALL and _stat(path) == stat:
        return True
    return file_hash(path) == checksum


def _stat(path: Path) -> list[int]:
    """Size in bytes and time of the last change in nanoseconds."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def make_folder(path: Path) -> Path:
    """The folder, created with its parents; StoreError when that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be created: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise StoreError(f"{path}: cannot be written")
    return path


def _folders(path: Path) -> list[Path]:
    return [p for p in path.iterdir() if p.is_dir()] if path.is_dir() else []
