"""The store: artefacts under the hash of what they depend on, each made once for all processes that share it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from platformdirs import user_cache_path

from genbench.errors import StoreError
from genbench.files import UNREADABLE, flush
from genbench.keys import digest
from genbench.store.artefacts import Artefact, Kind, as_described, description, folders, make_folder, write_description
from genbench.store.disk_lease import DiskLease
from genbench.store.leases import Lease, held
from genbench.store.remote import Remote

Make = Callable[[Path], dict[str, Any] | None]
Content = TypeVar("Content")
LOCATION, COPIES = "GENBENCH_CACHE", "GENBENCH_COPIES"


DERIVED = "derived"  # folder of what genbench.store.derived keeps


class _TakenOver(Exception):  # noqa: N818 - another process makes the artefact now
    pass


def default_location() -> str:
    """$GENBENCH_CACHE, a folder or a URL; else genbench's folder in the user's cache."""
    location = os.environ.get(LOCATION)
    if location and "://" in location:
        return location
    return str(Path(location).expanduser().absolute() if location else user_cache_path("genbench"))


def folder_of(location: str) -> Path:
    """The folder of a store: itself, or of a URL this machine's copies."""
    if "://" not in location:
        return Path(location)
    return Path(os.environ.get(COPIES) or user_cache_path("genbench") / "copies") / digest(location)[:12]


def default_root() -> Path:
    """The folder of the default store."""
    return folder_of(default_location())


class Store:
    """The artefact store of one folder or URL, shared by all suites and safe for several processes and machines.

    root: the folder; of a URL the folder of this machine's copies, below $GENBENCH_COPIES or in the user's cache.
    """

    def __init__(self, location: Path | str | None = None) -> None:
        self.location = default_location() if location is None else str(location)
        self.remote = Remote(self.location) if "://" in self.location else None
        self.root = folder_of(self.location)

    def path(self, kind: str, key: str) -> Path:
        """Where the finished artefact is or will be on this machine."""
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Whether the artefact is finished; its checksums are not read."""
        here = description(self.path(kind, key)) is not None
        return here or (self.remote is not None and self.remote.has(kind, key))

    def meta(self, kind: str, key: str) -> dict[str, Any]:
        """The meta data that the artefact was stored with. Raises StoreError where it is not finished."""
        described = description(self.path(kind, key))
        if described is None and self._download(kind, key):
            described = description(self.path(kind, key))
        if described is None:
            raise StoreError(f"{self.path(kind, key)}: missing or damaged; run the suite again to make it")
        return dict(described["meta"])

    def meta_or_none(self, kind: str, key: str) -> dict[str, Any] | None:
        """As meta; None where the artefact is not finished."""
        try:
            return self.meta(kind, key)
        except StoreError:
            return None

    def intact(self, kind: str, key: str, full: bool = False) -> bool:
        """Whether the artefact is finished and its files are as they were written; a damaged one is removed.

        After it the files are on this machine. full: computes the checksum of every file, of large ones too.
        """
        folder = self.path(kind, key)
        if folder.is_dir():
            if as_described(folder, full):
                return True
            shutil.rmtree(folder, ignore_errors=True)
        return self._download(kind, key)

    def _download(self, kind: str, key: str) -> bool:
        return self.remote is not None and self.remote.get(self.path(kind, key), kind, key)

    def discard(self, kind: str, key: str) -> None:
        """Removes an artefact that turned out to be damaged."""
        if self.remote is not None:
            self.remote.discard(kind, key)
        shutil.rmtree(self.path(kind, key), ignore_errors=True)

    def verify(self) -> list[Artefact]:
        """Computes every checksum in the store; the damaged artefacts, which are removed."""
        entries = [a for a in self.entries() if a.path.parent == self.root / a.kind]
        whole = [a for a in entries if not a.path.name.startswith(".")]
        return [a for a in whole if not self.intact(a.kind, a.key, full=True)]

    def kept(self, kind: str, key: str, make: Make) -> Path:
        """The folder of a finished artefact; if it is absent, make(folder) writes its files and returns its meta.

        Only one process makes it; others wait. What make raises is raised, and nothing is kept.
        """
        while True:
            try:
                with self._held(kind, key) as lease:
                    if not self.intact(kind, key):
                        self._write(kind, key, make, lease)
                    self._upload(kind, key)
                return self.path(kind, key)
            except _TakenOver:
                continue

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

    def _write(self, kind: str, key: str, make: Make, lease: Lease) -> None:
        target, scratch = self.path(kind, key), self._scratch_path(kind, key)
        make_folder(target.parent)
        if lease.found:
            _remove_parts(target)
        folder = Path(tempfile.mkdtemp(prefix=f"{_part(target)}-", dir=target.parent))
        try:
            with self._uploading_scratch(kind, key):
                meta = make(folder) or {}
            write_description(folder, meta)
            if lease.lost:
                raise _TakenOver
            if target.exists():
                shutil.rmtree(target)
            folder.replace(target)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if scratch.is_dir():
            flush(target.parent)  # what is in the scratch folder must not go before the artefact is in its place
            shutil.rmtree(scratch, ignore_errors=True)

    def _upload(self, kind: str, key: str) -> None:
        if self.remote is not None and not self.remote.has(kind, key):
            self.remote.put(self.path(kind, key), kind, key)
            self.remote.drop_scratch(kind, key)

    def _uploading_scratch(self, kind: str, key: str) -> AbstractContextManager[None]:
        if self.remote is None:
            return nullcontext()
        return self.remote.uploading(self._scratch_path(kind, key), kind, key)

    def scratch(self, kind: str, key: str) -> Path:
        """The folder for unfinished work on this artefact, created if it is absent."""
        folder = make_folder(self._scratch_path(kind, key))
        if self.remote is not None:
            self.remote.get_scratch(folder, kind, key)
        return folder

    @contextmanager
    def lock(self, kind: str, key: str, seconds: float = -1) -> Iterator[None]:
        """Only one process at a time works on an artefact; the lock ends with its process, or expires (leases).

        seconds: the longest to wait, -1 for no limit; StoreError after it.
        """
        with self._held(kind, key, seconds):
            yield

    def _held(self, kind: str, key: str, seconds: float = -1) -> AbstractContextManager[Lease]:
        return held(self._lease(f"{kind}-{key}"), str(self.path(kind, key)), seconds)

    def _lease(self, name: str) -> Lease:
        if self.remote is not None:
            return self.remote.lease(name)
        return DiskLease(make_folder(self.root / "locks") / f"{name}.lease")

    def entries(self) -> list[Artefact]:
        """Everything in the store, finished or not, largest first."""
        entries = self._entries_here() if self.remote is None else self.remote.entries(self.root)
        return sorted(entries, key=lambda a: -a.size)

    def _entries_here(self) -> list[Artefact]:
        entries = [self._entry(kind, folder, True) for kind in Kind for folder in folders(self.root / kind)]
        return entries + [self._entry(p.name, f, False) for p in folders(self.root / "scratch") for f in folders(p)]

    def prune(self) -> int:
        """Deletes everything in the store, and of a URL this machine's copies; returns the bytes freed."""
        freed = sum(a.size for a in self.entries())
        if self.remote is not None:
            self.remote.prune()
        for name in (*Kind, "scratch", "locks", DERIVED):
            shutil.rmtree(self.root / name, ignore_errors=True)
        return freed

    def _scratch_path(self, kind: str, key: str) -> Path:
        return self.root / "scratch" / kind / key

    def _entry(self, kind: str, folder: Path, finished: bool) -> Artefact:
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        return Artefact(kind, folder.name, folder, size, finished and description(folder) is not None)


def _part(target: Path) -> str:
    """How the names of unfinished folders of an artefact begin."""
    return f".{target.name[:12]}"


def _remove_parts(target: Path) -> None:
    """Removes what a killed process left of an artefact."""
    for name in os.listdir(target.parent):  # noqa: PTH208 - half the time of iterdir
        if name.startswith(f"{_part(target)}-"):
            shutil.rmtree(target.parent / name, ignore_errors=True)
