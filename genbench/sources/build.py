"""From a model's name and options to an initialised model, and its weights to a file and back."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file

from genbench import returned
from genbench.contract import DataSpec, Draws
from genbench.errors import ModelError
from genbench.exported import exported_options, settings_beside
from genbench.files import refuse_absent
from genbench.machine import pinned_globals
from genbench.options import override
from genbench.reasons import one_line
from genbench.registry import resolve_model
from genbench.sources.checkpoints import read_state, weights_file
from genbench.sources.components import pipeline_settings
from genbench.surroundings import restored

AnyModel = TypeVar("AnyModel", bound=Draws)


def load_model(
    name: str,
    *,
    data: DataSpec,
    source: str | None = None,
    folder: Path | str | None = None,
    sampler: dict[str, Any] | None = None,
    weights: Path | str | None = None,
    key: str = "",
    strip: str = "",
    seed: int = 0,
    **config: Any,
) -> Draws:
    """A model for this data, in eval mode, with fresh weights drawn from seed or those of a file.

    name: a zoo name, `module:Class` or `file.py:Class`; source: as in a suite, for a name of your own. weights:
    safetensors, torch.save, or a folder with either; key: which of several sets of weights in it, such as "ema"; strip:
    a prefix to take off its names. sampler and config: single fields over the defaults. Raises ModelError for an
    unknown name, an option that the model does not have, or weights that do not fit.

        model = genbench.load_model("vae", data=genbench.DataSpec(1, 8, 8, levels=17), seed=3)
        images = model.sample(16, torch.Generator().manual_seed(0))  # (16, 1, 8, 8) in [-1, 1]
    """
    kind = resolve_model(name, source, None if folder is None else Path(folder))
    options = exported_options(Path(weights)) if weights is not None else ({}, {})
    model: Draws = build(kind, data, options[0] | config, options[1] | (sampler or {}), seed)
    if weights is not None:
        read_weights(model, Path(weights), key=key, strip=strip)
    return model.eval()


def build(kind: type[AnyModel], data: DataSpec, config: dict[str, Any], sampler: dict[str, Any], seed: int) -> AnyModel:
    """The model with weights drawn from seed; the global random state and settings stay as they were."""
    options = (kind.__module__, data, config, sampler)
    with restored(f"{kind.__name__} was built", options), pinned_globals(), torch.random.fork_rng(devices=[]):
        _seed_globally(seed)
        try:
            preset = kind.preset(data)
            model = kind(
                data, changed(kind, "config", preset, config), changed(kind, "sampler", kind.Sampler(), sampler)
            )
            returned.check_module(model)
            return model
        except (TypeError, ValueError) as error:
            raise ModelError(f"{kind.__name__}: {one_line(error)}") from error


def _seed_globally(seed: int) -> None:
    """As torch.manual_seed, which formats the call stack for each kind of device that is not used yet: milliseconds."""
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def changed(kind: type[Draws], part: str, options: Any, changes: dict[str, Any]) -> Any:
    """The options with some fields changed. Raises ModelError that names the model, the part and the field."""
    try:
        return override(options, changes)
    except ValueError as error:
        raise ModelError(f"{kind.__name__}: {part}.{error}") from None


def write_weights(model: Draws, path: Path) -> None:
    """Saves parameters and buffers as safetensors."""
    save_file({k: v.detach().cpu().contiguous().clone() for k, v in model.state_dict().items()}, path)


def read_weights(model: Draws, path: Path, *, key: str = "", strip: str = "") -> None:
    """Loads a file of weights into the model, as `checkpoints.read_state` reads it; raises ModelError as that does."""
    refuse_absent(path, ModelError)
    parts, fresh = type(model).components, model.state_dict()
    file = weights_file(path, parts)
    settings = pipeline_settings(file) if file.is_dir() else settings_beside(file)
    foreign = partial(model.adopted, settings=settings)
    model.load_state_dict(read_state(file, fresh, type(model).__name__, key, strip, foreign, parts))
