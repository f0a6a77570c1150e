"""The rules between the values of a suite: names that must exist, keys that exclude each other, required files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from genbench.files import absence
from genbench.hub import PREFIX as HUB
from genbench.options import choice
from genbench.records import LIKELIHOOD_KINDS, MOST_RECORDS, slug
from genbench.registry import (
    ADAPTERS,
    DATASETS,
    EXTRACTORS,
    METRICS,
    MODELS,
    Registry,
    is_target,
    split_scheme,
    target_file,
)
from genbench.suite.entries import ExtractionEntry, ModelEntry
from genbench.suite.fields import SuiteFields
from genbench.suite.options import entry_problems
from genbench.suite.yaml_source import Loc, Problem

EXCLUDES = {
    "samples": ("source", "config", "train", "sampler", "weights", "weights_of", "budget", "files"),
    "weights": ("weights_of", "train", "budget"),
    "weights_of": ("train", "budget"),
}

PROMPT_SUFFIXES = (".txt", ".csv", ".jsonl")  # of genbench.data.prompts, which imports torch

# The labels of genbench.sources.scale.SCALE_ROWS, which imports torch.
SCALE_LABELS = ("held-out real", "memorised train", "blurred real", "uniform noise", "gaussian")


def _repeated(suite: SuiteFields) -> Iterator[Problem]:
    labels = [entry.label for entry in suite.models]
    data, extractors = [entry.label for entry in suite.datasets], [name for _, name in suite.extractors]
    lists: dict[str, list[Any]] = {"seeds": suite.seeds, "metrics": suite.metrics, "models": labels}
    lists |= {"datasets": data, "features": extractors}
    for i, entry in enumerate(suite.models):
        if len(set(entry.seeds)) < len(entry.seeds):
            yield ("models", i, "seeds"), f"found {entry.seeds}, allowed: each seed once"
    for key, values in lists.items():
        places: dict[Any, int] = {}
        for i, value in enumerate(values):
            first = places.setdefault(value, i)
            hint = "; give one of them a label" if key in ("models", "datasets") else ""
            if first < i:
                yield (key, i), f"found {value!r} again, first at {key}[{first}]; allowed: once{hint}"


def _labels(suite: SuiteFields) -> Iterator[Problem]:
    """Labels that another row has, or whose files would have another row's names, also on disks that ignore case."""
    taken = {slug(label).lower(): f"the scale row '{label}'" for label in SCALE_LABELS}
    for i, entry in enumerate(suite.models):
        name, loc = slug(entry.label).lower(), ("models", i, "label" if "label" in entry.model_fields_set else "name")
        if name in taken and entry.label not in [other.label for other in suite.models[:i]]:
            yield loc, f"found '{entry.label}', allowed: a label whose files differ from those of {taken[name]}"
        taken.setdefault(name, f"models[{i}], '{entry.label}'")


def _names(suite: SuiteFields) -> Iterator[Problem]:
    """Unknown names and missing files."""
    for at, data in suite.data_entries:
        yield from _name(suite, (*at, "name"), data.name, DATASETS)
    for at, name in suite.extractors:
        yield from _name(suite, at, name, EXTRACTORS)
    for i, name in enumerate(suite.metrics):
        yield from _name(suite, ("metrics", i), name, METRICS)
    for i, entry in enumerate(suite.models):
        if not entry.name or not entry.label:
            yield ("models", i, "name"), "missing key, allowed: a name, or weights_of and a label"
        elif entry.source is None and entry.samples is None:
            hint = f"; for a name of your own, label: {entry.name} in place of name" if entry.weights_of else ""
            yield from _name(suite, ("models", i, "name"), entry.name, MODELS, f", or any with source{hint}")


def _name(suite: SuiteFields, loc: Loc, name: str, registry: Registry, more: str = "") -> Iterator[Problem]:
    if is_target(name):
        yield from ((loc, problem) for problem in _file(suite, str(loc[0]), target_file(name), (".py",)))
    elif name not in registry:
        yield loc, registry.unknown(name) + more


def _dataset(suite: SuiteFields) -> Iterator[Problem]:
    if (suite.dataset is None) == (not suite.datasets):
        both = suite.dataset is not None
        yield (
            ("dataset",),
            "not allowed together with datasets" if both else "missing key, allowed: dataset or datasets",
        )
    for at, entry in suite.data_entries:
        if not DATASETS.is_built_in(entry.name):
            continue
        kind = DATASETS.built_in[entry.name].options
        problems = entry_problems(kind, entry.options, source=suite.source, loc=at, name=entry.name)
        yield from problems
        path = entry.options.get("path")
        if path is not None and not problems and (reason := absence(suite.path(path))):
            yield (*at, "path"), f"{suite.path(path)}: {reason}"


def _extraction(suite: SuiteFields) -> Iterator[Problem]:
    """Options of the extraction: each must be declared by an extractor, and fit those that declare it."""
    if not all(EXTRACTORS.is_built_in(name) for _, name in suite.extractors):
        return
    kinds = {name: EXTRACTORS.built_in[name].options for _, name in suite.extractors}
    declared = {name: [field.name for field in fields(kind)] for name, kind in kinds.items()}
    every = [key for keys in declared.values() for key in keys]
    unknown = [key for key in suite.extraction.own if key not in every]
    for key in unknown:
        yield ("extraction", key), f"unknown key{choice(key, [*ExtractionEntry.model_fields, *every])}"
    for name, kind in kinds.items() if not unknown else ():
        own = {key: value for key, value in suite.extraction.own.items() if key in declared[name]}
        yield from entry_problems(kind, own, source=suite.source, loc=("extraction",), name=name)


def _records(suite: SuiteFields) -> Iterator[Problem]:
    """More records than a result may have."""
    numbers = [len(suite.models), len(suite.seeds), len(suite.data_entries), len(suite.extractors), len(suite.metrics)]
    if math.prod(numbers) > MOST_RECORDS:
        names = ("models", "seeds", "datasets", "extractors", "metrics")
        found = " x ".join(f"{n:,} {name}" for n, name in zip(numbers, names, strict=True) if n > 1)
        yield ("models",), f"found {found} = {math.prod(numbers):,} values, allowed: at most {MOST_RECORDS:,}"


def _exclusions(suite: SuiteFields) -> Iterator[Problem]:
    for i, entry in enumerate(suite.models):
        used = {key for key in entry.model_fields_set if getattr(entry, key)}
        for owner, refused in EXCLUDES.items():
            if owner in used:
                yield from (
                    (("models", i, key), f"not allowed together with {owner}") for key in refused if key in used
                )


def _budgets(suite: SuiteFields) -> Iterator[Problem]:
    for i, entry in enumerate(suite.models):
        if entry.budget and entry.train.images:
            yield ("models", i, "train", "images"), "not allowed together with budget, which sets the same value"


def _weights_of(suite: SuiteFields) -> Iterator[Problem]:
    owners = {entry.label: entry for entry in suite.models if entry.has_weights}
    for i, entry in enumerate(suite.models):
        if entry.weights_of is None or entry.weights_of in owners:
            continue
        if entry.weights_of in [other.label for other in suite.models]:
            problem = f"'{entry.weights_of}' has no weights of its own; allowed: {', '.join(owners) or 'none'}"
        else:
            problem = f"found no model labelled '{entry.weights_of}'{choice(entry.weights_of, owners)}"
        yield ("models", i, "weights_of"), problem


def _claims(suite: SuiteFields) -> Iterator[Problem]:
    for i, entry in enumerate(suite.models):
        for j, claim in enumerate(entry.claims):
            columns = [*suite.metrics, *(f"{m}@{name}" for m in suite.metrics for _, name in suite.extractors)]
            if claim.metric not in columns and not any(map(is_target, suite.metrics)):
                allowed = ", ".join(suite.metrics)
                yield ("models", i, "claims", j, "metric"), f"the suite does not measure {claim.metric}, only {allowed}"
            if claim.metric.startswith("bits_per_dim") and not claim.kind:
                yield (
                    ("models", i, "claims", j, "kind"),
                    f"missing, allowed for {claim.metric}: {', '.join(LIKELIHOOD_KINDS)}",
                )
            if claim.kind and not claim.metric.startswith("bits_per_dim"):
                yield ("models", i, "claims", j, "kind"), f"found '{claim.kind}', allowed for {claim.metric}: no kind"


def _files(suite: SuiteFields) -> Iterator[Problem]:
    for i, entry in enumerate(suite.models):
        if entry.source is not None and not (is_target(entry.source) or split_scheme(entry.source)[0]):
            allowed = f"module:Class, path/to/file.py:Class, or a file after one of {':, '.join(ADAPTERS)}:"
            yield ("models", i, "source"), f"found '{entry.source}', allowed: {allowed}"
        named = (
            ("source", target_file(entry.source or ""), (".py",)),
            ("weights", _local_weights(entry), ()),
            ("samples", entry.samples, (".npz", ".npy")),
        )
        yield from ((("models", i, key), text) for key, name, ends in named for text in _file(suite, key, name, ends))
        absences = ((j, suite.path(name), absence(suite.path(name))) for j, name in enumerate(entry.files))
        yield from ((("models", i, "files", j), f"{path}: {reason}") for j, path, reason in absences if reason)


def _prompts(suite: SuiteFields) -> Iterator[Problem]:
    if suite.prompts is not None:
        yield from ((("prompts",), problem) for problem in _file(suite, "prompts", suite.prompts.file, PROMPT_SUFFIXES))


def _local_weights(entry: ModelEntry) -> str | None:
    """The path of an entry's weights; None for none and for those of the hub."""
    return None if entry.weights is None or entry.weights.file.startswith(HUB) else entry.weights.file


def _file(suite: SuiteFields, key: str, name: str | Path | None, suffixes: tuple[str, ...]) -> Iterator[str]:
    if name is None:
        return
    path = suite.path(str(name))
    if reason := absence(path):
        yield f"{path}: {reason}"
    elif key == "weights":
        return  # recognised by content
    elif path.is_dir() and key != "samples":
        yield f"{path}: found a folder, allowed: a {suffixes[0]} file"
    elif path.is_file() and path.suffix not in suffixes:
        folder = " or a folder of pictures" if key == "samples" else ""
        yield f"{path}: found '{path.suffix}', allowed: {', '.join(suffixes)}{folder}"


RULES: tuple[Callable[[SuiteFields], Iterator[Problem]], ...] = (
    _records, _names, _repeated, _labels, _dataset, _extraction, _exclusions, _budgets, _weights_of, _claims, _files,
    _prompts,
)  # fmt: skip
