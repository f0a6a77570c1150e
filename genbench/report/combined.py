"""Several results as one results folder, which is read, compared and rendered like any other.

Its records.jsonl has the records under the names of the page's rows; the folder `parts` has the results themselves,
from which the page is rendered again, and parts.json their names in order.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from genbench.errors import StoreError
from genbench.files import refuse_unsafe, write_text
from genbench.records import Record, slug, unique_records, write_records
from genbench.report.folders import Folder

PARTS, ORDER = "parts", "parts.json"
COPIED = ("records.jsonl", "suite.yaml", "environment.json", "figures/*.png", "curves/*.csv")


def is_combined(directory: Path) -> bool:
    """Whether the folder holds several results."""
    return (directory / ORDER).is_file()


def results_in(directory: Path) -> list[Path]:
    """The folders of the results that a folder combines; the folder itself where it is one result.

    Raises StoreError for a parts.json that does not name them, and for links.
    """
    if not is_combined(directory):
        return [directory]
    refuse_unsafe(directory, PARTS)
    path = directory / ORDER
    try:
        names = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StoreError(f"{path}: not JSON: {error}") from None
    if not isinstance(names, list) or not names or not all(_is_part(directory, name) for name in names):
        raise StoreError(f"{path}: allowed: a list of names of folders in {directory / PARTS}")
    return [directory / PARTS / name for name in names]


def _is_part(directory: Path, name: object) -> bool:
    return isinstance(name, str) and slug(name) == name and (directory / PARTS / name).is_dir()


def write_combined(target: Path, folders: Sequence[Folder]) -> list[Path]:
    """Copies the results into `target`, which may be one that they are from; returns the files beside the parts.

    Raises StoreError where `target` holds a result of its own.
    """
    if (target / "records.jsonl").exists() and not is_combined(target):
        raise StoreError(f"{target}: holds one result, allowed: a new folder, or one of several results")
    fresh, parts = target / f".{PARTS}", target / PARTS
    shutil.rmtree(fresh, ignore_errors=True)
    for folder in folders:
        _copy(folder, fresh / folder.name)
    shutil.rmtree(parts, ignore_errors=True)
    fresh.rename(parts)
    write_text(target / ORDER, json.dumps([folder.name for folder in folders], indent=1) + "\n")
    write_records(target / "records.jsonl", unique_records(r for folder in folders for r in _shown(folder)))
    return [target / "records.jsonl", target / ORDER]


def _copy(folder: Folder, target: Path) -> None:
    for pattern in COPIED:
        for path in sorted(folder.directory.glob(pattern)):
            copy = target / path.relative_to(folder.directory)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _shown(folder: Folder) -> list[Record]:
    """Its records under the names of the page's rows."""
    names = [(r, folder.renamed.get((r.model, r.dataset))) for r in folder.records]
    return [replace(r, model=name, cell=f"{name}/{r.dataset}/s{r.seed}") if name else r for r, name in names]
