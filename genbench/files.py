"""Files that are written whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genbench.errors import GenbenchError, StoreError

MOST_INFLATED = 100  # unpacked size of an archive over its size from which it is refused

# What numpy and zipfile raise for a file that is not what its name says.
UNREADABLE = (
    OSError, ValueError, TypeError, KeyError, IndexError, EOFError, SyntaxError, RuntimeError, OverflowError,
    MemoryError, struct.error, zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip

A_FILE = "allowed: a file or folder"
LARGEST = {".jsonl": 2**31, ".json": 2**20, ".yaml": 2**20, ".png": 2**25, ".csv": 2**25, ".html": 2**29}  # bytes
MOST_PIXELS = 10**8


def real_path(path: Path) -> Path:
    """The absolute path without links; a link that leads to itself stays. Path.resolve raises RuntimeError for one."""
    return Path(os.path.realpath(path))


def absence(path: Path | str) -> str:
    """What is wrong with a path that is no file and no folder, "" for nothing; reading a pipe could take forever."""
    # functions of os, which are False for a name too long or a folder without permission, where those of Path raise
    if os.path.isfile(path) or os.path.isdir(path):  # noqa: PTH112, PTH113
        return ""
    if os.path.exists(path):  # noqa: PTH110
        return f"found a device or a pipe, {A_FILE}"
    return f"found a link that leads to no file, {A_FILE}" if os.path.islink(path) else "not found"  # noqa: PTH114


def refuse_absent(path: Path, error: type[GenbenchError]) -> None:
    """Raises `error` for a path that is no file and no folder."""
    if reason := absence(path):
        raise error(f"{path}: {reason}")


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


@contextmanager
def emptied_after_error(folder: Path) -> Iterator[None]:
    """A new or empty folder is filled inside; after an error it holds nothing, and a new one is gone."""
    new = not folder.exists()
    try:
        yield
    except BaseException:
        for path in folder.iterdir() if folder.exists() else ():
            delete(path)
        if new and folder.exists():
            folder.rmdir()
        raise


def delete(path: Path) -> None:
    """Removes a file, a link or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Waits until a file, or the list of names in a folder, is on the disk."""
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_unsafe(folder: Path, *inside: str) -> None:
    """Raises StoreError for what a result's folder from elsewhere, or a folder `inside` it, must not hold.

    That is a link (also a hard one) or a device, because files are shown and overwritten and a link could point to any
    file of the reader's; and files that are read and are larger than LARGEST allows, or PNGs of more than MOST_PIXELS.
    """
    for name in ("", *inside):
        for path in sorted((folder / name).iterdir()) if (folder / name).is_dir() else []:
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise StoreError(f"{path}: found a link or device, allowed: files and folders of the result's own")
            if path.is_file():
                _refuse_unsafe_file(path)


def _refuse_unsafe_file(path: Path) -> None:
    stat, most = path.stat(), LARGEST.get(path.suffix.lower())
    if most is None:
        return
    if stat.st_nlink > 1:
        found = f"a file with {stat.st_nlink} names (hard links)"
        raise StoreError(f"{path}: found {found}, allowed: files of the result's own; copy the folder")
    if stat.st_size > most:
        raise StoreError(f"{path}: found {stat.st_size:,} bytes, allowed: at most {most:,}")
    if path.suffix.lower() == ".png":
        with path.open("rb") as file:
            head = file.read(24)
        width, height = struct.unpack(">II", head[16:]) if len(head) == 24 else (0, 0)
        if width * height > MOST_PIXELS:
            raise StoreError(f"{path}: found {width} x {height} pixels, allowed: at most {MOST_PIXELS:,}")


def remove_partials(folder: Path, *inside: str) -> None:
    """Removes what killed processes left of files that they wrote with `whole`; nothing may write there meanwhile."""
    for name in ("", *inside):
        for path in (folder / name).glob(".*"):
            if re.fullmatch(r"\..+\.\d+", path.name) and path.is_file():
                path.unlink()


def refuse_inflated(path: Path, error: type[GenbenchError]) -> None:
    """Raises `error` for an archive that unpacks to far more than its size."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MOST_INFLATED * path.stat().st_size:
        found = f"{path.stat().st_size:,} bytes that unpack to {size:,}"
        raise error(f"{path}: {found}, allowed: {MOST_INFLATED} times")


def read_json_object(path: Path, error: type[GenbenchError]) -> dict[str, Any]:
    """The JSON object in a file. Raises `error` for a file that cannot be read, is too large or holds anything else."""
    refuse_absent(path, error)
    try:
        if path.stat().st_size > LARGEST[".json"]:
            raise error(f"{path}: found {path.stat().st_size:,} bytes, allowed: at most {LARGEST['.json']:,}")
        content = path.read_bytes()
    except OSError as failure:
        raise error(f"{path}: cannot be read: {failure.strerror}") from None
    return json_object(content, str(path), error)


def json_object(content: bytes | str, place: str, error: type[GenbenchError]) -> dict[str, Any]:
    """The JSON object in a text; place: what messages call it. Raises `error` for anything else."""
    try:
        found = json.loads(content)
    except json.JSONDecodeError as failure:
        raise error(f"{place}:{failure.lineno}: not JSON: {failure.msg}") from None
    except UnicodeDecodeError:
        raise error(f"{place}: not JSON: found a byte that is not UTF-8") from None
    except (ValueError, RecursionError) as failure:
        raise error(f"{place}: not JSON: {failure}") from None
    if not isinstance(found, dict):
        raise error(f"{place}: found {type(found).__name__}, allowed: a JSON object")
    return found


def write_text(path: Path, text: str) -> None:
    """Replaces a file by this text, in UTF-8."""
    with whole(path) as partial:
        partial.write_text(text, encoding="utf-8")
