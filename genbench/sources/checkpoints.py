"""Weights as other programs save them, brought to a model's names: nothing in a file is run, and a misfit is one line.

Read are safetensors and torch.save files, by content whatever their suffix, and the index of weights in several files.
A model of several networks reads the folder of a pipeline as one set (`components`).
Tensors may lie in a nest ({"model": ..., "ema": ..., "optimizer": ...}) and behind a prefix ("module."): the only nest
and prefix that fit are used; where several fit, the caller must choose (`key`, `strip`).
"""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from genbench.errors import ModelError
from genbench.files import refuse_absent, refuse_inflated
from genbench.keys import digest, file_hash
from genbench.sources.components import is_pipeline_folder, pipeline_hash
from genbench.sources.misfits import Misfits, misfits

State = dict[str, Tensor]
Adopts = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]
NAMES = ("model", "diffusion_pytorch_model", "pytorch_model")  # of the weights in a folder, without suffix
ENDS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".fp16.safetensors", ".fp16.bin")
NETWORKS = ("", "unet", "transformer")  # of a folder, where its weights may be
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")  # prefixes that wrappers add to every name
DEPTH = 3  # nests within nests that are looked into
UNREADABLE = (OSError, RuntimeError, ValueError, EOFError, KeyError, IndexError, AttributeError, TypeError, ImportError)


def as_they_are(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The state."""
    return state


def read_state(
    path: Path,
    fresh: State,
    owner: str,
    key: str = "",
    strip: str = "",
    foreign: Adopts = as_they_are,
    components: Sequence[str] = (),
) -> State:
    """The tensors of a file under the names of `fresh`, the state of a model with fresh weights.

    owner: the model's name, for messages. key: the nest to use, such as "ema" or "state.ema". strip: the prefix to take
    off names; other names are then ignored. foreign: renames the weights of other libraries. components: what is read
    where the path is the folder of a pipeline. Raises ModelError that names file, tensor and remedy.
    """
    loaded = _together(path, components) if path.is_dir() else _loaded(path)
    nests = {at: _named(state, fresh) for at, state in _nests(loaded)}
    if key:
        if key not in nests:
            raise ModelError(f"{path}: key: found '{key}', allowed: {_listed(nests)}")
        nests = {key: nests[key]}
    if not nests:
        raise ModelError(f"{path}: holds no tensors; allowed: a state_dict, or a mapping that contains one")
    try:
        nests = {at: dict(foreign(state)) for at, state in nests.items()}
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    state = _fitting(path, nests, fresh, owner, strip)
    problem = _bad_values(state, fresh)
    if problem:
        raise ModelError(f"{path}: does not fit {owner}: {problem}")
    return state


def _together(root: Path, components: Sequence[str]) -> State:
    """The tensors of all components, named by component."""
    parts = {name: _loaded(file) for name, file in _component_files(root, components).items()}
    return {f"{part}.{name}": tensor for part, state in parts.items() for name, tensor in state.items()}


def _component_files(root: Path, components: Sequence[str]) -> dict[str, Path]:
    absent = [name for name in components if not (root / name).is_dir()]
    if absent:
        raise ModelError(f"{root}: a pipeline without {', '.join(absent)}; required: folders {', '.join(components)}")
    return {name: weights_file(root / name) for name in components}


def weights_file(path: Path, components: Sequence[str] = ()) -> Path:
    """The file of weights that a path means: itself, or the one in a folder. Raises ModelError for a folder without.

    The folder of a pipeline with these components is returned as it is.
    """
    if not path.is_dir() or is_pipeline_folder(path, components):
        return path
    places = [path / network / f"{name}{end}" for network in NETWORKS for end in ENDS for name in NAMES]
    found = [place for place in places if place.is_file()]
    if not found:
        raise ModelError(f"{path}: a folder without weights; allowed: {NAMES[0]}{ENDS[0]}, {NAMES[1]}{ENDS[0]}, ...")
    return found[0]


def weights_hash(file: Path, components: Sequence[str] = ()) -> str:
    """SHA-256 (hex) of a file of weights; of an index, with the files that it names; of all parts of a pipeline."""
    if file.is_dir():
        return pipeline_hash(file, {name: weights_hash(f) for name, f in _component_files(file, components).items()})
    if not file.name.endswith(".index.json"):
        return file_hash(file)
    return digest({name: file_hash(file.parent / name) for name in _shard_names(file)} | {"index": file_hash(file)})


def _loaded(path: Path) -> Any:
    refuse_absent(path, ModelError)
    try:
        if path.name.endswith(".index.json"):
            return _shards(path)
        if _is_safetensors(path):
            return load_file(path)
        refuse_inflated(path, ModelError)
        with path.open("rb") as file, warnings.catch_warnings():  # opened here, as torch goes by the suffix
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except ModelError:
        raise
    except SafetensorError as error:
        raise ModelError(f"{path}: cannot be read as safetensors: {error}") from None
    except pickle.UnpicklingError:
        remedy = "save the state_dict alone, as safetensors"
        raise ModelError(f"{path}: holds Python objects besides tensors, which are not run; {remedy}") from None
    except Exception as error:  # a damaged file may make torch's reader raise anything
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"{path}: cannot be read as safetensors or as a file of torch.save: {reason}") from None


def _is_safetensors(path: Path) -> bool:
    """By content: the length of a header, which may be any where the name says so, and its first brace."""
    with path.open("rb") as file:
        head = file.read(9)
    plausible = int.from_bytes(head[:8], "little") < 1 << 30 or path.suffix == ".safetensors"
    return head[8:] == b"{" and plausible


def _shards(index: Path) -> State:
    """The tensors of all files that an index names."""
    weight_map, state = json.loads(index.read_text(encoding="utf-8"))["weight_map"], State()
    for name in _shard_names(index):
        state |= _loaded(index.parent / name)
    missing = [name for name in weight_map if name not in state]
    if missing:
        raise ModelError(f"{index}: '{missing[0]}' is in none of the files that it names")
    return state


def _shard_names(index: Path) -> list[str]:
    """The files that an index names. Raises ModelError for one that is not beside it."""
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except UNREADABLE as error:
        raise ModelError(f"{index}: not an index of weights: {error}") from None
    for name in names:
        if Path(name).name != name or not (index.parent / name).is_file():
            raise ModelError(f"{index}: names '{name}', which is not beside it")
    return names


def _nests(loaded: Any, at: str = "", depth: int = 0) -> Iterator[tuple[str, State]]:
    """Every mapping of names to tensors, by its place; other entries of such a mapping are left out.

    Tensors in a list, as averaged weights often are, have their numbers for names.
    """
    if isinstance(loaded, list | tuple) and loaded and all(isinstance(value, Tensor) for value in loaded):
        yield at, {f"[{number}]": tensor for number, tensor in enumerate(loaded)}
    if not isinstance(loaded, Mapping) or depth > DEPTH:
        return
    tensors = {name: value for name, value in loaded.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if tensors:
        yield at, tensors
    for name, value in loaded.items():
        yield from _nests(value, f"{at}.{name}" if at else str(name), depth + 1)


def _named(state: State, fresh: State) -> State:
    """The tensors of a list under the names of a model with equally many; other states as they are."""
    if next(iter(state)) != "[0]" or len(state) != len(fresh):
        return state
    return dict(zip(fresh, state.values(), strict=True))


def _fitting(path: Path, nests: dict[str, State], fresh: State, owner: str, strip: str) -> State:
    """The state of the only nest and prefix that fit."""
    options = {(at, p): _without(s, p) for at, s in nests.items() for p in ([strip] if strip else _prefixes(s, fresh))}
    if strip:
        options = {place: {n: t for n, t in state.items() if n in fresh} for place, state in options.items()}
    wrong = {place: misfits(state, fresh) for place, state in options.items()}
    fits = [place for place in options if not wrong[place]]
    if len(fits) == 1:
        return options[fits[0]]
    if fits:
        keys, prefixes = sorted({at for at, _ in fits}), sorted({prefix for _, prefix in fits})
        choice = f"key: {_listed(keys)}" if len(keys) > 1 else f"strip: {_listed(prefixes)}"
        raise ModelError(f"{path}: several sets of weights fit {owner}; choose one with {choice}")
    if strip and not any(options.values()):
        raise ModelError(f"{path}: strip: found '{strip}', allowed: how names begin: {_listed(_beginnings(nests))}")
    nearest = max(options, key=lambda place: (wrong[place].fitting, -abs(len(options[place]) - len(fresh))))
    found = _ignoring(nests, fresh) or _differing(nearest[0], nests, wrong[nearest])
    raise ModelError(f"{path}: does not fit {owner}: {found}")


def _differing(at: str, nests: dict[str, State], wrong: Misfits) -> str:
    others = [other for other in nests if other != at]
    remedy = f"other sets of weights in the file: {_listed(others)}" if others else ""
    return wrong.text(f" under '{at}'" if at else "", remedy)


def _beginnings(nests: dict[str, State]) -> list[str]:
    return sorted({name.split(".")[0] + "." for state in nests.values() for name in state if "." in name})


def _ignoring(nests: dict[str, State], fresh: State) -> str:
    """The prefix of names that fit beside others, and how to choose it; "" where there is none."""
    partial = {(at, p) for at, s in nests.items() for p in _before(s, fresh) if not misfits(_without(s, p), fresh)}
    if not partial:
        return ""
    at, prefix = min(partial)
    holds = f"'{at}' holds" if at else "it holds"
    return f"{holds} other names beside those with '{prefix}', which fit: strip: '{prefix}' ignores the others"


def _prefixes(state: State, fresh: State) -> list[str]:
    """The prefixes to try: none, and what stands before the model's first name in the file's names."""
    shared = {p for p in _before(state, fresh) if all(name.startswith(p) for name in state)}
    wrapped = {p for p in WRAPPERS if all(name.startswith(p) for name in state)}
    return ["", *sorted(shared | wrapped)]


def _before(state: State, fresh: State) -> set[str]:
    """What stands before the model's first name in the file's names."""
    first = next(iter(fresh), "")
    return {name[: -len(first)] for name in state if first and name.endswith(f".{first}")}


def _without(state: State, prefix: str) -> State:
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _bad_values(state: State, fresh: State) -> str:
    """The first tensor with values that no training leaves: not finite, or all 0 where fresh ones are not; else ""."""
    for name, tensor in state.items():
        if not (tensor.is_floating_point() or tensor.is_complex()):
            continue
        values = tensor if tensor.is_complex() else tensor.float()
        bad = int((~values.isfinite()).sum())
        if bad:
            remedy = "take weights from before the training diverged"
            return f"'{name}' holds {bad:,} of {tensor.numel():,} values that are NaN or infinite; {remedy}"
        if tensor.ndim > 1 and tensor.numel() and not values.any() and fresh[name].any():
            return f"'{name}' holds only zeros, unlike fresh weights; was the file written in full?"
    return ""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
