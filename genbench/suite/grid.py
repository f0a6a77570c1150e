"""Rows that a suite states in short: a grid of values, and an entry that uses the class of another one."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from genbench.errors import ModelError
from genbench.exported import exported_settings
from genbench.hub import PREFIX as HUB
from genbench.options import nearest
from genbench.registry import MODELS, is_target
from genbench.suite.entries import ModelEntry
from genbench.suite.fields import SuiteFields
from genbench.suite.refusals import refusal

SEED = "seed"
MOST_ROWS = 2_000  # of one grid
NOT_IN_LABELS = re.compile(r"[^A-Za-z0-9._-]+")


def expanded(suite: SuiteFields) -> tuple[list[ModelEntry], list[int]]:
    """The suite's entries with each grid as its rows, and for each row the number of the entry that it comes from.

    Raises SuiteError for a value that its key does not allow.
    """
    rows = [(row, number) for number, entry in enumerate(suite.models) for row in _rows(entry, suite, number)]
    owners = {row.label: row for row, _ in rows if row.name}
    return [_with_class(row, owners, suite, number) for row, number in rows], [number for _, number in rows]


def _with_class(entry: ModelEntry, owners: dict[str, ModelEntry], suite: SuiteFields, number: int) -> ModelEntry:
    """An entry that only says whose weights it uses, with the class of that entry or of the exported model.

    A name that is no model's, nor nearly one, is then its label.
    """
    named = bool(entry.name) and (is_target(entry.name) or entry.name in MODELS or nearest(entry.name, MODELS) != "")
    if entry.source is not None or named:
        return entry
    owner = owners.get(entry.weights_of or "")
    if owner is not None and owner is not entry:
        return entry.model_copy(update={"name": owner.name, "source": owner.source, "label": entry.label})
    exported = _exported_name(entry, suite, number)
    return entry.model_copy(update={"name": exported, "label": entry.label}) if exported in MODELS else entry


def _exported_name(entry: ModelEntry, suite: SuiteFields, number: int) -> str:
    """The model's name that the exported folder of the entry's weights states; "" for other weights, or none."""
    if entry.weights is None or entry.weights.file.startswith(HUB):
        return ""
    try:
        return str(exported_settings(suite.path(entry.weights.file)).get("name", ""))
    except ModelError as error:
        raise suite.source.error([(("models", number, "weights"), str(error))]) from None


def _rows(entry: ModelEntry, suite: SuiteFields, number: int) -> list[ModelEntry]:
    if not entry.grid:
        return [entry]
    try:
        rows = combinations(entry.label, entry.grid)
    except ValueError as error:
        raise suite.source.error([(("models", number, "grid"), str(error))]) from None
    return [_row(entry, label, values, suite, number) for label, values in rows]


def combinations(label: str, grid: Mapping[str, Sequence[Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The label and the values of each row of a grid; label: of its entry. A row has all seeds of the grid.

    Raises ValueError for more than MOST_ROWS.
    """
    varied = {key: values for key, values in grid.items() if key != SEED}
    count = math.prod(map(len, varied.values()))
    if count > MOST_ROWS:
        raise ValueError(f"found {count:,} combinations, allowed: at most {MOST_ROWS:,}")
    rows = [dict(zip(varied, values, strict=True)) for values in itertools.product(*varied.values())]
    return [("-".join([label, *(_shown(key, value) for key, value in row.items())]), row) for row in rows]


def _shown(key: str, value: Any) -> str:
    return f"{key.partition('.')[2]}{NOT_IN_LABELS.sub('_', str(value))}"


def _row(entry: ModelEntry, label: str, values: dict[str, Any], suite: SuiteFields, number: int) -> ModelEntry:
    fields = entry.model_dump(exclude_unset=True, exclude={"grid"})
    for key, value in values.items():
        part, _, option = key.partition(".")
        fields[part] = {**(fields.get(part) or {}), option: value}
    fields |= {"label": label} | ({"seeds": entry.grid[SEED]} if SEED in entry.grid else {})
    try:
        return ModelEntry.model_validate(fields)
    except ValidationError as error:
        raise refusal(error, ModelEntry, suite.source, ("models", number, "grid")) from None
