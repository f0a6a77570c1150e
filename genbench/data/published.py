"""Published files: where they are looked for, what is said when they are missing, downloads, and hashes.

The files of a dataset are searched for in $GENBENCH_DATA/<dataset>, $GENBENCH_DATA and torchvision's folder below it
(without $GENBENCH_DATA: the user's cache folder), and downloaded only when the user asks for it. Authors and
torchvision publish MD5, which shows a damaged or another file, not a forged one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from genbench.data.base import download_allowed, download_folder
from genbench.errors import DataError
from genbench.files import real_path

NAMES = {"md5": "MD5", "sha256": "SHA-256"}


@dataclass(frozen=True)
class PublishedFile:
    """name: of the file. url: where it is published. size: in bytes. md5, sha256: hex; one of the two."""

    name: str
    url: str
    size: int
    md5: str = ""
    sha256: str = ""

    @property
    def algorithm(self) -> str:
        """Of the hash."""
        return "sha256" if self.sha256 else "md5"

    @property
    def hash(self) -> str:
        """In hex."""
        return self.sha256 or self.md5

    def check(self, path: Path) -> None:
        """Raises DataError for a file that is not the published one."""
        found = published_hash(path, self.algorithm)
        if found != self.hash:
            kind = NAMES[self.algorithm]
            raise DataError(f"{path}: found a file of {kind} {found}, allowed: {self.hash} (from {self.url})")


@dataclass(frozen=True)
class PublishedSet:
    """The files of a dataset. layouts: folders below $GENBENCH_DATA where other programs put them.

    by_hand: whether no program can download them. images: how many are in the train and in the test split; None where
    that depends on more than these files.
    """

    dataset: str
    files: tuple[PublishedFile, ...]
    layouts: tuple[str, ...] = ()
    by_hand: bool = False
    images: tuple[int, int] | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the hashes of the files."""
        return hashlib.sha256(" ".join(file.hash for file in self.files).encode()).hexdigest()

    def sizes(self, entry: Mapping[str, Any], path: Path) -> tuple[int, int] | None:
        """`images`, as a DatasetSource declares it."""
        return self.images

    def places(self) -> list[Path]:
        """Folders to look in, in order; a download goes to the first."""
        home = download_folder()
        return list(dict.fromkeys([home / self.dataset, home, *(home / layout for layout in self.layouts)]))

    def find(self, entry: Mapping[str, Any]) -> Path | None:
        """The folder with all files; None where there is none and a download is allowed. Else raises DataError."""
        for place in self.places():
            if all((place / file.name).is_file() for file in self.files):
                return place
        if download_allowed(bool(entry.get("download"))) and not self.by_hand:
            return None
        raise DataError(self.missing())

    def missing(self) -> str:
        """One line: files, sizes, hashes, where they are looked for, and how to get them."""
        home = self.places()[0]
        files = ", ".join(f"{f.name} ({shown_size(f.size)}, {NAMES[f.algorithm]} {f.hash})" for f in self.files)
        looked = ", ".join(map(str, self.places()))
        if self.by_hand:
            pages = " ".join(dict.fromkeys(f.url for f in self.files))
            return (
                f"{self.dataset}: not found in any of {looked}: {files}; download them by hand from {pages} to {home}"
            )
        commands = " && ".join(f"curl -L --create-dirs -o {home / f.name} {f.url}" for f in self.files)
        return (
            f"{self.dataset}: not found in any of {looked}: {files}; fetch with `{commands}`, set GENBENCH_DATA to "
            "their folder, or allow a download with `download: true` or GENBENCH_DOWNLOAD=1"
        )

    def folder(self, entry: Mapping[str, Any]) -> Path:
        """The folder with all files, downloaded where that is allowed; each has its hash."""
        place = self.find(entry) or self.download()
        for file in self.files:
            file.check(place / file.name)
        return place

    def download(self) -> Path:
        """Fetches the files; returns their folder."""
        from torchvision.datasets.utils import download_url  # 4 s to import: only for a download

        home = self.places()[0]
        for file in self.files:
            try:
                download_url(file.url, str(home), file.name, file.md5 or None)
            except (OSError, RuntimeError) as error:
                raise DataError(f"{self.dataset}: download of {file.url} to {home} failed: {error}") from error
        return home


def shown_size(size: int) -> str:
    """Bytes with a unit."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size} bytes"


def published_hash(path: Path, algorithm: str) -> str:
    """The hash (hex) of a file, computed once a process while the file stays as it is."""
    try:
        state = path.stat()
        return _digest(real_path(path), algorithm, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


@lru_cache(maxsize=32)
def _digest(path: Path, algorithm: str, _modified: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
