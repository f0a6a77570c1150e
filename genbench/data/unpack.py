"""Archives of images (.zip, .tar, .tar.gz, webdataset's shards) unpacked into a folder, and nowhere else.

Refused are members with absolute paths or `..`, links, devices, encrypted members, and archives that become much larger
than they are (a decompression bomb).
"""

from __future__ import annotations

import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from genbench.errors import DataError

ENDS = (".zip", ".tar", ".tar.gz", ".tgz")
RATIO = 200  # bytes that one byte of an archive may become; pictures are hardly compressible
FREE = 1 << 26  # bytes that any archive may become
CHUNK = 1 << 20
MACOS = "__MACOSX"
SYMLINK, KIND = 0o120000, 0o170000  # of a zip member's Unix mode
BROKEN = (zipfile.BadZipFile, tarfile.TarError, OSError, EOFError, zlib.error, RuntimeError, NotImplementedError)


def is_archive(path: Path) -> bool:
    """Whether a file is an archive by its name."""
    return path.is_file() and path.name.lower().endswith(ENDS)


def shards_of(path: Path) -> list[Path]:
    """The archives that a path names: itself, or all files of a folder that contains nothing but archives; else []."""
    if is_archive(path):
        return [path]
    files = sorted(p for p in path.iterdir() if not p.name.startswith(".")) if path.is_dir() else []
    return files if files and all(map(is_archive, files)) else []


def unpack(archives: list[Path], target: Path) -> None:
    """Writes the files of the archives below target, of several archives each into a folder with its number.

    Raises DataError naming the archive and the member.
    """
    for number, archive in enumerate(archives):
        folder = target / f"{number:05}" if len(archives) > 1 else target
        folder.mkdir(parents=True, exist_ok=True)
        try:
            _unpack(archive, folder)
        except BROKEN as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DataError(f"{archive}: not a readable archive: {reason}") from error


def innermost(folder: Path) -> Path:
    """The folder that was packed: `zip -r images.zip images` puts every file below `images`, which is then no class.

    Hidden files and the folder of metadata that macOS adds are not counted. A single class in an archive is taken for
    such a folder as well.
    """
    entries = [path for path in folder.iterdir() if path.name != MACOS and not path.name.startswith(".")]
    return innermost(entries[0]) if len(entries) == 1 and entries[0].is_dir() else folder


def _unpack(archive: Path, folder: Path) -> None:
    left = FREE + RATIO * archive.stat().st_size
    members = _zip_members if archive.suffix.lower() == ".zip" else _tar_members
    for name, content in members(archive):
        path = folder / _inside(name, archive)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            while part := content.read(CHUNK):
                left -= len(part)
                if left < 0:
                    raise DataError(
                        f"{archive}: becomes more than {RATIO} times as large at '{name}': a decompression bomb"
                    )
                file.write(part)


def _inside(name: str, archive: Path) -> PurePosixPath:
    """The member's path relative to the target folder; DataError where it leads out of it."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise DataError(f"{archive}: member '{name}' would be written outside its folder")
    return path


def _zip_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            if member.is_dir():
                continue
            if (member.external_attr >> 16) & KIND == SYMLINK:
                raise DataError(f"{archive}: member '{member.filename}' is a link, allowed: files and folders")
            with file.open(member) as content:
                yield member.filename, content


def _tar_members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with tarfile.open(archive, mode="r:*") as file:
        for member in file:
            if member.isdir():
                continue
            content = file.extractfile(member) if member.isreg() else None
            if content is None:
                raise DataError(f"{archive}: member '{member.name}' is no file, allowed: files and folders")
            yield member.name, content


def remove(folder: Path) -> None:
    """Deletes what was unpacked."""
    shutil.rmtree(folder, ignore_errors=True)
