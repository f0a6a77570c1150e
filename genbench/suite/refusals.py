"""From a value of a suite that fails its validation to sentences: the key, what was found, and what is allowed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from genbench.errors import SuiteError
from genbench.options import UNIONS, bare_hint, choice, nearest, shown, words
from genbench.suite.yaml_source import Loc, Problem, SuiteSource

KEY = "[key]"  # in pydantic's places: the key is wrong, and not its value


def refusal(error: ValidationError, model: type[BaseModel], source: SuiteSource, above: Loc = ()) -> SuiteError:
    """The error of a failed validation of the value at `above` against `model`, as a SuiteError."""
    return source.error(validation_problems(error, model, source, above))


def validation_problems(
    error: ValidationError, model: type[BaseModel], source: SuiteSource, above: Loc = ()
) -> list[Problem]:
    """What is wrong with the value at `above`, which failed validation against `model`, in the order of the file.

    Missing keys come last: a misspelt key may explain them.
    """
    mistakes = sorted(
        ((tuple(e["loc"]), e["type"], e.get("input")) for e in error.errors(include_url=False)),
        key=lambda e: (e[1] == "missing", source.line((*above, *e[0]))),
    )
    problems = (_problem(loc, kind, value, model) for loc, kind, value in mistakes)
    return list(dict.fromkeys(((*above, *loc), message) for loc, message in problems))


def _problem(loc: Loc, kind: str, value: Any, model: type[BaseModel]) -> Problem:
    if kind == "extra_forbidden":
        key, own = str(loc[-1]), list(hint_at(model, loc[:-1])[1].model_fields)
        elsewhere = _elsewhere(key, model)
        return loc, "unknown key" + (f"{elsewhere} allowed: {', '.join(own)}" if elsewhere else choice(key, own))
    if kind == "invalid_key" or (kind == "string_type" and loc[-1] == KEY):
        return loc[: -1 if kind == "invalid_key" else -2], f"found {shown(value)} as a key, allowed: text"
    at, hint, extra = hint_at(model, loc)
    if loc[-1:] == (KEY,):
        return loc[:-1], f"unknown key, allowed: {words(hint, extra)}"
    loc, allowed = at, words(hint, extra)
    if kind == "missing":
        return loc, f"missing key, allowed: {allowed}"
    near = nearest(value, map(str, get_args(hint))) if kind == "literal_error" and isinstance(value, str) else ""
    near = near or _intended(value, hint, str(*loc[-1:]), model)
    return loc, f"found {shown(value)}{near or ','} allowed: {allowed}"


def _elsewhere(key: str, model: type[BaseModel]) -> str:
    """`; it is a key of models[];` for a key that belongs to another mapping of the suite, or nothing."""
    places = [place or "the suite" for place, mapping in _mappings(model) if key in mapping.model_fields]
    return f"; it is a key of {' or '.join(places)};" if places else ""


def _mappings(model: type[BaseModel], place: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """A mapping and those inside it, each with its place, such as models[].train."""
    yield place, model
    for name, info in model.model_fields.items():
        hint, _ = bare_hint(info.annotation)
        item = bare_hint(get_args(hint)[0])[0] if get_origin(hint) is list else hint
        if isinstance(item, type) and issubclass(item, BaseModel):
            yield from _mappings(item, f"{place}.{name}".lstrip(".") + ("[]" if item is not hint else ""))


def _intended(value: Any, hint: Any, key: str, model: type[BaseModel]) -> str:
    """`; did you mean ...?` for a name, a list or a mapping where another of the three is allowed, or nothing."""
    if isinstance(value, str) and "name" in getattr(hint, "model_fields", ()):
        return f"; did you mean {{name: {value}}}?"
    if isinstance(value, list) and f"{key}s" in model.model_fields:
        return f"; did you mean `{key}s:`?"
    return f"; did you mean `{key[:-1]}:`?" if isinstance(value, dict) and key[:-1] in model.model_fields else ""


def hint_at(model: Any, loc: Loc) -> tuple[Loc, Any, list[Any]]:
    """The loc up to a key or the first union (pydantic goes on into its members), its type, and what Annotated has."""
    hint, extra = bare_hint(model)
    for depth, part in enumerate(loc):
        if get_origin(hint) in UNIONS or part == KEY:
            return loc[:depth], hint, extra
        if isinstance(hint, type) and issubclass(hint, BaseModel):
            info = hint.model_fields[str(part)]
            hint, more = bare_hint(info.annotation)
            extra = [*info.metadata, *more]
        else:
            members = [a for a in get_args(hint) if a is not Ellipsis] or [Any]
            hint, extra = bare_hint(members[0 if loc[depth + 1 :] == (KEY,) else -1])
    return loc, hint, extra
