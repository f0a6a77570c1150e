"""The folder of a diffusers pipeline, written from the components that a model states (contract.DiffusersParts)."""

from __future__ import annotations

import ast
import inspect
import json
import shutil
from pathlib import Path
from typing import Any

from genbench.adapters.base import library
from genbench.adapters.pipeline_files import INDEX, PLAIN_LIBRARIES
from genbench.contract import DiffusersPart, DiffusersParts
from genbench.registry import load_object
from genbench.store import make_folder


def save_parts(parts: DiffusersParts, folder: Path) -> None:
    """Writes components, the files of their classes, and model_index.json, as diffusers does."""
    version = library("diffusers", "diffusers", "export").__version__
    index: dict[str, Any] = {"_class_name": _named(parts.pipeline), "_diffusers_version": version, **parts.further}
    components = {name: _made(part) for name, part in parts.parts.items()}
    _copy_code(parts.pipeline, make_folder(folder))
    for name, part in parts.parts.items():
        components[name].save_pretrained(folder / name)
        _copy_code(part.kind, folder / name)
        index[name] = [_library(part.kind), part.kind.rpartition(":")[2]]
    (folder / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def is_copied(kind: str) -> bool:
    """Whether a class "module:Class" is of neither diffusers nor transformers."""
    return kind.partition(":")[0].partition(".")[0] not in PLAIN_LIBRARIES


def _library(kind: str) -> str:
    """The package of a class, or the name of the file that is copied."""
    module = kind.partition(":")[0]
    return module.rpartition(".")[2] if is_copied(kind) else module.partition(".")[0]


def _named(kind: str) -> str | list[str]:
    name = kind.rpartition(":")[2]
    return [_library(kind), name] if is_copied(kind) else name


def _made(part: DiffusersPart) -> Any:
    """The component with its weights."""
    kind = load_object(part.kind)
    made = kind(kind.config_class(**part.settings)) if getattr(kind, "config_class", None) else kind(**part.settings)
    if part.weights is not None:
        made.load_state_dict({name: part.weights(name) for name in made.state_dict()})
    return made


def _copy_code(kind: str, folder: Path) -> None:
    """Copies the file of a class, and those beside it that it imports as `from .file import name`."""
    if not is_copied(kind):
        return
    waiting, copied = [Path(inspect.getfile(load_object(kind)))], set[Path]()
    while files := [file for file in waiting if file not in copied]:
        file, *waiting = files
        copied.add(file)
        shutil.copyfile(file, folder / file.name)
        tree = ast.parse(file.read_text(encoding="utf-8"))
        relative = [
            node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module
        ]
        waiting += [file.with_name(f"{node.module}.py") for node in relative]
