"""Prompts from a file: the texts that a suite asks models for, in place of the captions of its data."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.data.annotations import TEXT_COLUMNS, json_lines, table_text
from genbench.data.labels import Classes, class_number
from genbench.errors import DataError
from genbench.keys import digest

SUFFIXES = (".txt", ".csv", ".jsonl")


@dataclass(frozen=True)
class Prompts:
    """texts: in the order of the file. each: images in a row for one text: image i is of text i // each modulo N.

    classes: the class of the data that each text names, () where one of them names none.
    """

    texts: tuple[str, ...]
    each: int = 1
    classes: tuple[int, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """For keys and protocols: the hash of the texts, how many they are, and how they belong to images."""
        return {"content": digest(self.texts), "count": len(self.texts), "each": self.each}


def read_prompts(path: Path, column: str = "", each: int = 1) -> Prompts:
    """The prompts of a .txt (one in each line), a .csv or a .jsonl; line ends and repeated spaces become one space.

    column: of a .csv or .jsonl; "": the first of text, caption, prompt. Empty lines of a .txt are left out. Raises
    DataError naming the file, the row, what was found and what is allowed.
    """
    if path.suffix not in SUFFIXES:
        raise DataError(f"{path}: found '{path.suffix}', allowed: {', '.join(SUFFIXES)}")
    content = table_text(path)
    if path.suffix == ".txt":
        if column:
            raise DataError(f"{path}: found column '{column}' of a .txt, allowed: of a .csv or .jsonl")
        texts = [line for line in map(_plain, content.split("\n")) if line]
    else:
        rows = csv.DictReader(io.StringIO(content)) if path.suffix == ".csv" else json_lines(content, path)
        texts = list(_of_rows(rows, column, path))
    if not texts:
        raise DataError(f"{path}: found no prompts, allowed: at least one")
    return Prompts(tuple(texts), each)


def _of_rows(rows: Iterable[Any], column: str, path: Path) -> Iterable[str]:
    for number, row in enumerate(rows, 1):
        name = column or next((name for name in TEXT_COLUMNS if row.get(name)), "")
        value = row.get(name)
        if not isinstance(value, str) or not _plain(value):
            allowed = f"text in a column {name or ' or '.join(TEXT_COLUMNS)}"
            shown = "nothing" if value is None else repr(value)[:40]
            columns = ", ".join(str(key) for key in row) or "none"
            raise DataError(f"{path}: row {number}: found {shown} (columns: {columns}), allowed: {allowed}")
        yield _plain(value)


def _plain(text: str) -> str:
    return " ".join(text.split())


def named_classes(texts: Iterable[str], classes: Classes) -> tuple[int, ...]:
    """The class that each text names, () where one of them names none."""
    known = {text: class_number(text, classes) for text in set(texts)} if classes.count else {}
    if not known or None in known.values():
        return ()
    return tuple(number for text in texts if (number := known[text]) is not None)
