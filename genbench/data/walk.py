"""The files below a folder: each is listed once, whatever links lead to it, and nothing is left out without a note.

Real folders are read before links to folders, so that a file keeps its own name where a link repeats it. A folder that
a link leads back to is read once, hence links in a circle end.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from genbench.errors import DataError

# What systems and editors add to folders. Names that begin with a dot are hidden everywhere.
SYSTEM = frozenset(
    name.casefold()
    for name in ("Thumbs.db", "ehthumbs.db", "desktop.ini", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "lost+found",
                 "System Volume Information", "Icon\r", "__pycache__", "#recycle")
)  # fmt: skip


@dataclass
class Listing:
    """files: every file, in the order of `by_name`. hidden: files and folders of the system and hidden ones, not read.

    repeated: links to files or folders that are listed already. broken: links that lead nowhere.
    """

    files: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    repeated: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name belongs to the system or is hidden."""
    return name.startswith(".") or name.casefold() in SYSTEM


def list_files(folder: Path) -> Listing:
    """The files below a folder. Raises DataError for a folder that is missing or cannot be read."""
    listing = Listing()
    links: list[Path] = []
    folders = {_identity(folder)}
    waiting = [folder]
    while waiting or links:
        if not waiting:
            waiting = _through_folder_links(links, folders, listing)
            continue
        for entry in _entries(waiting.pop()):
            path = Path(entry.path)
            if is_hidden(entry.name):
                listing.hidden.append(path)
            elif entry.is_symlink():
                links.append(path)
            elif entry.is_dir():
                _enter(path, folders, waiting, listing)
            elif entry.is_file():
                listing.files.append(path)
    listing.files = _without_repeats(listing)
    for names in vars(listing).values():
        names.sort(key=by_name)
    return listing


def by_name(path: Path) -> tuple[list[tuple[str | int, ...]], Path]:
    """A key that sorts paths by name, with numbers in names by value: 2.png is before 10.png."""
    return [_words_and_numbers(part) for part in path.parts], path


@lru_cache(maxsize=1 << 12)
def _words_and_numbers(name: str) -> tuple[str | int, ...]:
    """Text and numbers of a name in alternation, so that a number is compared with numbers only."""
    return tuple(int(text) if i % 2 else text for i, text in enumerate(re.split(r"([0-9]+)", name)))


def _enter(path: Path, folders: set[tuple[int, int]], waiting: list[Path], listing: Listing) -> None:
    own = _identity(path)
    if own in folders:
        listing.repeated.append(path)
        return
    folders.add(own)
    waiting.append(path)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{folder}: this folder cannot be read: {error.strerror}") from error


def _identity(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    return state.st_dev, state.st_ino


def _through_folder_links(links: list[Path], folders: set[tuple[int, int]], listing: Listing) -> list[Path]:
    """Folders that the links lead to for the first time; links to files go to the listing. Empties links."""
    new: list[Path] = []
    for link in sorted(links):
        if link.is_file():
            listing.files.append(link)
        elif not link.is_dir():
            listing.broken.append(link)
        else:
            _enter(link, folders, new, listing)
    links.clear()
    return new


def _without_repeats(listing: Listing) -> list[Path]:
    """The files with links to listed files taken out; of several links to one file the first is kept."""
    links = sorted(path for path in listing.files if path.is_symlink())
    if not links:
        return listing.files
    kept = [path for path in listing.files if not path.is_symlink()]
    seen = {_identity(path) for path in kept}
    for link in links:
        if _identity(link) in seen:
            listing.repeated.append(link)
        else:
            seen.add(_identity(link))
            kept.append(link)
    return kept
