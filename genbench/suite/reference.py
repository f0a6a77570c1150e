"""docs/suite_reference.md: every key of a suite, from the schema; `genbench schema --reference` prints it."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic_core import PydanticUndefined

from genbench.builtin import DATASET_TABLE, FolderOptions
from genbench.suite import entries
from genbench.suite.schema import Suite

MAPPINGS: dict[str, type[BaseModel]] = {
    "suite": Suite, "models[]": entries.ModelEntry, "models[].train": entries.TrainEntry,
    "models[].claims[]": entries.ClaimEntry, "budget": entries.Budget, "dataset": entries.DatasetEntry,
    "extraction": entries.ExtractionEntry, "prompts": entries.PromptsEntry, "speed": entries.SpeedEntry,
    "trial": entries.TrialEntry,
}  # fmt: skip
KEYS = re.compile(r"(?:^|(?<=[.\n] ))((?:[a-z_]+, )*[a-z_]+): ", re.MULTILINE)
HEAD = """# Suite reference

Made by `genbench schema --reference`; a test requires that it is current. [suites.md](suites.md) explains the suites
that come with genbench, [data.md](data.md) the datasets. `genbench show MODEL` prints the `config`, the `sampler` and
the recipe of a model. Unknown keys are errors, and a message names file, line and key.
"""


def suite_reference() -> str:
    """The page as Markdown."""
    parts = [HEAD, *(_mapping(place, kind) for place, kind in MAPPINGS.items())]
    return "\n".join([*parts, "## Options of the datasets\n", *map(_dataset, DATASET_TABLE)])


def _mapping(place: str, kind: type[BaseModel]) -> str:
    about, meanings = explained(inspect.getdoc(kind) or "")
    title = "A suite" if kind is Suite else f"`{place}`"
    schema = kind.model_json_schema()["properties"]
    rows = [
        _row(name, _value(field, schema.get(name, {})), _default(field), meanings.get(name, ""))
        for name, field in kind.model_fields.items()
    ]
    return "\n".join(
        [f"## {title}\n", about + "\n", "| key | value | default | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _value(field: Any, schema: dict[str, Any]) -> str:
    """A field's type and bounds in words."""
    of_number = next((part for part in schema.get("anyOf", ()) if part.get("type") in ("integer", "number")), schema)
    return _shown(field.annotation, field.metadata) + "".join(_bounds(of_number))


def _dataset(name: str) -> str:
    entry = DATASET_TABLE[name]
    shared, own = (explained(inspect.getdoc(kind) or "")[1] for kind in (FolderOptions, entry.options))
    meanings = shared | own
    schema = TypeAdapter(entry.options).json_schema().get("properties", {})
    defaults = {f.name: "required" if f.default is MISSING else _literal(f.default) for f in fields(entry.options)}
    rows = [_row(name, _of_json(schema[name]), default, meanings.get(name, "")) for name, default in defaults.items()]
    table = ["| key | value | default | meaning |", "|---|---|---|---|", *rows] if rows else ["No options."]
    return "\n".join([f"### `{name}`\n", f"{entry.about[0].upper()}{entry.about[1:]}.\n", *table, ""])


def explained(text: str) -> tuple[str, dict[str, str]]:
    """A docstring's sentences before the first `key: meaning.`, and the meanings by key."""
    text = " ".join(text.split())
    starts = [m for m in KEYS.finditer(text) if not m[1].startswith(("raises", "for example"))]
    about = text[: starts[0].start()] if starts else text
    ends = [m.start() for m in starts[1:]] + [len(text)] * bool(starts)
    meanings = {m[1]: text[m.end() : end].strip() for m, end in zip(starts, ends, strict=True)}
    return about.strip(), {key: meaning for keys, meaning in meanings.items() for key in keys.split(", ")}


def _row(name: str, value: str, default: str, meaning: str) -> str:
    cells = (f"`{name}`", value, default, meaning.removesuffix("."))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    return "required" if value is PydanticUndefined else _literal(value)


def _literal(value: Any) -> str:
    if isinstance(value, BaseModel):
        return ""
    return "" if value in (None, "", {}, [], ()) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _shown(kind: Any, metadata: Any = ()) -> str:
    """A type in words: the words that its annotation has for messages, else from its parts."""
    words = [part for part in metadata if isinstance(part, str)]
    if words:
        return words[0]
    parts = get_args(kind)
    if get_origin(kind) in (types.UnionType, Union):
        return " or ".join(dict.fromkeys(_shown(part) for part in parts if part is not type(None)))
    if hasattr(kind, "__metadata__"):
        return _shown(kind.__origin__, kind.__metadata__)
    if get_origin(kind) is list:
        return "a list of " + _shown(parts[0]).replace("an integer", "integers").removeprefix("the ").removeprefix("a ")
    if get_origin(kind) is dict:
        return "a mapping"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        place = next((place for place, known in MAPPINGS.items() if known is kind), "a mapping")
        return f"`{place}`"
    names = {int: "an integer", float: "a number", str: "text", bool: "true or false"}
    return names.get(kind) or ", ".join(f"`{part}`" for part in parts if part != "") or "any value"


def _of_json(schema: dict[str, Any]) -> str:
    """A value in words from its JSON Schema."""
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_of_json(part) for part in schema["anyOf"] if part.get("type") != "null"))
    bounds = "".join(_bounds(schema))
    names = {"integer": "an integer", "number": "a number", "string": "text", "boolean": "true or false"}
    return names.get(schema.get("type", ""), "a list") + bounds


def _bounds(schema: dict[str, Any]) -> Iterator[str]:
    for key, words in (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    ):
        if key in schema:
            yield f", {words} {schema[key]}"
