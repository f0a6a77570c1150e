"""Options outside their annotations are refused with the same sentence by suites and by load_model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
from annotated_types import Ge, Gt, Le, Lt

import genbench
from genbench.contract import Count, DataSpec
from genbench.errors import ModelError, SuiteError
from genbench.options import bare_hint, check_options, option_problems
from genbench.registry import MODELS, resolve_model
from genbench.suite.schema import Suite, check_suite_options

SHAPES = (DataSpec(1, 8, 8, 17, 10), DataSpec(1, 28, 28, 256, 10), DataSpec(3, 32, 32, 256, 10))


@dataclass(frozen=True)
class Options:
    levels: Annotated[int, Ge(1), Lt(9)] = 3
    rate: Annotated[float, Gt(0), Le(1)] = 0.5
    widths: tuple[Count, ...] = (1, 2)
    pair: tuple[float, float] = (0.0, 1.0)
    kind: Literal["linear", "cosine"] = "linear"
    either: int | tuple[int, ...] = 1
    learned: bool = False
    name: str = "x"
    top: Annotated[int, Ge(0)] | None = None
    other: object = None


ALLOWED: list[dict[str, Any]] = [
    {"levels": 8, "rate": 1}, {"rate": 1e-9}, {"widths": ()}, {"kind": "cosine"}, {"either": (3, 4)}, {"top": 0},
    {"learned": True, "other": 3},
]  # fmt: skip
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"levels": 0}, "levels: found 0 (int), allowed: an integer, at least 1, below 9"),
    ({"levels": 9}, "levels: found 9 (int), allowed: an integer, at least 1, below 9"),
    ({"levels": True}, "levels: found True (bool), allowed: an integer, at least 1, below 9"),
    ({"levels": 2.0}, "levels: found 2.0 (float), allowed: an integer, at least 1, below 9"),
    ({"levels": None}, "levels: found nothing, allowed: an integer, at least 1, below 9"),
    ({"rate": 0}, "rate: found 0 (int), allowed: a number, above 0, at most 1"),
    ({"rate": float("nan")}, "rate: found nan (float), allowed: a number, above 0, at most 1"),
    ({"rate": 1.5}, "rate: found 1.5 (float), allowed: a number, above 0, at most 1"),
    ({"widths": 3}, "widths: found 3 (int), allowed: a list of integers, at least 1"),
    ({"widths": (3, 0)}, "widths[1]: found 0 (int), allowed: an integer, at least 1"),
    ({"pair": (0.5, "a")}, "pair[1]: found 'a' (str), allowed: a number"),
    ({"kind": "cos"}, "kind: found 'cos' (str); did you mean 'cosine'? allowed: linear, cosine"),
    ({"kind": 1}, "kind: found 1 (int), allowed: linear, cosine"),
    ({"either": "a"}, "either: found 'a' (str), allowed: an integer or a list of integers"),
    ({"learned": 1}, "learned: found 1 (int), allowed: true or false"),
    ({"name": 1}, "name: found 1 (int), allowed: text"),
    ({"top": -1}, "top: found -1 (int), allowed: an integer, at least 0"),
]


def suite_message(changes: dict[str, Any], kind: type) -> str:
    """What a suite says of the changes, from the key on."""
    suite = Suite.model_validate({
        "suite": "s", "dataset": {"name": "digits"}, "models": [{"name": "gan"}], "metrics": ["fid"],
    })  # fmt: skip
    with pytest.raises(SuiteError) as caught:
        check_suite_options(suite, ("models", 0, "config"), changes, kind)
    return str(caught.value).removeprefix("models[0].config.")


@pytest.mark.parametrize("changes", ALLOWED)
def test_values_within_their_annotations(changes):
    check_options(Options(**changes))


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_values_outside_their_annotations_in_the_words_of_a_suite(changes, message):
    assert [f"{path}: {text}" for path, text in option_problems(Options, changes)] == [message]
    assert suite_message(changes, Options) == message
    with pytest.raises(ValueError, match="found") as caught:
        check_options(Options(**changes))
    assert str(caught.value) == message


def outside(hint: Any) -> list[Any]:
    """Values just outside of what an annotation allows."""
    bare, extra = bare_hint(hint)
    if get_origin(bare) is Literal:
        return ["no such choice"]
    if get_origin(bare) is tuple:
        return [(value,) for value in outside(get_args(bare)[0])]
    values: list[Any] = ["text"] if bare in (int, float, bool) else []
    step = 1 if bare is int else 1e-3
    for bound in extra:
        values += [bound.ge - step] if isinstance(bound, Ge) else []
        values += [bound.le + step] if isinstance(bound, Le) else []
        values += [bound.gt] if isinstance(bound, Gt) else []
        values += [bound.lt] if isinstance(bound, Lt) else []
    return values


@pytest.mark.parametrize("name", MODELS.built_in)
def test_every_option_of_the_zoo_has_a_limit_that_suite_and_load_model_name_alike(name):
    kind = resolve_model(name)
    for part, options in (("config", kind.Config), ("sampler", kind.Sampler)):
        hints = get_type_hints(options, include_extras=True)
        for field in fields(options):
            assert outside(hints[field.name]), field.name
            for value in outside(hints[field.name]):
                changes = {field.name: value}
                given = changes if part == "config" else {"sampler": changes}
                with pytest.raises(ModelError) as caught:
                    genbench.load_model(name, data=SHAPES[0], **given)
                assert str(caught.value) == f"{kind.__name__}: {part}.{suite_message(changes, options)}"


@pytest.mark.parametrize("name", MODELS.built_in)
@pytest.mark.parametrize("data", SHAPES, ids=lambda data: f"{data.height}")
def test_every_preset_is_within_its_annotations(name, data):
    kind = resolve_model(name)
    check_options(kind.preset(data))


def test_an_unknown_option_is_refused_with_the_nearest_one():
    with pytest.raises(ModelError) as caught:
        genbench.load_model("ddim", data=SHAPES[0], sampler={"stpes": 3})
    message = "stpes: unknown key; did you mean 'steps'? allowed: steps, eta, spacing, clip"
    assert str(caught.value) == f"DDIM: sampler.{message}"
    assert suite_message({"stpes": 3}, resolve_model("ddim").Sampler) == message


def test_a_rule_between_options_names_model_and_option():
    with pytest.raises(ModelError) as caught:
        genbench.load_model("vae", data=SHAPES[0], latent=1)
    assert str(caught.value) == "VAE: config.latent: found 1, allowed: at least 2 with couplings"
