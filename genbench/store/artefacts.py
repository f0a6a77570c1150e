"""Artefacts as folders of this machine's disk: how they are described by meta.json, and checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from genbench.errors import StoreError
from genbench.files import flush
from genbench.keys import file_hash

META = "meta.json"
CHECK = '{"sha256_of_the_rest": "'  # begins a meta.json, before the checksum of everything after ENDED
ENDED = '", '
SMALL = 2**20  # bytes


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


@dataclass(frozen=True)
class Artefact:
    """One entry of the store: its kind, key, folder, size in bytes and whether it is finished."""

    kind: str
    key: str
    path: Path
    size: int
    finished: bool


def write_description(folder: Path, meta: Mapping[str, Any]) -> None:
    """Writes meta.json with the checksum, size and time of each file, and waits until everything is on the disk.

    meta.json has a checksum of its own.
    """
    files = sorted(path for path in folder.iterdir() if path.name != META)
    read = {path.name: _flushed(path) for path in files}
    sums, stats = ({name: found[i] for name, found in read.items()} for i in (0, 1))
    with (folder / META).open("wb") as file:  # without a buffer a full disk may take a part and raise nothing
        file.write(_checked({"meta": meta, "sha256": sums, "stat": stats}))
        file.flush()
        os.fsync(file.fileno())
    flush(folder)


def _checked(described: Mapping[str, Any]) -> bytes:
    """The content of a meta.json, whose first entry is the checksum of the others."""
    rest = json.dumps(described, sort_keys=True).removeprefix("{").encode()
    return f"{CHECK}{hashlib.sha256(rest).hexdigest()}{ENDED}".encode() + rest


def _is_damaged(content: bytes) -> bool:
    """Whether the content of a meta.json differs from its checksum; those of earlier versions have none."""
    start = len(CHECK) + 64
    checksum, rest = content[len(CHECK) : start], content[start + len(ENDED) :]
    return content.startswith(CHECK.encode()) and hashlib.sha256(rest).hexdigest().encode() != checksum


def _flushed(path: Path) -> tuple[str, list[int]]:
    """Checksum, size and time of a file, which is on the disk then."""
    with path.open("rb", buffering=0) as file:
        os.fsync(file.fileno())
        stat = os.fstat(file.fileno())
        return hashlib.file_digest(file, "sha256").hexdigest(), [stat.st_size, stat.st_mtime_ns]


def description(folder: Path) -> dict[str, Any] | None:
    """The content of a folder's meta.json; None where it is absent or damaged."""
    try:
        return read_description((folder / META).read_bytes()) if (folder / META).is_file() else None
    except OSError:
        return None


def read_description(content: bytes) -> dict[str, Any] | None:
    """The content of a meta.json; None where it is damaged."""
    try:
        described = None if _is_damaged(content) else json.loads(content)
    except (ValueError, RecursionError):
        return None
    parts = (described.get("meta"), described.get("sha256")) if isinstance(described, dict) else ()
    return described if parts and all(isinstance(part, dict) for part in parts) else None


def as_described(folder: Path, full: bool = False) -> bool:
    """Whether an artefact is finished and its files are as they were written.

    Checksums of files up to SMALL are always computed; a larger file whose size and time are as recorded is trusted,
    unless `full`.
    """
    described = description(folder)
    if described is None:
        return False
    stats = {} if full else described.get("stat", {})
    return all(_as_written(folder / name, checksum, stats.get(name)) for name, checksum in described["sha256"].items())


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
    if path.is_dir() and os.access(path, os.W_OK):
        return path
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{path}: cannot be created: {error.strerror}") from None
    if not os.access(path, os.W_OK):
        raise StoreError(f"{path}: cannot be written")
    return path


def folders(path: Path) -> list[Path]:
    """The folders in a folder; [] where it does not exist."""
    return [p for p in path.iterdir() if p.is_dir()] if path.is_dir() else []
