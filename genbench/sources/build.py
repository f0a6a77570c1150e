"""From a model's name and options to an initialised model, and its weights to a file and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from genbench.contract import DataSpec, Draws, override
from genbench.errors import ModelError
from genbench.machine import pinned_globals
from genbench.registry import resolve_model

AnyModel = TypeVar("AnyModel", bound=Draws)


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
) -> Draws:
    """A model for this data, in eval mode, with fresh weights drawn from seed or those of a safetensors file.

    name: a zoo name; source: `module:Class` or `file.py:Class` instead. sampler and config: single fields over the
    defaults. Raises ModelError for an unknown name, an option that the model does not have, or weights that do not fit.

        model = genbench.load_model("vae", data=genbench.DataSpec(1, 8, 8, levels=17), seed=3)
        images = model.sample(16, torch.Generator().manual_seed(0))  # (16, 1, 8, 8) in [-1, 1]
    """
    kind = resolve_model(name, source, folder)
    model: Draws = build(kind, data, config, sampler or {}, seed)
    if weights is not None:
        read_weights(model, weights)
    return model.eval()


def build(kind: type[AnyModel], data: DataSpec, config: dict[str, Any], sampler: dict[str, Any], seed: int) -> AnyModel:
    """The model with weights drawn from seed; the global random state and settings stay as they were."""
    with pinned_globals(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            preset = kind.preset(data)
            return kind(
                data, changed(kind, "config", preset, config), changed(kind, "sampler", kind.Sampler(), sampler)
            )
        except (TypeError, ValueError) as error:
            raise ModelError(f"{kind.__name__}: {error}") from error


def changed(kind: type[Draws], part: str, options: Any, changes: dict[str, Any]) -> Any:
    """The options with some fields changed. Raises ModelError that names the model, the part and the field."""
    try:
        return override(options, changes)
    except ValueError as error:
        raise ModelError(f"{kind.__name__}: {part}.{error}") from None


def write_weights(model: Draws, path: Path) -> None:
    """Saves parameters and buffers as safetensors."""
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}, path)


def read_weights(model: Draws, path: Path) -> None:
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
