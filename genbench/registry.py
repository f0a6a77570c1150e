"""Short names to objects: models, datasets, metrics and feature extractors.

A name is one of three things:

    vae                         built in (genbench.builtin), or offered by an installed package
    somewhere.flows:MyFlow      an object of an importable module
    path/to/flow.py:MyFlow      an object of a file

An installed package offers names through the entry-point groups `genbench.models`, `genbench.datasets`,
`genbench.metrics` and `genbench.features`; for example in its pyproject.toml:

    [project.entry-points."genbench.metrics"]
    sharpness = "my_package.metrics:SHARPNESS"

A model may also be `scheme:artefact`, as "onnx:./generator.onnx": an adapter (genbench.adapters) makes a class of it.

Nothing is imported until `load` is called, and entry points are scanned once in a process for each search path.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from traceback import walk_tb
from typing import Any

from genbench import builtin
from genbench.builtin import BuiltIn
from genbench.errors import CodeError, DataError, GenbenchError, ModelError
from genbench.files import real_path, refuse_absent
from genbench.neighbours import import_file, imported_file
from genbench.options import nearest
from genbench.reasons import explain, one_line
from genbench.surroundings import restored

TARGET = re.compile(r".*[^:]:[A-Za-z_]\w*")
SCHEME = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*):(.+)", re.DOTALL)
SHORT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Plugin:
    """A name that an installed package offers: its target and the distribution, as "name version"."""

    name: str
    target: str
    distribution: str


@dataclass(frozen=True)
class Scan:
    """The plug-ins of installed packages, by group and name, and a sentence for each one that cannot be used."""

    plugins: Mapping[str, Mapping[str, Plugin]]
    refused: tuple[str, ...]


class Registry:
    """The objects of one kind, by name; iterating gives the names.

    kind: a word for messages. group: of entry points. built_in: the table of what genbench ships. base: `module:Class`
    that an object must be an instance of, or a subclass of when `classes` is true. error: what is raised.
    """

    def __init__(
        self, kind: str, group: str, built_in: Mapping[str, BuiltIn], base: str, error: type[GenbenchError],
        classes: bool = False,
    ) -> None:  # fmt: skip
        self.kind, self.group, self.built_in, self.base, self.error = kind, group, built_in, base, error
        self.classes = classes

    def names(self) -> tuple[str, ...]:
        """Every short name: built-in ones first, then those of installed packages."""
        return (*self.built_in, *self._plugins())

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __contains__(self, name: object) -> bool:
        return name in self.built_in or name in self._plugins()

    def __getitem__(self, name: str) -> Any:
        return self.load(name)

    def is_built_in(self, name: str) -> bool:
        """Whether genbench ships the object of that name."""
        return name in self.built_in

    def about(self, name: str) -> str:
        """One line about a name. It is read without loading for built-in names; a plug-in is loaded."""
        if name in self.built_in:
            return self.built_in[name].about
        declared = self.load(name)
        text = getattr(declared, "about", "") or (getattr(declared, "__doc__", None) or "")
        return str(text).strip().partition("\n")[0]

    def load(self, name: str, folder: Path | None = None) -> Any:
        """The object of a short name, `module:Object` or `path/to/file.py:Object`.

        folder: where a relative file path starts (default: the current folder). Raises the registry's error for an
        unknown name, a module that cannot be imported, and an object of another kind.
        """
        target = self.target(name)
        declared = load_object(target, folder, self.error)
        if isinstance(declared, Mapping) and name in declared:
            declared = declared[name]
        self._check(target, declared)
        return declared

    def target(self, name: str) -> str:
        """Where the object of a name is: `module:Object` or `path/to/file.py:Object`."""
        if is_target(name):
            return name
        if name in self.built_in:
            return self.built_in[name].target
        if name in self._plugins():
            return self._plugins()[name].target
        raise self.error(self.unknown(name))

    def unknown(self, name: str) -> str:
        """The message for a name that does not exist, with the nearest one."""
        allowed = ", ".join(self.names())
        return f"unknown {self.kind} '{name}'{nearest(name, self) or ';'} allowed: {allowed}, or file.py:Object"

    def _plugins(self) -> Mapping[str, Plugin]:
        return scan().plugins.get(self.group, {})

    def _check(self, target: str, declared: Any) -> None:
        base = load_object(self.base, None, self.error)
        if self.classes and isinstance(declared, type) and issubclass(declared, base):
            return
        if not self.classes and isinstance(declared, base):
            return
        what = "a class" if isinstance(declared, type) else type(declared).__name__
        allowed = "subclass" if self.classes else "instance"
        raise self.error(f"'{target}' is {what}, allowed: a {allowed} of {self.base.replace(':', '.')}")


MODELS = Registry("model", "genbench.models", builtin.MODEL_TABLE, "genbench.contract:Draws", ModelError, classes=True)
DATASETS = Registry(
    "dataset", "genbench.datasets", builtin.DATASET_TABLE, "genbench.data.base:DatasetSource", DataError
)  # fmt: skip
METRICS = Registry("metric", "genbench.metrics", builtin.METRIC_TABLE, "genbench.metrics.base:Metric", GenbenchError)
EXTRACTORS = Registry(
    "features", "genbench.features", builtin.EXTRACTOR_TABLE, "genbench.features.base:ExtractorSource", DataError
)  # fmt: skip
ADAPTERS = Registry("scheme", "genbench.adapters", builtin.ADAPTER_TABLE, "genbench.adapters.base:Adapter", ModelError)
REGISTRIES = (MODELS, DATASETS, METRICS, EXTRACTORS, ADAPTERS)


def scan() -> Scan:
    """The entry points of all installed packages, read once for each search path, which a worker has from its parent.

    A name that genbench ships, or that another package already offers, is not replaced.
    """
    return scan_of(tuple(sys.path))


@cache
def scan_of(path: tuple[str, ...]) -> Scan:
    """The entry points on sys.path, which is `path`."""
    plugins: dict[str, dict[str, Plugin]] = {}
    refused, points = [], entry_points()
    for registry in REGISTRIES:
        offered = plugins[registry.group] = {}
        for point in sorted(points.select(group=registry.group), key=lambda p: (p.name, p.value)):
            offer = Plugin(point.name, point.value, f"{point.dist.name} {point.dist.version}" if point.dist else "")
            reason = _refusal(offer, offered, registry)
            if reason:
                refused.append(f"{offer.distribution}: {registry.group}: '{offer.name}' is ignored: {reason}")
            else:
                offered[offer.name] = offer
    return Scan(plugins, tuple(refused))


def _refusal(offer: Plugin, offered: Mapping[str, Plugin], registry: Registry) -> str:
    if not SHORT_NAME.fullmatch(offer.name):
        return "allowed: a name of letters, digits, ., - and _"
    if offer.name in registry.built_in:
        return f"genbench has a {registry.kind} of that name"
    other = offered.get(offer.name)
    if other is None or other.target == offer.target:
        return ""
    return f"{other.distribution} offers that name, too"


def distribution_of(module: str) -> str:
    """The package that offers plug-ins from a module, as "name version"; "" for any other module."""
    package = module.partition(".")[0]
    offers = (plugin for group in scan().plugins.values() for plugin in group.values())
    return next((offer.distribution for offer in offers if re.split(r"[.:]", offer.target)[0] == package), "")


def raised_by_plugin(error: BaseException) -> str:
    """Where in a package that offers plug-ins, as "name version (metrics.py:12, in compute)"; "" for elsewhere."""
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        if package := distribution_of(frame.f_globals.get("__name__", "")):
            return f"{package} ({Path(frame.f_code.co_filename).name}:{line}, in {frame.f_code.co_name})"
    return ""


def resolve_model(name: str, source: str | None = None, folder: Path | None = None) -> type:
    """The class of a model's name, or of `source` when it is given.

    folder: where a relative file path starts. Raises ModelError when there is no such class or it is not a Model.
    """
    scheme, artefact = split_scheme(source or name)
    if not scheme:
        kind: type = MODELS.load(source or name, folder)
        return kind
    with restored(f"{scheme}:{artefact} was opened"):
        return ADAPTERS[scheme].bind(artefact, folder or Path())


def split_scheme(text: str) -> tuple[str, str]:
    """Scheme and artefact of `scheme:artefact`; "" and the text for anything else."""
    parts = SCHEME.fullmatch(text)
    return (parts[1], parts[2]) if parts is not None and parts[1] in ADAPTERS else ("", text)


def pinned(text: str, folder: Path) -> str:
    """`scheme:artefact` with what may change later fixed, such as the revision of a hub; anything else as it is."""
    scheme, artefact = split_scheme(text)
    return f"{scheme}:{ADAPTERS[scheme].pin(artefact, folder)}" if scheme else text


def is_target(name: str) -> bool:
    """Whether a name is `module:Object` or `path/to/file.py:Object`."""
    return TARGET.fullmatch(name) is not None


def short_name(name: str) -> str:
    """A name for tables and files: "Object" for `module:Object` and `path/to/file.py:Object`, else the name itself."""
    return name.rpartition(":")[2] if is_target(name) else name


def located(name: str, folder: Path) -> str:
    """The name, for `path/to/file.py:Object` with an absolute path, so that it means the same in every folder."""
    file = target_file(name)
    if file is None:
        return name
    return f"{(folder / file.expanduser()).absolute()}:{name.rpartition(':')[2]}"


def target_file(name: str) -> Path | None:
    """The file of `path/to/file.py:Object`; None for other names."""
    file = name.rpartition(":")[0]
    return Path(file) if is_target(name) and file.endswith(".py") else None


def load_object(target: str, folder: Path | None = None, error: type[GenbenchError] = ModelError) -> Any:
    """The object of `module:Object` or `path/to/file.py:Object`; raises `error` when there is none."""
    if not is_target(target):
        raise error(f"'{target}': found no object name, allowed: module:Object or path/to/file.py:Object")
    location, _, attribute = target.rpartition(":")
    module = load_module(target, folder, error)
    if not hasattr(module, attribute):
        own = [name for name, value in vars(module).items() if _is_own(name, value, module)]
        raise error(
            f"'{location}' has no '{attribute}'{nearest(attribute, own) or ';'} it has: {', '.join(own) or 'none'}"
        )
    return getattr(module, attribute)


def _is_own(name: str, value: Any, module: Any) -> bool:
    """Whether a module defines this class or function itself, or the name is a constant."""
    return name.isupper() or getattr(value, "__module__", "") == module.__name__


def load_module(target: str, folder: Path | None = None, error: type[GenbenchError] = ModelError) -> Any:
    """The module of `module:Object` or `path/to/file.py:Object`, imported once in a process; an edited file again."""
    file = target_file(target)
    if file is not None:
        path = (folder or Path()) / file.expanduser()
        refuse_absent(path, error)
        return _load_file(real_path(path), error)
    name = target.rpartition(":")[0]
    try:
        with nullcontext() if name in sys.modules else restored(f"{name} was imported"):
            return importlib.import_module(name)
    except CodeError as failure:
        raise error(f"module '{name}' cannot be imported: {failure}") from None
    except Exception as failure:
        reason = one_line(failure) if isinstance(failure, ImportError) else explain(failure)
        raise error(f"module '{name}' cannot be imported: {reason}") from failure


def _load_file(path: Path, error: type[GenbenchError]) -> Any:
    if path.is_dir():
        raise error(f"{path}: found a folder, allowed: a file of Python code")
    try:
        if (module := imported_file(path)) is not None:
            return module
        with restored(f"{path} was imported"):
            return import_file(path)
    except CodeError as failure:
        raise error(f"{path}: cannot be imported: {failure}") from None
    except Exception as failure:
        raise error(f"{path}: cannot be imported: {explain(failure)}") from failure
