"""Captions and labels of pictures, from a table or from files beside the pictures.

A table is a .csv or .jsonl with a column `file_name` (or `file`, `image`, `path`; relative to the table), `text` (or
`caption`, `prompt`) and `label`, as metadata.csv and metadata.jsonl of Hugging Face's imagefolder are; or a .txt with
lines `file<TAB>caption`, or with one caption in a line in the order of the files, such as metadata.txt. A .csv or
.jsonl of any name is read where it has a column for files and another for captions or labels. Beside a picture x.png,
x.txt or x.caption is its caption, x.cls its label, and x.json both, as in webdataset's shards.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.errors import DataError
from genbench.files import json_object, read_json_object, refuse_absent

TABLES = ("metadata.csv", "metadata.jsonl", "metadata.txt", "captions.txt")
TABLE_ENDS = (".csv", ".jsonl")
FILE_COLUMNS, TEXT_COLUMNS = ("file_name", "file", "image", "path"), ("text", "caption", "prompt")
NOTE_COLUMNS = (*TEXT_COLUMNS, "label")
TEXT_ENDS, LABEL_END, BOTH_END = (".txt", ".caption"), ".cls", ".json"
DELIMITERS = (",", ";", "\t")  # of a .csv
LONGEST_ROW = 1 << 20  # characters of a table's first row that are looked at
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Annotations:
    """texts: of each picture, None for none. labels: their names, None for none."""

    texts: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None


def without_annotations(others: Iterable[Path], pictures: Iterable[Path]) -> list[Path]:
    """Those of the files which are no pictures that do not state captions or labels of the pictures."""
    beside, ends = {path.with_suffix("") for path in pictures}, (*TEXT_ENDS, LABEL_END, BOTH_END)
    return [
        path for path in others
        if not is_table(path) and not (path.suffix in ends and path.with_suffix("") in beside)
    ]  # fmt: skip


def is_table(path: Path) -> bool:
    """Whether a file is a table of captions or labels, by its name or by its columns."""
    visible = not path.name.startswith(".")
    return path.name in TABLES or (visible and path.suffix in TABLE_ENDS and _has_columns(path))


def _has_columns(path: Path) -> bool:
    """Whether the first row has a column for files and one for captions or labels."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline(LONGEST_ROW)
        columns = json.loads(first) if path.suffix == ".jsonl" else _header(first, _delimiter(first))
    except (OSError, ValueError, RecursionError, csv.Error):
        return False
    if path.suffix == ".jsonl" and not isinstance(columns, dict):
        return False
    return _is_header(columns)


def _is_header(columns: Iterable[str]) -> bool:
    names = set(columns)
    return not names.isdisjoint(FILE_COLUMNS) and not names.isdisjoint(NOTE_COLUMNS)


def _header(first: str, delimiter: str) -> list[str]:
    return next(csv.reader([first], delimiter=delimiter), [])


def _delimiter(first: str) -> str:
    """What separates the columns of a .csv with this first row: a comma, or what some spreadsheets write."""
    return next((mark for mark in DELIMITERS if _is_header(_header(first, mark))), ",")


def read_annotations(root: Path, pictures: Sequence[Path], table: str | None = None) -> Annotations:
    """What is known of the pictures below root, in their order.

    table: of captions, relative to root; None: the tables in root and in folders of it, else files beside the
    pictures. Raises DataError for tables without one of the pictures, with one that does not exist, or that disagree.
    """
    if table is not None:
        return _of_tables([root / table], pictures)
    parts = (path.relative_to(root).parts for path in pictures)
    folders = dict.fromkeys([root, *(root / part[0] for part in parts if len(part) > 1)])
    tables = [path for folder in folders for path in sorted(folder.iterdir()) if path.is_file() and is_table(path)]
    return _of_tables(tables, pictures) if tables else _beside(pictures)


def _of_tables(tables: list[Path], pictures: Sequence[Path]) -> Annotations:
    rows: dict[Path, Row] = {}
    for table in tables:
        for picture, row in _rows_of(table, pictures).items():
            rows[picture] = _joined(rows.get(picture, {}), row, table, picture)
    known = set(pictures)
    strange, absent = [p for p in rows if p not in known], [p for p in pictures if p not in rows]
    where = ", ".join(map(str, tables))
    if strange:
        raise DataError(f"{where}: {len(strange)} rows name no picture, the first {strange[0]}")
    if absent:
        raise DataError(f"{where}: {len(absent)} of {len(pictures)} pictures have no row, the first {absent[0]}")
    return _columns([rows[path] for path in pictures], where, pictures)


def _joined(known: Row, row: Row, table: Path, picture: Path) -> Row:
    """What several tables state of a picture. Raises DataError where two of them differ."""
    stated = {key: value for key, value in row.items() if value is not None}
    for key in known.keys() & stated.keys():
        if known[key] != stated[key]:
            more = f"{stated[key]!r}, and another table {known[key]!r}"
            raise DataError(f"{table}: {key} of {picture} is {more}; `captions:` names the table to read")
    return {**known, **stated}


def _columns(rows: Sequence[Row], where: str, pictures: Sequence[Path]) -> Annotations:
    texts = _column(rows, "text", where, pictures)
    labels = _column(rows, "label", where, pictures)
    if texts is None and labels is None:
        raise DataError(f"{where}: found no column for captions or labels, allowed: {', '.join(NOTE_COLUMNS)}")
    return Annotations(texts, labels)


def _column(rows: Sequence[Row], name: str, where: str, pictures: Sequence[Path]) -> tuple[str, ...] | None:
    values = [row.get(name) for row in rows]
    absent = [picture for picture, value in zip(pictures, values, strict=True) if value is None]
    if len(absent) == len(values):
        return None
    if absent:
        raise DataError(f"{where}: {len(absent)} of {len(values)} pictures have no {name}, the first {absent[0]}")
    return tuple(map(str, values))


def _rows_of(table: Path, pictures: Sequence[Path]) -> dict[Path, Row]:
    """The rows of a table by picture, with the columns text and label."""
    content = table_text(table)
    if table.suffix == ".txt":
        return _of_lines(text_lines(content), table, pictures)
    rows = _of_csv(content) if table.suffix == ".csv" else json_lines(content, table)
    found: dict[Path, Row] = {}
    known = set(pictures)
    for number, row in enumerate(rows, 1):
        name = next((row[c] for c in FILE_COLUMNS if row.get(c)), None)
        if not isinstance(name, str):
            raise DataError(f"{table}: row {number}: found no file name, allowed: a column {' or '.join(FILE_COLUMNS)}")
        path = table.parent / name
        as_on_windows = table.parent / name.replace("\\", "/")
        found[path if path in known else as_on_windows] = _plain(row)
    return found


def _plain(row: Row) -> Row:
    """Text and label, as text: 1 in one table and "1" in another one are the same."""
    text, label = next((row[c] for c in TEXT_COLUMNS if row.get(c) is not None), None), row.get("label")
    return {"text": None if text is None else str(text), "label": None if label is None else str(label)}


def _of_csv(content: str) -> Iterable[Row]:
    lines = io.StringIO(content, newline="")  # a caption in quotes may have several lines
    return csv.DictReader(lines, delimiter=_delimiter(content.partition("\n")[0]))


def text_lines(content: str) -> list[str]:
    """The lines of a text; str.splitlines would also end one at characters that a caption may contain."""
    return content.removesuffix("\n").split("\n")


def table_text(table: Path) -> str:
    """The text of a file in UTF-8. Raises DataError for one that cannot be read."""
    refuse_absent(table, DataError)
    try:
        return table.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{table}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from error


def json_lines(content: str, table: Path) -> Iterable[Row]:
    """The objects of a .jsonl. Raises DataError, with the line, for anything else."""
    for number, line in enumerate(text_lines(content), 1):
        if line.strip():
            yield json_object(line, f"{table}: row {number}", DataError)


def _of_lines(lines: list[str], table: Path, pictures: Sequence[Path]) -> dict[Path, Row]:
    if all("\t" in line for line in lines):
        pairs = (line.split("\t", 1) for line in lines)
        return {table.parent / name: {"text": text.strip()} for name, text in pairs}
    if len(lines) != len(pictures):
        allowed = "one line for each picture in the order of the files, or lines of file, tab, caption"
        raise DataError(f"{table}: found {len(lines)} lines for {len(pictures)} pictures, allowed: {allowed}")
    return {path: {"text": line.strip()} for path, line in zip(pictures, lines, strict=True)}


def _beside(pictures: Sequence[Path]) -> Annotations:
    """From files beside the pictures, where there are any."""
    rows = [_row_beside(path) for path in pictures]
    return _columns(rows, str(pictures[0].parent), pictures) if any(rows) else Annotations()


def _row_beside(picture: Path) -> Row:
    both = picture.with_suffix(BOTH_END)
    row = dict(_plain(read_json_object(both, DataError))) if both.is_file() else {}
    for key, ends in (("text", TEXT_ENDS), ("label", (LABEL_END,))):
        for path in map(picture.with_suffix, ends):
            if path.is_file():
                row[key] = table_text(path).strip()
    return {key: value for key, value in row.items() if value is not None}
