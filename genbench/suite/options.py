"""Options of a model, dataset or extractor, checked against the type that declares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from genbench.suite.refusals import refusal, validation_problems
from genbench.suite.yaml_source import Loc, Problem, SuiteSource

STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def checked_options(
    kind: type, options: Mapping[str, Any], *, source: SuiteSource, loc: Loc, name: str | None = None
) -> dict[str, Any]:
    """Options as the values of a frozen dataclass's fields, lists as tuples.

    kind: the dataclass, with bounds in its annotations. An integer may stand for a float, nothing else is converted.
    name: for an entry `{name: ..., option: ...}`, which must have the required options; the others get their defaults.
    Raises SuiteError at loc: a line with the key, what was found and what is allowed.
    """
    try:
        values = _validated(kind, options, name)
    except ValidationError as error:
        raise refusal(error, _model(kind, name is not None), source, loc) from None
    return {key: getattr(values, key) for key in (options if name is None else type(values).model_fields)}


def entry_problems(
    kind: type, options: Mapping[str, Any], *, source: SuiteSource, loc: Loc, name: str | None = None
) -> list[Problem]:
    """The problems that checked_options would raise."""
    try:
        _validated(kind, options, name)
    except ValidationError as error:
        return validation_problems(error, _model(kind, name is not None), source, loc)
    return []


def given_options(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The options that an entry sets, without name and label; null and `download: false` are defaults and left out."""
    options = {key: value for key, value in entry.items() if key not in ("name", "label") and value is not None}
    return {key: value for key, value in options.items() if (key, value) != ("download", False)}


def required(kind: type) -> list[str]:
    """The names of the options that have no default."""
    return [f.name for f in _options(kind) if _default(f) is ...]


def _validated(kind: type, options: Mapping[str, Any], name: str | None) -> BaseModel:
    values = {key: _tuples(value) for key, value in options.items()} | ({} if name is None else {"name": name})
    return _model(kind, name is not None).model_validate(values)


@cache
def _model(kind: type, entry: bool) -> type[BaseModel]:
    """A strict pydantic model of the options: with a name and defaults for an entry, else of changes to options."""
    hints = get_type_hints(kind, include_extras=True)
    options: dict[str, Any] = {f.name: (hints[f.name], _default(f) if entry else None) for f in _options(kind)}
    if entry:
        options = {"name": (Annotated[str, "a name"], ...), **options}
    config = ConfigDict(**STRICT, arbitrary_types_allowed=True, protected_namespaces=())
    model: type[BaseModel] = create_model(kind.__name__, __config__=config, **options)
    return model


def _options(kind: type) -> list[Field[Any]]:
    return [f for f in fields(kind) if f.init]


def _default(option: Field[Any]) -> Any:
    """An option's default; ... for an option that is required."""
    if option.default is not MISSING:
        return option.default
    return ... if option.default_factory is MISSING else option.default_factory()


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
