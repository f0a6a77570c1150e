"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; on leaving it is flushed to the disk and takes the place of `path`.

    After an error nothing is left of it, and `path` is as it was. A link at `path` is replaced, not followed.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replaces a file by this text, in UTF-8."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
