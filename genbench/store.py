"""Artefacts on disk (weights, samples, features, values), each under the hash of what it depends on.

An artefact is a folder written elsewhere and moved into place, so it is whole or absent; meta.json has the checksum
of each of its files. Unfinished work (checkpoints, drawn blocks) is in a scratch folder that remains after a kill.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from genbench.errors import StoreError
from genbench.keys import file_hash


class Kind(StrEnum):
    """The kinds of artefacts."""

    WEIGHTS = "weights"
    SAMPLES = "samples"
    FEATURES = "features"
    REFERENCES = "references"
    LIKELIHOODS = "likelihoods"
    VALUES = "values"


Make = Callable[[Path], dict[str, Any] | None]


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

    def __init__(self, root: Path | None = None) -> None:
        self.root = default_root() if root is None else root

    def path(self, kind: str, key: str) -> Path:
        """Where the finished artefact is or will be."""
        return self.root / kind / key

    def has(self, kind: str, key: str) -> bool:
        """Whether the artefact is finished; its checksums are not read."""
        return (self.path(kind, key) / "meta.json").is_file()

    def meta(self, kind: str, key: str) -> dict[str, Any]:
        """The meta data that the artefact was stored with."""
        return dict(json.loads((self.path(kind, key) / "meta.json").read_text())["meta"])

    def intact(self, kind: str, key: str) -> bool:
        """Whether the artefact is finished and every file has its checksum; a damaged one is removed."""
        if not self.has(kind, key):
            return False
        folder = self.path(kind, key)
        sums = json.loads((folder / "meta.json").read_text())["sha256"]
        if all((folder / name).is_file() and file_hash(folder / name) == value for name, value in sums.items()):
            return True
        shutil.rmtree(folder)
        return False

    def kept(self, kind: str, key: str, make: Make) -> Path:
        """The folder of a finished artefact; if it is absent, make(folder) writes its files and returns its meta.

        Only one process makes it; others wait. What make raises is raised, and nothing is kept.
        """
        with self.lock(kind, key):
            if not self.intact(kind, key):
                self._write(kind, key, make)
        return self.path(kind, key)

    def kept_arrays(self, kind: str, key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Named arrays, made and stored if they are absent."""

        def write(folder: Path) -> None:
            np.savez(folder / "arrays.npz", allow_pickle=False, **make())

        folder = self.kept(kind, key, write)
        with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
            return dict(arrays)

    def _write(self, kind: str, key: str, make: Make) -> None:
        target = self.path(kind, key)
        make_folder(target.parent)
        folder = Path(tempfile.mkdtemp(prefix=f".{key[:12]}-", dir=target.parent))
        try:
            meta = make(folder) or {}
            sums = {p.name: file_hash(p) for p in sorted(folder.iterdir())}
            (folder / "meta.json").write_text(json.dumps({"meta": meta, "sha256": sums}, sort_keys=True))
            if target.exists():
                shutil.rmtree(target)
            folder.replace(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self._scratch_path(kind, key), ignore_errors=True)

    def scratch(self, kind: str, key: str) -> Path:
        """The folder for unfinished work on this artefact, created if it is absent."""
        return make_folder(self._scratch_path(kind, key))

    @contextmanager
    def lock(self, kind: str, key: str, seconds: float = -1) -> Iterator[None]:
        """Only one process at a time works on an artefact; the lock ends with its process."""
        folder = make_folder(self.root / "locks")
        try:
            with FileLock(folder / f"{kind}-{key}", timeout=seconds):
                yield
        except Timeout:
            raise StoreError(f"{self.path(kind, key)}: another process has been writing it for {seconds} s") from None

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
        return Artefact(kind, folder.name, folder, size, finished and (folder / "meta.json").is_file())


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
