"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# What numpy and zipfile raise for a file that is not what its name says.
UNREADABLE = (
    OSError, ValueError, TypeError, KeyError, IndexError, EOFError, SyntaxError, RuntimeError, OverflowError,
    MemoryError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; on leaving it is flushed to the disk and takes the place of `path`.

    After an error nothing is left of it, and `path` is as it was. A link at `path` is replaced, not followed.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        flush(partial)
        partial.replace(path)
        flush(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on the disk."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Replaces a file by this text, in UTF-8."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
