"""Options of a frozen dataclass checked against its annotations, and types described in words.

Bounds stand in the annotations, `levels: Annotated[int, Ge(1)]`, and closed choices too, `coupling: Literal["affine",
"additive"]`. A suite and a model built from Python then refuse a value with the same sentence:

    @dataclass(frozen=True)
    class FlowConfig:
        levels: Annotated[int, Ge(1)] = 3

    check_options(FlowConfig(levels=0))  # ValueError: levels: found 0 (int), allowed: an integer, at least 1
"""

from __future__ import annotations

import difflib
import math
import reprlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from weakref import WeakKeyDictionary

from annotated_types import Ge, Gt, Le, Lt, MinLen

Count = Annotated[int, Ge(1)]
Weight = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
UNIONS = (Union, UnionType)
NOUNS = {int: ("an integer", "integers"), float: ("a number", "numbers"), str: ("text", "texts"),
         bool: ("true or false", "true or false"), dict: ("a mapping", "mappings")}  # fmt: skip
BOUNDS = ((Ge, "ge", "at least"), (Gt, "gt", "above"), (Le, "le", "at most"), (Lt, "lt", "below"))
_REPR = reprlib.Repr()
_REPR.maxstring = 60
_HINTS: WeakKeyDictionary[type, dict[str, Any]] = WeakKeyDictionary()  # a class of a file that is imported again goes


@dataclass(frozen=True)
class NoOptions:
    """The options of a model, dataset or extractor that has none."""


def check_options(options: Any) -> None:
    """Raises ValueError for the first field of a dataclass whose value does not fit its annotation."""
    check_values(type(options), {field.name: getattr(options, field.name) for field in fields(options) if field.init})


def check_values(kind: type, values: dict[str, Any]) -> None:
    """Raises ValueError for the first value that is not of a field of the dataclass or does not fit its annotation."""
    for path, message in option_problems(kind, values):
        raise ValueError(f"{path}: {message}")


def override(options: Any, changes: dict[str, Any]) -> Any:
    """A frozen dataclass with some fields changed; lists become tuples, which YAML does not have.

    Raises ValueError for an unknown field and for a value that does not fit its annotation.
    """
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    check_values(type(options), values)
    return replace(options, **values)


def option_problems(kind: type, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, message) of each value that does not fit a dataclass; values of unknown types are not checked."""
    hints = _hints(kind)
    allowed = [field.name for field in fields(kind) if field.init]
    for name, value in values.items():
        if name not in allowed:
            yield name, f"unknown key{choice(name, allowed)}"
        else:
            yield from value_problems(value, hints[name], name)


def _hints(kind: type) -> dict[str, Any]:
    """The types of a dataclass's fields; Python evaluates each annotation's text again at every request."""
    if kind not in _HINTS:
        _HINTS[kind] = get_type_hints(kind, include_extras=True)
    return _HINTS[kind]


def value_problems(value: Any, hint: Any, path: str) -> Iterator[tuple[str, str]]:
    """(path, message) of what in the value does not fit the type: `widths[1]`, `found 'a' (str), allowed: ...`."""
    bare, extra = bare_hint(hint)
    items = get_args(bare)
    if value is None and allows_none(hint):
        return
    if (
        get_origin(bare) is tuple
        and isinstance(value, (tuple, list))
        and (Ellipsis in items or len(items) == len(value))
    ):
        for i, item in enumerate(value):
            yield from value_problems(item, items[0] if Ellipsis in items else items[i], f"{path}[{i}]")
    elif not fits(value, bare) or not within(value, extra):
        close = nearest(value, map(str, items)) if get_origin(bare) is Literal and isinstance(value, str) else ""
        yield path, f"found {shown(value)}{close or ','} allowed: {words(bare, extra)}"


def fits(value: Any, bare: Any) -> bool:
    """Whether a value has a type; an integer may stand for a float, a bool for nothing else. Unknown types: True."""
    if get_origin(bare) is Literal:
        return value in get_args(bare)
    if get_origin(bare) in UNIONS:
        return any(not list(value_problems(value, member, "")) for member in get_args(bare))
    if bare is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if bare is int:
        return isinstance(value, int) and not isinstance(value, bool)
    kind = get_origin(bare) or bare
    return kind not in (bool, str, tuple) or isinstance(value, kind)


def within(value: Any, extra: Iterable[Any]) -> bool:
    """Whether a number is within the bounds of an annotation."""
    holds = {Ge: lambda b: value >= b, Gt: lambda b: value > b, Le: lambda b: value <= b, Lt: lambda b: value < b}
    return all(holds[kind](getattr(m, name)) for m in extra for kind, name, _ in BOUNDS if isinstance(m, kind))


def allows_none(hint: Any) -> bool:
    """Whether a type is a union with None."""
    inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    return inner is NoneType or (get_origin(inner) in UNIONS and NoneType in get_args(inner))


def nearest(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest allowed word, or nothing."""
    close = difflib.get_close_matches(word, list(allowed), n=3, cutoff=0.5)
    longer = [other for other in close if other.startswith(word)]  # "seeds" before "speed" for "seed"
    return f"; did you mean '{[*longer, *close][0]}'?" if close else ""


def choice(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean 'levels'? allowed: name, levels, steps`, the question only where a name is near."""
    names = list(allowed)
    return f"{nearest(word, names) or ';'} allowed: {', '.join(names) or 'none'}"


def shown(value: Any) -> str:
    """A value and its type in at most a line: `'a' (str)`; `nothing` for null."""
    return "nothing" if value is None else f"{_REPR.repr(value)} ({type(value).__name__})"


def words(hint: Any, extra: Iterable[Any] = (), number: int = 0) -> str:
    """A type in words, `a list of integers`; a text in Annotated[..., "text"] replaces them. number: 1 for plural."""
    hint, more = bare_hint(hint)
    annotations = [*extra, *more]
    text = next((m for m in annotations if isinstance(m, str)), None)
    if text is not None:
        return text
    empty = any(isinstance(m, MinLen) for m in annotations)
    noun = _noun(hint, number).replace("a list", "a non-empty list" if empty else "a list", 1)
    return noun + "".join(
        f", {text} {getattr(m, name)}" for m in annotations for kind, name, text in BOUNDS if isinstance(m, kind)
    )


def _noun(hint: Any, number: int) -> str:
    origin, args = get_origin(hint), get_args(hint)
    if origin is Literal:
        return ", ".join(map(str, args))
    if origin in (list, tuple):
        length = f"{len(args)} " if origin is tuple and Ellipsis not in args else ""
        return f"{('a list', 'lists')[number]} of {length}{words(args[0], number=1)}"
    if origin in UNIONS:
        return " or ".join(words(a, number=number) for a in args)
    if hasattr(hint, "model_fields"):  # a pydantic model: a mapping of a suite
        options = ", and options of the named object" if hint.model_config.get("extra") == "allow" else ""
        return f"{NOUNS[dict][number]} with keys {', '.join(hint.model_fields)}{options}"
    name = getattr(hint, "__name__", str(hint))
    return NOUNS.get(origin or hint, (name, name))[number]


def bare_hint(hint: Any) -> tuple[Any, list[Any]]:
    """A type without Annotated and None, and the annotations."""
    if get_origin(hint) is Annotated:
        inner, *extra = get_args(hint)
        bare, more = bare_hint(inner)
        return bare, [m for e in extra for m in getattr(e, "metadata", [e])] + more  # pydantic's Field has several
    members = [a for a in get_args(hint) if a is not NoneType] if get_origin(hint) in UNIONS else []
    return bare_hint(members[0]) if len(members) == 1 else (hint, [])
