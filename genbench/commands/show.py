"""`genbench show`: what a model is and can do, and every option with its default."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from typing import Any, get_type_hints

from genbench import returned
from genbench.contract import DataSpec, Draws, Model, abilities
from genbench.options import words
from genbench.registry import MODELS, resolve_model
from genbench.sources.build import build
from genbench.text import aligned
from genbench.train.presets import differing, small_form

WIDTH = 80


def describe_model(name: str, data: DataSpec, small: bool = False) -> str:
    """The class, its size for images of this shape, and its options; small: those of `preset: small`.

    Raises ModelError for an unknown name.
    """
    kind: type[Draws] = resolve_model(name)
    config, recipe = kind.preset(data), None
    if issubclass(kind, Model):
        config, recipe = small_form(kind, data) if small else (config, kind.recipe(data))
    model = build(kind, data, differing(config, kind.preset(data)), {}, 0)
    parts = [
        _about(name, kind),
        aligned(list(_facts(model))),
        _options("config (changing it means training again)", model.config),
        _options("sampler (needs no new weights)", model.sampler),
    ]
    if recipe is not None:
        parts.append(_options("recipe (train: in a suite)", recipe))
    return "\n\n".join(parts)


def _about(name: str, kind: type[Draws]) -> str:
    line = MODELS.about(name) if name in MODELS else ""
    text = inspect.cleandoc(kind.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    shown = [part for part in (line, text) if part]
    return "\n".join([f"{name}: {kind.__module__}.{kind.__qualname__}", *(textwrap.fill(t, WIDTH) for t in shown)])


def _facts(model: Draws) -> Iterator[tuple[str, str]]:
    data, count = model.data, returned.parameter_count(model)
    yield "family", model.family or "none stated"
    yield "images", f"{'x'.join(map(str, data.shape))}, {data.levels} levels, {data.classes} classes"
    yield "parameters", "unknown" if count is None else f"{count:,}"
    steps = "as many as an image needs" if model.evaluations is None else f"{model.evaluations:g} of a network"
    yield "evaluations", f"{steps} for one image"
    yield "abilities", ", ".join(abilities(type(model))) or "samples only"
    if isinstance(model, Model):
        yield "stages", "; ".join(f"{s.name}: {', '.join(s.turns)}, {s.share:.0%} of the images" for s in model.stages)


def _options(title: str, options: Any) -> str:
    hints = get_type_hints(type(options), include_extras=True)
    rows = [(f"  {f.name}", _value(getattr(options, f.name)), words(hints[f.name])) for f in fields(options) if f.init]
    return "\n".join([f"{title}:", aligned(rows) if rows else "  no options"])


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
