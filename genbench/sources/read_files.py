"""Files that a model reads beside its code and weights: declared by its class or in the suite, hashed into its keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.contract import Draws
from genbench.errors import CellFailure, ModelError
from genbench.files import absence
from genbench.keys import content_hash
from genbench.returned import described


@dataclass(frozen=True)
class ReadFile:
    """A file or folder that a model reads: its name as declared, where it is, and the hash of its content."""

    name: str
    path: Path
    content: str


def read_files(kind: type[Draws], config: Any, more: Iterable[tuple[str, Path]] = ()) -> tuple[ReadFile, ...]:
    """The files that a class declares for a config, and `more` by name. Raises ModelError for one that is missing."""
    names: Any = kind.files(config)
    if not (isinstance(names, tuple | list) and all(isinstance(name, str | Path) for name in names)):
        raise ModelError(f"{kind.__name__}.files(): found {described(names)}, required: a tuple of names of files")
    declared = [(str(name), kind.beside(name)) for name in names]
    for name, path in declared:
        if reason := absence(path):
            raise ModelError(f"{kind.__name__}: files: '{name}': {path} {reason}")
    return tuple(ReadFile(name, path, content_hash(path)) for name, path in dict([*declared, *more]).items())


def hashes(files: Iterable[ReadFile]) -> dict[str, dict[str, str]]:
    """For keys and protocols: {"files": {name: hash}}, or nothing without files."""
    contents = {file.name: file.content for file in files}
    return {"files": contents} if contents else {}


def refuse_changed(files: Iterable[ReadFile]) -> None:
    """Raises CellFailure for a file that is no longer what was planned with."""
    for file in files:
        if not file.path.exists() or content_hash(file.path) != file.content:
            raise CellFailure(f"{file.path} changed during the run; run it again")
