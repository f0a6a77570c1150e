"""The record: one measured number with everything needed to judge it; one JSON line for each.

Its protocol is a tree (genbench.protocol). Numbers whose protocols agree except in the branch `model` are comparable.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import IO, Any, get_args, get_type_hints

from genbench.errors import StoreError
from genbench.files import write_text
from genbench.options import shown, words
from genbench.protocol import Protocol
from genbench.text import printable

RECORD_SCHEMA = 2
LONGEST_LINE, MOST_RECORDS, LARGEST_INTEGER = 2**20, 250_000, 2**63  # of a file from elsewhere
UNREADABLE_RECORD = (TypeError, ValueError, RecursionError, OverflowError)
OK, NOT_APPLICABLE, FAILED = "ok", "n/a", "failed"
# Kinds of likelihood, from the strongest statement about the discrete pixels to the weakest.
MASS, DENSITY, BOUND, ESTIMATE = "mass", "density", "bound", "estimate"
LIKELIHOOD_KINDS = (MASS, DENSITY, BOUND, ESTIMATE)


@dataclass(frozen=True)
class Record:
    """One metric of one cell.

    role: "model", or "scale" for rows that show the range of a metric (held-out real images, noise, a Gaussian).
    value, lo, hi: null unless status is ok; lo..hi is what `interval` says. better: "lower" or "higher".
    kind: of a likelihood: "mass" (exact, of discrete pixels), "density" (exact, of dequantised pixels, bounds the
    mass), "bound" (variational) or "estimate"; "" for other metrics. key: the hash of all that the value depends on.
    protocol: how it was measured, see genbench.protocol; protocol_hash: of what comparable numbers share. warnings:
    about the samples, the training, and scale rows that it does not beat. busy: what disturbed the timing of the value,
    "" where nothing did; such a value is shown, and neither ranked nor compared. seconds: duration of measuring.
    device: the hardware that measured it. given: what the model receives for each image that it draws: "class",
    "caption", "image", or "" for nothing. run, time, genbench, revision, dirty: the run that measured it, see
    genbench.provenance. code: the hash of the model's code.
    """

    suite: str
    suite_version: int
    cell: str
    model: str
    dataset: str
    seed: int
    metric: str
    metric_version: int
    status: str = OK
    value: float | None = None
    reason: str = ""
    unit: str = ""
    better: str = "lower"
    kind: str = ""
    lo: float | None = None
    hi: float | None = None
    interval: str = ""
    n_fake: int | None = None
    n_real: int | None = None
    protocol: Protocol = field(default_factory=dict)
    protocol_hash: str = ""
    warnings: tuple[str, ...] = ()
    busy: str = ""
    seconds: float = 0.0
    device: str = ""
    role: str = "model"
    family: str = ""
    given: str = ""
    key: str = ""
    code: str = ""
    run: str = ""
    time: str = ""
    genbench: str = ""
    revision: str = ""
    dirty: bool | None = None
    schema: int = RECORD_SCHEMA

    def __post_init__(self) -> None:
        if self.kind not in ("", *LIKELIHOOD_KINDS):
            raise ValueError(
                f"{self.cell} {self.metric}: kind: found {self.kind!r}, allowed: {', '.join(LIKELIHOOD_KINDS)} or none"
            )
        if self.status == OK and (self.value is None or not math.isfinite(self.value)):
            raise ValueError(f"{self.cell} {self.metric}: a record that is ok needs a finite value, found {self.value}")
        if self.status != OK and (self.value is not None or not self.reason):
            raise ValueError(f"{self.cell} {self.metric}: a record that is {self.status} needs a reason and no value")


def column_name(metric: str, extractor: str) -> str:
    """What records and tables call a metric's values; extractor: where a suite has several, else ""."""
    return f"{metric}@{extractor}" if extractor else metric


def metric_name(column: str) -> str:
    """The name of the metric of a column."""
    return column.partition("@")[0]


def slug(label: str) -> str:
    """A label as part of a file name or anchor: letters, digits, dot, dash and underscore stay, a space becomes a dash.

    Where anything else is replaced, eight digits of the label's hash follow, so that no two such labels share a name.
    """
    shown = re.sub(r"[^A-Za-z0-9._-]+", "-", label).strip("-.")
    if shown == label.replace(" ", "-"):
        return shown
    return f"{shown or 'unnamed'}-{hashlib.sha256(label.encode(errors='replace')).hexdigest()[:8]}"


def row_slug(label: str, dataset: str, several: bool) -> str:
    """A row in the names of its pictures and curves: with the dataset where a result has several."""
    return slug(f"{label} on {dataset}" if several else label)


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Replaces a JSONL file by these records, atomically; a file with exactly these records is not touched."""
    text = "".join(record_line(r) for r in records)
    if path.is_file() and path.read_bytes() == text.encode():
        return
    write_text(path, text)


def read_records(path: Path) -> list[Record]:
    """The records of a JSONL file, in order and each measurement once; an incomplete last line is left out.

    Raises StoreError for a missing file, a line that is not a record, another schema number, or two different records
    of one cell and metric.
    """
    if not path.is_file():
        raise StoreError(f"{path}: not found; `genbench run SUITE` writes it")
    records, known = list[Record](), _Known()
    try:
        with path.open("rb") as file:
            for number, line, last in _lines(file, path):
                try:
                    records.append(_record(line, f"{path}:{number}", known))
                except UNREADABLE_RECORD as error:
                    if not last:
                        raise StoreError(f"{path}:{number}: not a record: {error}") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    return unique_records(records, f"{path}:")


def _lines(file: IO[bytes], path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Number (from 1) and content of each line, and whether it is the last. Raises StoreError beyond the bounds."""
    line, number = file.readline(LONGEST_LINE + 1), 1
    while line:
        if len(line) > LONGEST_LINE:
            raise StoreError(f"{path}:{number}: found a longer line, allowed: at most {LONGEST_LINE:,} bytes")
        if number > MOST_RECORDS:
            raise StoreError(f"{path}: found more lines, allowed: at most {MOST_RECORDS:,} records")
        following = file.readline(LONGEST_LINE + 1)
        yield number, line, not following
        line, number = following, number + 1


@dataclass
class _Known:
    """What records of one file share, kept once: texts, and branches of protocols by what they hold."""

    texts: dict[str, str] = field(default_factory=dict)
    branches: dict[str, Any] = field(default_factory=dict)

    def text(self, text: str) -> str:
        """The text without what steers a terminal."""
        return self.texts.get(text) or self.texts.setdefault(text, printable(text))

    def protocol(self, protocol: Any) -> Any:
        """The protocol, made of branches that are there already."""
        if not isinstance(protocol, dict):
            return protocol
        return {self.text(name): self.branches.setdefault(repr(part), part) for name, part in protocol.items()}


def _record(line: bytes, place: str, known: _Known) -> Record:
    """The record of a line. Raises UNREADABLE_RECORD for another content, StoreError for another schema."""
    data = DECODER.decode(line.decode("utf-8"))
    if not isinstance(data, dict):
        raise ValueError(f"found {type(data).__name__}, allowed: a JSON object")
    if data.get("schema") != RECORD_SCHEMA:
        raise StoreError(f"{place}: {_other_schema(data.get('schema'), Path(place).parent)}")
    values = {k: known.text(v) if isinstance(v, str) else v for k, v in data.items() if k in KNOWN}
    values["protocol"] = known.protocol(values.get("protocol", {}))
    record = Record(**values | {"warnings": tuple(values.get("warnings", ()))})
    _check_types(record)
    return record


def unique_records(records: Iterable[Record], place: str = "record ") -> list[Record]:
    """Each measurement once: records of one cell and metric that agree except in provenance count as the first of them.

    place: what stands before a record's number (from 1) in messages. Raises StoreError for two records of one cell and
    metric that differ, because nothing tells which of the two runs the other values of the row belong to.
    """
    first: dict[tuple[str, str, int, str], tuple[int, Record]] = {}
    for number, record in enumerate(records, start=1):
        key = (record.dataset, record.model, record.seed, record.metric)
        earlier_number, earlier = first.setdefault(key, (number, record))
        if earlier is not record and not same_measurement(earlier, record):
            raise StoreError(
                f"{place}{number}: {record.cell} {record.metric}: found a record of {_run(record)} that differs from "
                f"that of {_run(earlier)} at {place}{earlier_number}; allowed: the records of one run for each cell"
            )
    return [record for _, record in first.values()]


def same_measurement(one: Record, other: Record) -> bool:
    """Whether two records agree in all but the run that measured them."""
    return _measurement(one) == _measurement(other)


def _measurement(record: Record) -> Record:
    """The record without what differs when the same value is measured again."""
    return replace(record, run="", time="", genbench="", revision="", dirty=None, seconds=0.0)


def _run(record: Record) -> str:
    return f"run {record.run or 'without an id'} ({record.time or 'time unknown'})"


def _check_types(record: Record) -> None:
    """Raises ValueError for a field of another type than a Record's, which nobody who reads records expects."""
    values = vars(record)
    kinds = tuple(map(type, values.values()))
    if kinds not in NUMBERS:
        for name, value in values.items():
            if not isinstance(value, TYPES[name]) or (isinstance(value, bool) and bool not in get_args(TYPES[name])):
                raise ValueError(f"{name}: found {shown(value)}, allowed: {words(TYPES[name])}")
        NUMBERS[kinds] = tuple(n for n, kind in zip(values, kinds, strict=True) if kind in (int, float))
    for name in NUMBERS[kinds]:
        if not math.isfinite(values[name]):
            raise ValueError(f"{name}: found {values[name]}, allowed: a finite number")
        if isinstance(values[name], int) and abs(values[name]) >= LARGEST_INTEGER:
            raise ValueError(f"{name}: found {values[name]:.3g}, allowed: below 2**63")
    if record.better not in ("lower", "higher") or record.role not in ("model", "scale"):
        raise ValueError(
            f"better, role: found {record.better!r}, {record.role!r}, allowed: lower or higher, model or scale"
        )
    if record.status not in (OK, NOT_APPLICABLE, FAILED):
        raise ValueError(f"status: found {record.status!r}, allowed: {OK}, {NOT_APPLICABLE} or {FAILED}")
    if not all(isinstance(branch, dict) for branch in record.protocol.values()):
        raise ValueError("protocol: found a branch that is no mapping, allowed: mappings")
    if not all(isinstance(text, str) for text in record.warnings):
        raise ValueError("warnings: found one that is not text, allowed: texts")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"found {name}, allowed: finite numbers")


def _types() -> dict[str, Any]:
    """What isinstance accepts for each field of a record; whole numbers may stand for others."""
    hints = get_type_hints(Record)
    hints["protocol"], hints["warnings"] = dict, tuple
    return {name: hint | int if float in (hint, *get_args(hint)) else hint for name, hint in hints.items()}


TYPES = _types()
NUMBERS: dict[tuple[type, ...], tuple[str, ...]] = {}  # which fields are numbers, by the types of all; seen before
KNOWN = {f.name for f in fields(Record)}
DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _other_schema(schema: Any, folder: Path) -> str:
    if schema == RECORD_SCHEMA - 1:
        return f"schema {schema}, written by an older genbench; `genbench convert {folder}` rewrites it"
    return f"schema: found {schema!r}, allowed: {RECORD_SCHEMA}"


def record_line(record: Record) -> str:
    """A record as a line of a JSONL file."""
    return json.dumps(vars(record), sort_keys=True, allow_nan=False) + "\n"
