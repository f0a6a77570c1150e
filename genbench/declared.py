"""Checks of what a model's class declares, while planning: options, stages, recipe and family.

A violation raises CellFailure with the class, what was found and what is required. What an object returns later, in a
worker, is checked in genbench.returned.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import is_dataclass
from typing import Any

from genbench.contract import (
    DataSpec,
    Decodes,
    DequantisedDensity,
    Draws,
    Encodes,
    ExactLikelihood,
    ImportanceBound,
    LikelihoodBound,
    LikelihoodEstimate,
    Model,
    Recipe,
    Stage,
    Translates,
)
from genbench.errors import CellFailure, ModelError
from genbench.options import check_options
from genbench.returned import described

LONGEST_FAMILY = 60  # characters
# How genbench calls the methods of each base: names of what it passes by position, and by name.
CALLS: dict[type, dict[str, tuple[str, ...]]] = {
    Draws: {
        "preset": ("data",), "files": ("config",), "sample": ("n", "gen", "condition"),
        "adopted": ("state", "settings="), "for_diffusers": (), "for_onnx": ("n", "gen"),
    },
    Model: {
        "recipe": ("data",), "small": ("data",), "players": (), "prepare": ("batch", "gen"), "settle": ("gen",),
        "loss": ("batch", "player", "step", "gen"),
    },
    ExactLikelihood: {"log_prob": ("pixels", "gen")},
    DequantisedDensity: {"log_prob": ("pixels", "gen")},
    LikelihoodBound: {"log_prob_bound": ("pixels", "gen")},
    ImportanceBound: {"log_prob_importance": ("pixels", "k", "gen")},
    LikelihoodEstimate: {"log_prob_estimate": ("pixels", "gen", "steps=")},
    Encodes: {"encode": ("x",)},
    Decodes: {"noise": ("n", "gen"), "decode": ("z",)},
    Translates: {"translate": ("x", "direction")},
}  # fmt: skip

OF_THE_CLASS = ("__init__", "preset", "files", "recipe", "small")  # called without an object


def check_declared(kind: type[Draws], data: DataSpec) -> None:
    """Raises CellFailure for the first thing that a class declares otherwise than the contract says."""
    family: Any = kind.family
    if not (isinstance(family, str) and family.isprintable() and len(family) <= LONGEST_FAMILY):
        raise _wrong(kind, "family", family, f"printable text of at most {LONGEST_FAMILY} characters")
    for name in ("Config", "Sampler"):
        options = getattr(kind, name)
        if not (isinstance(options, type) and is_dataclass(options)):
            raise _wrong(kind, name, options, "a frozen dataclass")
    _check_signatures(kind)
    _check_sampler(kind)
    preset: Any = kind.preset(data)
    if not isinstance(preset, kind.Config):
        raise _wrong(kind, "preset()", preset, f"a {kind.Config.__name__}")
    if issubclass(kind, Model):
        _check_stages(kind)
        _check_recipe(kind, "recipe()", kind.recipe(data))
        _check_small(kind, data)


def _check_signatures(kind: type[Draws]) -> None:
    """Raises CellFailure for a method that cannot be called with the arguments that it receives."""
    _check_signature(kind, "__init__", kind, ("data", "config", "sampler"))
    for base, calls in CALLS.items():
        for name, arguments in calls.items() if issubclass(kind, base) else ():
            _check_signature(kind, name, inspect.getattr_static(kind, name), arguments)


def _check_signature(kind: type[Draws], name: str, method: Any, arguments: tuple[str, ...]) -> None:
    called = f"{name}({', '.join(argument + argument.rstrip('=') * argument.endswith('=') for argument in arguments)})"
    bound = method.__get__(None, kind) if isinstance(method, classmethod | staticmethod) else method
    if not callable(bound):
        raise _wrong(kind, name, method, f"a method that can be called as {called}")
    try:
        signature = inspect.signature(bound)
    except (TypeError, ValueError):  # of a function of C
        return
    own = () if bound is not method or name in OF_THE_CLASS else ("self",)
    passed = [argument for argument in (*own, *arguments) if not argument.endswith("=")]
    try:
        signature.bind(*passed, **{argument[:-1]: None for argument in arguments if argument.endswith("=")})
    except TypeError:
        raise CellFailure(
            f"{kind.__name__}.{name}: found {name}{signature}, required: can be called as {called}"
        ) from None


def _check_sampler(kind: type[Draws]) -> None:
    try:
        kind.Sampler()
    except TypeError as error:
        raise CellFailure(f"{kind.__name__}.Sampler: {error}; required: a default for every field") from None


def _check_small(kind: type[Model], data: DataSpec) -> None:
    try:
        small: Any = kind.small(data)
    except ModelError:  # it refuses this size: the plan says so where the preset is used, or building the model does
        return
    if not (isinstance(small, tuple) and len(small) == 2 and isinstance(small[0], kind.Config)):
        raise _wrong(kind, "small()", small, f"a {kind.Config.__name__} and a Recipe")
    _check_recipe(kind, "small()", small[1])


def _check_recipe(kind: type[Model], method: str, recipe: Any) -> None:
    if not isinstance(recipe, Recipe):
        raise _wrong(kind, method, recipe, "a genbench.contract.Recipe")
    try:
        check_options(recipe)
    except ValueError as error:
        raise CellFailure(f"{kind.__name__}.{method}: {error}") from None


def _check_stages(kind: type[Model]) -> None:
    stages: Any = kind.stages
    if not (isinstance(stages, tuple | list) and stages and all(isinstance(stage, Stage) for stage in stages)):
        raise _wrong(kind, "stages", stages, "a tuple of at least one genbench.contract.Stage")
    for stage in stages:
        if not (isinstance(stage.turns, tuple | list) and stage.turns):
            raise _wrong(kind, "stages: turns", stage.turns, "at least one player")
        if not (isinstance(stage.share, int | float) and 0 < stage.share < math.inf):
            raise _wrong(kind, "stages: share", stage.share, "a number above 0")


def _wrong(kind: type, what: str, value: Any, required: str) -> CellFailure:
    return CellFailure(f"{kind.__name__}.{what}: found {described(value)}, required: {required}")
