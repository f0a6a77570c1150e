"""Checks of what a model's class declares, while planning: options, stages, recipe and family.

A violation raises CellFailure with the class, what was found and what is required. What an object returns later, in a
worker, is checked in genbench.returned.
"""

from __future__ import annotations

import math
from dataclasses import is_dataclass
from typing import Any

from genbench.contract import DataSpec, Draws, Model, Recipe, Stage
from genbench.errors import CellFailure, ModelError
from genbench.options import check_options
from genbench.returned import described

LONGEST_FAMILY = 60  # characters


def check_declared(kind: type[Draws], data: DataSpec) -> None:
    """Raises CellFailure for the first thing that a class declares otherwise than the contract says."""
    family: Any = kind.family
    if not (isinstance(family, str) and family.isprintable() and len(family) <= LONGEST_FAMILY):
        raise _wrong(kind, "family", family, f"printable text of at most {LONGEST_FAMILY} characters")
    for name in ("Config", "Sampler"):
        options = getattr(kind, name)
        if not (isinstance(options, type) and is_dataclass(options)):
            raise _wrong(kind, name, options, "a frozen dataclass")
    _check_sampler(kind)
    preset: Any = kind.preset(data)
    if not isinstance(preset, kind.Config):
        raise _wrong(kind, "preset()", preset, f"a {kind.Config.__name__}")
    if issubclass(kind, Model):
        _check_stages(kind)
        _check_recipe(kind, "recipe()", kind.recipe(data))
        _check_small(kind, data)


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
