"""Texts that were computed from source files, kept on this machine while the files and their folders do not change.

They are no artefacts: nothing refers to them, and what cannot be read or written is computed again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from genbench.errors import StoreError
from genbench.files import UNREADABLE, whole
from genbench.keys import digest
from genbench.store.artefacts import make_folder
from genbench.store.store import DERIVED, default_root

_SETTLED = 2.0  # seconds: a file may change twice within the resolution of its time
Mark = list[int] | None


def kept_text(name: str, make: Callable[[], tuple[str, Iterable[Path]]]) -> str:
    """The text that make() computes and the files that it read; a kept one where these files are as they were then.

    name: of everything else that the text depends on. A new file in a folder of these files counts as a change. A file
    that changed in the last two seconds is not trusted: the text is not kept.
    """
    path = default_root() / DERIVED / f"{digest(name)}.json"
    kept = _read(path)
    if kept is not None and all(_mark(Path(file)) == mark for file, mark in kept["files"].items()):
        return str(kept["text"])
    start = time.time()
    text, files = make()
    marks = {str(each): _mark(each) for file in files for each in (file, file.parent)}
    if all(mark is not None and max(mark[1:3]) < (start - _SETTLED) * 1e9 for mark in marks.values()):
        _write(path, {"text": text, "files": marks, "sha256": digest([text, marks])})
    return text


def _mark(file: Path) -> Mark:
    """Size, times of change of content and of the entry in nanoseconds, and number of a file; None where it is not."""
    try:
        stat = file.stat()
    except (OSError, ValueError):  # a damaged entry may hold any text
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _read(path: Path) -> dict[str, Any] | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except UNREADABLE:
        return None
    if not isinstance(kept, dict) or not isinstance(kept.get("files"), dict) or not isinstance(kept.get("text"), str):
        return None
    return kept if kept.get("sha256") == digest([kept["text"], kept["files"]]) else None


def _write(path: Path, kept: dict[str, Any]) -> None:
    try:
        make_folder(path.parent)
        with whole(path) as partial:
            partial.write_text(json.dumps(kept), encoding="utf-8")
    except (OSError, StoreError):
        return
