"""Checks of the values that a model returns, before anything is computed from them.

Every value that genbench receives from a model passes through one of these functions, in a run and in `genbench check`.
A violation raises CellFailure with the class, the method, what was returned and what is required, so that one faulty
model fails its own cells only. The checks read shapes and types; only `weights` and `check_plain` look at values. What
a class declares (options, stages, recipe, family) is checked while planning, in genbench.declared.
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
PLAIN = (Tensor, nn.Parameter)
FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# What a record can hold of a model's options together, far below the longest line of a records file; of its losses.
MOST_CHARACTERS, DEEPEST, LARGEST_INTEGER = 2**18, 50, 2**63
MOST_TERMS, LONGEST_TERM = 1_000, 100


def checked_images(model: Draws, value: Any, n: int, method: str = "sample") -> Tensor:
    """The value, if it is n images (n, C, H, W) in a floating type."""
    shape = (n, *model.data.shape)
    if (images := _real(value)) is not None and images.shape == shape:
        return images
    raise _violation(model, f"{method}()", value, f"a floating-point tensor of shape {shape} with values in [-1, 1]")


def latents(model: Draws, value: Any, n: int) -> Tensor:
    """A copy of the value, if it is n latents (n, ...) in a floating type; the model may use its memory again."""
    if (rows := _real(value)) is not None and rows.shape[:1] == (n,):
        return rows.clone()
    raise _violation(model, "noise()", value, f"a floating-point tensor whose first axis has length {n}")


def log_probs(model: Any, value: Any, n: int, method: str) -> Tensor:
    """A copy of the value, if it is real numbers (n,), one for each image; the model may use its memory again."""
    if (nats := _real(value)) is not None and nats.shape == (n,):
        return nats.detach().clone()
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
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value < LARGEST_INTEGER:
        return value
    if value is None and isinstance(model, Steps):
        return None
    raise _violation(model, "evaluations", value, "a whole number, at least 1, or for a model with Steps None")


def loss(model: Draws, value: Any, player: str) -> Loss:
    """The value, if it is a Loss whose total and terms are real scalars."""
    method = f"loss() of player '{player}'"
    if not isinstance(value, Loss):
        raise _violation(model, method, value, "a genbench.contract.Loss")
    _check_names(model, method, list(value.terms))
    for name, term in {"total": value.total, **value.terms}.items():
        if (scalar := _real(term)) is None or scalar.shape != ():
            raise _violation(
                model, f"{method}: {name}", term, "a real floating-point tensor of shape (), a mean over the batch"
            )
    return value


def _check_names(model: Draws, method: str, names: list[Any]) -> None:
    """Raises CellFailure for names of a loss's terms that a table of curves cannot have as columns."""
    if len(names) > MOST_TERMS:
        raise CellFailure(f"{_name(model)}.{method}: found {len(names):,} terms, allowed: at most {MOST_TERMS:,}")
    for name in names:
        if not (isinstance(name, str) and len(name) <= LONGEST_TERM and _encodable(name)):
            raise CellFailure(
                f"{_name(model)}.{method}: the name of a term: found {described(name)}, allowed: text of at most "
                f"{LONGEST_TERM} characters"
            )


def check_module(model: Draws) -> None:
    """Raises CellFailure for methods of torch.nn.Module that a class replaced and that return something else."""
    modes = {part: part.training for part in model.modules()}
    for method, value in (
        ("eval()", model.eval()), ("train()", model.train(model.training)), ("to('cpu')", model.to(model.device)),
    ):  # fmt: skip
        if value is not model:
            raise _violation(model, method, value, "the model itself, as torch.nn.Module does")
    for part, training in modes.items():
        part.training = training
    state: Any = model.state_dict()
    if not (isinstance(state, dict) and all(isinstance(part, Tensor) for part in state.values())):
        raise _violation(model, "state_dict()", state, "a dict from names to tensors")


def parameter_count(model: Draws) -> int | None:
    """The declared number of parameters, if it is a whole number of at least 0, or None for an unknown one."""
    value: Any = model.parameter_count
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 0 <= value < LARGEST_INTEGER):
        return value
    raise _violation(model, "parameter_count", value, "a whole number, at least 0, or None for an unknown one")


def denoiser(model: Steps) -> nn.Module:
    """The network of a model with Steps, if it is a module."""
    value: Any = model.denoiser
    if isinstance(value, nn.Module):
        return value
    raise _violation(model, "denoiser", value, "a torch.nn.Module, by a property")


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
    check_plain({"caveat": model.caveat}, _name(model))
    fields = {part: plain_options(value, f"{_name(model)}.{part}") for part, value in
              (("config", model.config), ("sampler", model.sampler))}  # fmt: skip
    check_plain(fields, _name(model))
    return fields


def plain_options(options: Any, name: str) -> dict[str, Any]:
    """The fields of a dataclass of options. Raises CellFailure where they are nested too deeply to be copied."""
    try:
        return asdict(options)
    except RecursionError:
        raise CellFailure(f"{name}: {_too_deep()}") from None


def check_plain(value: Any, name: str) -> None:
    """Raises CellFailure that names the first part of the value that is not null, text, a finite number or a list or
    mapping of these, which is all that a record can hold.
    """
    for path, part in _parts(value, name):
        if isinstance(part, float) and not math.isfinite(part):
            raise CellFailure(f"{path}: found {part}, allowed: a finite number")
        if isinstance(part, int) and abs(part) >= LARGEST_INTEGER:
            raise CellFailure(f"{path}: found a larger integer, allowed: below 2**63")
        if isinstance(part, str) and not _encodable(part):
            raise CellFailure(f"{path}: found text that is not valid Unicode, allowed: text without lone surrogates")
        if not (part is None or isinstance(part, str | int | float)):
            raise CellFailure(f"{path}: found {described(part)}, allowed: text, a number, true, false or null")
    size = len(json.dumps(value, allow_nan=False))
    if size > MOST_CHARACTERS:
        raise CellFailure(f"{name}: found {size:,} characters, allowed: at most {MOST_CHARACTERS:,} in a record")


def described(value: Any) -> str:
    """A value of any type in a few words, e.g. "float32 tensor of shape (57, 1, 8, 8)"."""
    if isinstance(value, Tensor) and type(value) not in PLAIN:
        return f"a tensor of the subclass {type(value).__name__}"
    if isinstance(value, Tensor) and value.is_nested:
        return "nested tensor"
    if isinstance(value, Tensor):
        where = {torch.strided: "", torch.sparse_coo: "sparse "}.get(
            value.layout, f"{value.layout} ".removeprefix("torch.")
        )
        where = "meta " if value.is_meta else where
        return f"{where}{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    if isinstance(value, int) and abs(value) >= LARGEST_INTEGER:
        return "an integer of more than 63 bits"
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return f"a value of type {type(value).__name__}"


def _parts(value: Any, path: str, depth: int = 0) -> Iterable[tuple[str, Any]]:
    if depth > DEEPEST:
        raise CellFailure(f"{path[:LONGEST_TERM]}: {_too_deep()}")
    if isinstance(value, dict):
        for key, part in value.items():
            yield f"{path}: a key", key
            yield from _parts(part, f"{path}.{key}", depth + 1)
    elif isinstance(value, list | tuple):
        for number, part in enumerate(value):
            yield from _parts(part, f"{path}[{number}]", depth + 1)
    else:
        yield path, value


def _too_deep() -> str:
    return f"found values that are nested more deeply, allowed: at most {DEEPEST} levels"


def _encodable(text: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def _real(value: Any) -> Tensor | None:
    """The value as a plain tensor, if it is a tensor of real numbers that are in memory, each on its own; else None.

    A subclass that only adds attributes or methods is plain without them. One that computes in its own way, such as
    FakeTensor, may have no numbers, and is refused unless its class has a true attribute `has_values`.
    """
    if not isinstance(value, Tensor):
        return None
    if type(value) not in PLAIN and not getattr(type(value), "has_values", False):
        if type(value).__torch_dispatch__ is not Tensor.__torch_dispatch__:
            return None
        value = value.as_subclass(Tensor)
    in_memory = not value.is_nested and value.layout == torch.strided and not value.is_meta
    in_memory = in_memory and (type(value) not in PLAIN or _has_storage(value))
    return value if in_memory and value.dtype in FLOATS else None


def _has_storage(value: Tensor) -> bool:
    """Whether a tensor has memory; those inside torch.vmap and torch.func.grad have none, at whatever level."""
    try:
        value.untyped_storage().data_ptr()
    except RuntimeError:
        return False
    return True


def _parameters(own: Any) -> bool:
    return isinstance(own, list | tuple) and bool(own) and all(isinstance(p, nn.Parameter) for p in own)


def _violation(model: Any, method: str, value: Any, required: str) -> CellFailure:
    return CellFailure(f"{_name(model)}.{method}: returned {described(value)}, required: {required}")


def _name(model: Any) -> str:
    return type(model).__name__
