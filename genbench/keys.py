"""Hashes that name artefacts, and seeds derived from them: the only place where either is made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def digest(data: Any) -> str:
    """SHA-256 (hex) of plain data as canonical JSON."""
    return hashlib.sha256(json.dumps(data, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(path: Path) -> str:
    """SHA-256 (hex) of a file, or of the names and bytes of all files below a folder."""
    if path.is_file():
        return file_hash(path)
    state = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        state.update(f"{file.relative_to(path)}\0{file_hash(file)}\0".encode())
    return state.hexdigest()


def stream_seed(seed: int, *names: Any) -> int:
    """A 60-bit seed for one purpose, derived from the cell's seed and the purpose's names.

    Different names give independent random streams, so that two purposes never share random numbers.
    """
    return int(digest([seed, *names])[:15], 16)
