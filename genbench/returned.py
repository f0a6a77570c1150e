"""Checks of the values that a model returns, before anything is computed from them.

Every value that genbench receives from a model passes through one of these functions, in a run and in `genbench check`.
A violation raises CellFailure with the class, the method, what was returned and what is required, so that one faulty
model fails its own cells only. The checks read shapes and types; only `weights` and `check_plain` look at values.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from genbench.contract import Draws, Loss, Model, Steps
from genbench.errors import CellFailure

MOST_NON_FINITE = 0.5  # share of drawn images that may hold a number that is not finite; they are counted and shown


def checked_images(model: Draws, value: Any, n: int, method: str = "sample") -> Tensor:
    """The value, if it is n images (n, C, H, W) in a floating type."""
    shape = (n, *model.data.shape)
    if isinstance(value, Tensor) and value.shape == shape and value.is_floating_point() and _dense(value):
        return value
    raise _violation(model, f"{method}()", value, f"a floating-point tensor of shape {shape} with values in [-1, 1]")


def latents(model: Draws, value: Any, n: int) -> Tensor:
    """The value, if it is n latents (n, ...) in a floating type."""
    if isinstance(value, Tensor) and value.shape[:1] == (n,) and value.is_floating_point() and _dense(value):
        return value
    raise _violation(model, "noise()", value, f"a floating-point tensor whose first axis has length {n}")


def log_probs(model: Any, value: Any, n: int, method: str) -> Tensor:
    """The value, if it is real numbers (n,), one for each image."""
    if isinstance(value, Tensor) and value.shape == (n,) and value.is_floating_point() and _dense(value):
        return value
    raise _violation(model, method, value, f"a real floating-point tensor of shape ({n},), nats for each of {n} images")


def check_non_finite(model: Draws, bad: int, n: int) -> None:
    """Raises CellFailure when more than half of n drawn images hold a number that is not finite."""
    if bad > MOST_NON_FINITE * n:
        raise CellFailure(
            f"{_name(model)}.sample(): {bad} of {n} images contain NaN or infinity, allowed: at most "
            f"{MOST_NON_FINITE:.0%}"
        )


def evaluations(model: Draws) -> int | None:
    """The declared network evaluations per image, if they are a positive whole number; None for Steps that count."""
    value: Any = model.evaluations
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    if value is None and isinstance(model, Steps):
        return None
    raise _violation(model, "evaluations", value, "a whole number, at least 1, or for a model with Steps None")


def loss(model: Draws, value: Any, player: str) -> Loss:
    """The value, if it is a Loss whose total and terms are real scalars."""
    method = f"loss() of player '{player}'"
    if not isinstance(value, Loss):
        raise _violation(model, method, value, "a genbench.contract.Loss")
    for name, term in {"total": value.total, **value.terms}.items():
        if not (isinstance(term, Tensor) and term.shape == () and term.is_floating_point()):
            raise _violation(
                model, f"{method}: {name}", term, "a real floating-point tensor of shape (), a mean over the batch"
            )
    return value


def players(model: Model) -> dict[str, list[nn.Parameter]]:
    """The parameters by player, if every turn has a player with at least one parameter."""
    value: Any = model.players()
    turns = {player for stage in model.stages for player in stage.turns}
    if isinstance(value, dict) and turns <= value.keys() and all(_parameters(own) for own in value.values()):
        return value
    raise _violation(
        model, "players()", value, f"for each of {', '.join(sorted(turns))} a non-empty list of parameters"
    )


def weights(model: nn.Module, when: str) -> None:
    """Raises CellFailure for a parameter that is not finite, or a buffer that holds NaN. when: e.g. "after training".

    A buffer may hold infinity, as the mask of an attention does.
    """
    bad = [name for name, value in model.named_parameters() if not bool(torch.isfinite(value).all())]
    bad += [name for name, value in model.named_buffers() if bool(torch.isnan(value).any())]
    if bad:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise CellFailure(f"{_name(model)}: '{bad[0]}'{more} contains NaN or infinity {when}, required: finite weights")


def options(model: Draws) -> dict[str, Any]:
    """Config, sampler and caveat as plain data."""
    if not isinstance(model.caveat, str):
        raise _violation(model, "caveat", model.caveat, "text")
    fields = {"config": asdict(model.config), "sampler": asdict(model.sampler)}
    check_plain(fields, _name(model))
    return fields


def check_plain(value: Any, name: str) -> None:
    """Raises CellFailure that names the first part of the value that is not null, text, a finite number or a list or
    mapping of these, which is all that a record can hold.
    """
    for path, part in _parts(value, name):
        if isinstance(part, float) and not math.isfinite(part):
            raise CellFailure(f"{path}: found {part}, allowed: a finite number")
        if not (part is None or isinstance(part, str | int | float)):
            raise CellFailure(f"{path}: found {described(part)}, allowed: text, a number, true, false or null")
    json.dumps(value, allow_nan=False)


def described(value: Any) -> str:
    """A value of any type in a few words, e.g. "float32 tensor of shape (57, 1, 8, 8)"."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return f"a value of type {type(value).__name__}"


def _parts(value: Any, path: str) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield f"{path}: a key", key
            yield from _parts(part, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _parts(part, f"{path}[{number}]")
    else:
        yield path, value


def _dense(value: Tensor) -> bool:
    return value.layout == torch.strided and value.device.type != "meta"


def _parameters(own: Any) -> bool:
    return isinstance(own, list | tuple) and bool(own) and all(isinstance(p, nn.Parameter) for p in own)


def _violation(model: Any, method: str, value: Any, required: str) -> CellFailure:
    return CellFailure(f"{_name(model)}.{method}: returned {described(value)}, required: {required}")


def _name(model: Any) -> str:
    return type(model).__name__
