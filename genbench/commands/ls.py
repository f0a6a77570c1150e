"""`genbench ls`: every name of one kind, with one line about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from genbench.errors import GenbenchError
from genbench.files import real_path
from genbench.options import nearest
from genbench.registry import DATASETS, EXTRACTORS, METRICS, MODELS, Registry, scan
from genbench.suite.schema import read_suite
from genbench.suite.shipped import shipped_suites
from genbench.text import aligned

NameAndLine = tuple[str, str]
MOST_ROWS = 6  # of a suite that are named in its line


def list_names(kind: str) -> str:
    """The models, datasets, metrics, features or suites that exist, and plug-ins that are ignored and why."""
    kinds = {"models": _models, "datasets": _datasets, "metrics": _metrics, "features": _features, "suites": _suites}
    if kind not in kinds:
        raise GenbenchError(f"ls: unknown '{kind}'{nearest(kind, kinds) or ';'} allowed: {', '.join(kinds)}")
    ignored = [text for text in scan().refused if f": genbench.{kind}: " in text]
    return "\n".join([aligned(list(kinds[kind]())), *ignored])


def _models() -> Iterator[NameAndLine]:
    from genbench.contract import abilities

    def line(name: str, kind: Any) -> str:
        return f"{MODELS.about(name)}; abilities: {', '.join(abilities(kind)) or 'samples only'}"

    return _rows(MODELS, line)


def _datasets() -> Iterator[NameAndLine]:
    return _rows(DATASETS, lambda name, source: DATASETS.about(name))


def _metrics() -> Iterator[NameAndLine]:
    def line(name: str, metric: Any) -> str:
        about = METRICS.built_in[name].about if METRICS.is_built_in(name) else metric.about or metric.title
        cannot = f". {metric.cannot_detect}" if metric.cannot_detect else ""
        return f"{about} ({metric.unit or 'no unit'}, {metric.better} is better){cannot}"

    return _rows(METRICS, line)


def _features() -> Iterator[NameAndLine]:
    return _rows(EXTRACTORS, lambda name, source: EXTRACTORS.about(name))


def _rows(registry: Registry, line: Callable[[str, Any], str]) -> Iterator[NameAndLine]:
    """A name and its line; a plug-in that cannot be loaded gets the reason as its line."""
    for name in registry:
        try:
            yield name, line(name, registry.load(name))
        except GenbenchError as error:
            yield name, f"cannot be loaded: {error}"


def _suites() -> Iterator[NameAndLine]:
    own = {str(path): path for path in sorted(Path("suites").glob("*.yaml"))}
    shipped = {name: path for name, path in shipped_suites().items() if real_path(path) not in _resolved(own)}
    for name, path in (own | shipped).items():
        try:
            labels = [entry.label for entry in read_suite(path).models]
            more = [f"and {len(labels) - MOST_ROWS} more"] if len(labels) > MOST_ROWS else []
            yield name, ", ".join([*labels[:MOST_ROWS], *more])
        except GenbenchError as error:
            yield name, f"cannot be read: {error}"


def _resolved(paths: Mapping[str, Path]) -> set[Path]:
    return {real_path(path) for path in paths.values()}
