"""From a model's name and options to an initialised model, and the hash of the code it is made of."""

from __future__ import annotations

import hashlib
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from genbench.contract import DataSpec, Model, override
from genbench.errors import ModelError
from genbench.registry import resolve_model


def load_model(
    name: str,
    *,
    data: DataSpec,
    source: str | None = None,
    folder: Path | None = None,
    sampler: dict[str, Any] | None = None,
    weights: Path | None = None,
    seed: int = 0,
    **config: Any,
) -> Model:
    """A model for this data, in eval mode, with fresh weights drawn from seed or those of a safetensors file.

    name: a zoo name; source: `module:Class` or `file.py:Class` instead. sampler and config: single fields over the
    defaults. Raises ModelError for an unknown name, an option that the model does not have, or weights that do not fit.
    """
    kind = resolve_model(name, source, folder)
    model = build(kind, data, config, sampler or {}, seed)
    if weights is not None:
        read_weights(model, weights)
    return model.eval()


def build(kind: type[Model], data: DataSpec, config: dict[str, Any], sampler: dict[str, Any], seed: int) -> Model:
    """The model with weights drawn from seed; the global random state stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            return kind(data, override(kind.preset(data), config), override(kind.Sampler(), sampler))
        except (TypeError, ValueError) as error:
            raise ModelError(f"{kind.__name__}: {error}") from error


def write_weights(model: Model, path: Path) -> None:
    """Saves parameters and buffers as safetensors."""
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}, path)


def read_weights(model: Model, path: Path) -> None:
    """Loads a safetensors file into the model; ModelError names the first name or shape that does not fit."""
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be read as safetensors: {error}") from None
    own = model.state_dict()
    wrong = [f"'{k}' is missing" for k in own if k not in state]
    wrong += [f"'{k}' is not in the model" for k in state if k not in own]
    wrong += [
        f"'{k}' has shape {tuple(v.shape)}, the model's has {tuple(own[k].shape)}"
        for k, v in state.items()
        if k in own and v.shape != own[k].shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ModelError(f"{path}: does not fit {type(model).__name__}: {wrong[0]}{more}")
    model.load_state_dict(state)


def code_hash(kind: type[Model]) -> str:
    """SHA-256 over the class's name and source files: its own, its bases', what these import from their package.

    Editing a model's file trains it again; editing the harness or a library does not.
    """
    modules = {sys.modules[c.__module__] for c in kind.__mro__ if _counts(c.__module__)}
    for module in list(modules):
        modules |= _siblings(module)
    texts = [kind.__qualname__, *sorted(inspect.getsource(m) for m in modules)]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _counts(module: str) -> bool:
    return module.split(".")[0] not in {"genbench", "torch", "builtins", "abc", "typing"}


def _siblings(module: ModuleType) -> set[ModuleType]:
    package = module.__name__.split(".")[0]
    names = {getattr(value, "__module__", None) or "" for value in vars(module).values()}
    return {sys.modules[n] for n in names if n.split(".")[0] == package and n in sys.modules}
