"""Artefacts on disk (weights, samples, features, values), each under the hash of what it depends on.

An artefact is a folder written elsewhere and moved into place, so it is whole or absent; meta.json holds the checksum
of each of its files. Unfinished work (checkpoints, drawn blocks) lives in a scratch folder that survives a kill.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from genbench.errors import StoreError
from genbench.keys import file_hash

WEIGHTS, SAMPLES, FEATURES, LIKELIHOODS, VALUES = "weights", "samples", "features", "likelihoods", "values"
KINDS = (WEIGHTS, SAMPLES, FEATURES, LIKELIHOODS, VALUES)


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
    given = os.environ.get("GENBENCH_CACHE")
    return Path(given).expanduser() if given else user_cache_path("genbench")


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
        """What was kept beside the artefact's files."""
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

    @contextmanager
    def writing(self, kind: str, key: str, meta: dict[str, Any]) -> Iterator[Path]:
        """An empty folder to write files into; on leaving it becomes the artefact and the scratch folder goes."""
        target = self.path(kind, key)
        make_folder(target.parent)
        folder = Path(tempfile.mkdtemp(prefix=f".{key[:12]}-", dir=target.parent))
        try:
            yield folder
            sums = {p.name: file_hash(p) for p in sorted(folder.iterdir())}
            (folder / "meta.json").write_text(json.dumps({"meta": meta, "sha256": sums}, sort_keys=True))
            if target.exists():
                shutil.rmtree(target)
            folder.replace(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self._scratch_path(kind, key), ignore_errors=True)

    def scratch(self, kind: str, key: str) -> Path:
        """The folder for unfinished work on this artefact, made if need be."""
        return make_folder(self._scratch_path(kind, key))

    @contextmanager
    def lock(self, kind: str, key: str, seconds: float = -1) -> Iterator[None]:
        """Only one process at a time works on an artefact; the lock goes with the process that held it."""
        folder = make_folder(self.root / "locks")
        try:
            with FileLock(folder / f"{kind}-{key}", timeout=seconds):
                yield
        except Timeout:
            raise StoreError(f"{self.path(kind, key)}: another process has been writing it for {seconds} s") from None

    def entries(self) -> list[Artefact]:
        """Everything in the store, finished or not, largest first."""
        found = [self._entry(kind, folder, True) for kind in KINDS for folder in _folders(self.root / kind)]
        found += [self._entry(p.name, f, False) for p in _folders(self.root / "scratch") for f in _folders(p)]
        return sorted(found, key=lambda a: -a.size)

    def prune(self) -> int:
        """Deletes everything in the store; returns the bytes freed."""
        freed = sum(a.size for a in self.entries())
        for name in (*KINDS, "scratch", "locks"):
            shutil.rmtree(self.root / name, ignore_errors=True)
        return freed

    def _scratch_path(self, kind: str, key: str) -> Path:
        return self.root / "scratch" / kind / key

    def _entry(self, kind: str, folder: Path, finished: bool) -> Artefact:
        size = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        return Artefact(kind, folder.name, folder, size, finished and (folder / "meta.json").is_file())


def make_folder(path: Path) -> Path:
    """The folder, made with its parents; StoreError says why it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be made: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise StoreError(f"{path}: cannot be written")
    return path


def _folders(path: Path) -> list[Path]:
    return [p for p in path.iterdir() if p.is_dir()] if path.is_dir() else []
