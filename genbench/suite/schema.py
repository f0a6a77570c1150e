"""What a suite may say: its keys and types, and the rules between them.

Everything that can be refused without loading a model or a dataset is refused here, with file, line and key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import ConfigDict, Field, PrivateAttr, ValidationError, ValidationInfo, create_model, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler

from genbench.errors import SuiteError
from genbench.records import KINDS
from genbench.registry import model_names
from genbench.suite.entries import (
    STRICT,
    Budget,
    ClaimEntry,
    DatasetEntry,
    Entry,
    ExtractionEntry,
    FeaturesName,
    MetricName,
    ModelEntry,
    Positive,
    Seed,
    SpeedEntry,
    SuiteName,
    TrainEntry,
    TrialEntry,
)
from genbench.suite.yaml_source import Loc, Problem, Source, choice, read_source, refusal

__all__ = [
    "DATASET_KEYS", "ClaimEntry", "ModelEntry", "Suite", "TrainEntry", "check_options", "read_suite",
    "suite_json_schema",
]  # fmt: skip

DATASET_KEYS = {
    "digits": (), "fashion-mnist": ("download",), "cifar10": ("path", "download"), "edges": ("of", "download"),
    "folder": ("path", "size"), "npz": ("path", "levels"),
}  # fmt: skip
NEEDS_PATH = ("folder", "npz")
EXCLUDES = {
    "samples": ("source", "config", "train", "sampler", "weights", "weights_of", "budget"),
    "weights": ("weights_of", "train", "budget"),
    "weights_of": ("train", "budget"),
}
SOURCE = re.compile(r".*[^:]:[A-Za-z_]\w*")


class Suite(Entry):
    """A benchmark: one dataset, models, metrics, and the protocol they share.

    budget: for models without their own. samples: images drawn from each model. block: images in one drawing call,
    which decides the noise that image i gets. likelihood_images: held-out images scored (None: all). trial: caps
    beside --limit-images.
    Raises SuiteError, never pydantic's ValidationError.
    """

    suite: SuiteName
    version: Positive = 1
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    dataset: DatasetEntry
    features: FeaturesName = "classifier"
    extraction: ExtractionEntry = ExtractionEntry()
    budget: Budget | None = None
    samples: Annotated[int, Field(ge=2)] = 2_000
    reference: Literal["train", "test"] = "train"
    precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    block: Positive = 500
    likelihood_images: Positive | None = None
    speed: SpeedEntry = SpeedEntry()
    trial: TrialEntry = TrialEntry()
    models: Annotated[list[ModelEntry], Field(min_length=1)]
    metrics: Annotated[list[MetricName], Field(min_length=1)]

    _source: Source = PrivateAttr(default_factory=Source)

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_in_our_words(cls, data: Any, handler: ModelWrapValidatorHandler[Suite], info: ValidationInfo) -> Suite:
        if isinstance(data, cls):
            return data
        source = (info.context or {}).get("source") or Source()
        try:
            suite = handler(data)
        except ValidationError as error:
            raise refusal(error, cls, source) from None
        suite._source = source
        problems = [problem for rule in RULES for problem in rule(suite)]
        if problems:
            raise source.error(sorted(problems, key=lambda problem: source.line(problem[0])))
        return suite

    @property
    def folder(self) -> Path:
        """Where relative paths start: the folder of the suite's file, or the current one."""
        return self._source.folder

    def path(self, text: str) -> Path:
        """A path as the suite wrote it, from the suite's folder."""
        return self.folder / os.path.expanduser(text)  # noqa: PTH111 - leaves "~nobody" as it is, where Path raises

    def error(self, loc: Loc, message: str) -> SuiteError:
        """An error about the value at loc, e.g. ("models", 2, "config"); raise what it returns."""
        return self._source.error([(loc, message)])

    def images(self, entry: ModelEntry) -> int | None:
        """Images to train on: the entry's budget, else its train.images, else the suite's; None: the recipe's."""
        budget = self.budget.images if self.budget else None
        return entry.budget.images if entry.budget else entry.train.images or budget


def read_suite(path: Path) -> Suite:
    """The suite in a YAML file. Raises SuiteError: one line with file, line, key, what was found, what is allowed."""
    source = read_source(path)
    return Suite.model_validate(source.data, context={"source": source})


def suite_json_schema() -> dict[str, Any]:
    """JSON Schema of a suite, for editors that check and complete YAML."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Suite.model_json_schema()}


def check_options(suite: Suite, loc: Loc, options: dict[str, Any], kind: type) -> dict[str, Any]:
    """Options of a suite checked against a frozen dataclass (a Config or Sampler), lists as tuples.

    An integer may stand for a float, nothing else is converted. Raises SuiteError at loc.
    """
    hints = get_type_hints(kind, include_extras=True)
    allowed: dict[str, Any] = {f.name: (hints[f.name], None) for f in fields(kind) if f.init}
    config = ConfigDict(**STRICT, arbitrary_types_allowed=True, protected_namespaces=())
    model = create_model(kind.__name__, __config__=config, **allowed)
    try:
        checked = model.model_validate({name: _tuples(value) for name, value in options.items()})
    except ValidationError as error:
        raise refusal(error, model, suite._source, loc) from None
    return {name: getattr(checked, name) for name in options}


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def _repeated(suite: Suite) -> Iterator[Problem]:
    labels = [entry.label for entry in suite.models]
    for key, values in (("seeds", suite.seeds), ("metrics", suite.metrics), ("models", labels)):
        for i, value in enumerate(values):
            first = values.index(value)  # type: ignore[arg-type]
            hint = "; give one of them a label" if key == "models" else ""
            if first < i:
                yield (key, i), f"found {value!r} again, first at {key}[{first}]; allowed: once{hint}"


def _dataset(suite: Suite) -> Iterator[Problem]:
    entry = suite.dataset
    allowed = ("name", *DATASET_KEYS[entry.name])
    for key, value in entry:
        if value and key not in allowed:
            yield ("dataset", key), f"not a key of {entry.name}, allowed: {', '.join(allowed)}"
    if entry.name in NEEDS_PATH and entry.path is None:
        yield ("dataset", "path"), f"missing key, allowed: the path of a {entry.name}"
    if "of" in allowed and entry.of is None:
        yield ("dataset", "of"), "missing key, allowed: digits or fashion-mnist, whose pictures the task is made from"
    if entry.path is not None and not _exists(suite.path(entry.path)):
        yield ("dataset", "path"), f"{suite.path(entry.path)}: not found"


def _model_names(suite: Suite) -> Iterator[Problem]:
    names = sorted(model_names())
    for i, entry in enumerate(suite.models):
        if entry.source is None and entry.samples is None and entry.name not in names:
            yield ("models", i, "name"), f"unknown model '{entry.name}'{choice(entry.name, names)}, or any with source"


def _exclusions(suite: Suite) -> Iterator[Problem]:
    for i, entry in enumerate(suite.models):
        given = {key for key in entry.model_fields_set if getattr(entry, key)}
        for owner, refused in EXCLUDES.items():
            if owner in given:
                yield from ((("models", i, key), f"not allowed beside {owner}") for key in refused if key in given)


def _budgets(suite: Suite) -> Iterator[Problem]:
    for i, entry in enumerate(suite.models):
        if entry.budget and entry.train.images:
            yield ("models", i, "train", "images"), "not allowed beside budget, which says the same"


def _weights_of(suite: Suite) -> Iterator[Problem]:
    owners = {entry.label: entry for entry in suite.models if entry.has_weights}
    for i, entry in enumerate(suite.models):
        if entry.weights_of is None or entry.weights_of in owners:
            continue
        if entry.weights_of in [other.label for other in suite.models]:
            problem = f"'{entry.weights_of}' has no weights of its own; allowed: {', '.join(owners) or 'none'}"
        else:
            problem = f"found no model labelled '{entry.weights_of}'{choice(entry.weights_of, owners)}"
        yield ("models", i, "weights_of"), problem


def _claims(suite: Suite) -> Iterator[Problem]:
    for i, entry in enumerate(suite.models):
        for j, claim in enumerate(entry.claims):
            if claim.metric not in suite.metrics:
                allowed = ", ".join(suite.metrics)
                yield ("models", i, "claims", j, "metric"), f"the suite does not measure {claim.metric}, only {allowed}"
            if claim.metric.startswith("bits_per_dim") and not claim.kind:
                yield ("models", i, "claims", j, "kind"), f"missing, allowed for {claim.metric}: {', '.join(KINDS)}"
            if claim.kind and not claim.metric.startswith("bits_per_dim"):
                yield ("models", i, "claims", j, "kind"), f"found '{claim.kind}', allowed for {claim.metric}: no kind"


def _files(suite: Suite) -> Iterator[Problem]:
    for i, entry in enumerate(suite.models):
        if entry.source is not None and not SOURCE.fullmatch(entry.source):
            yield ("models", i, "source"), f"found '{entry.source}', allowed: module:Class or path/to/file.py:Class"
        file = (entry.source or "").rpartition(":")[0]
        named = (
            ("source", file if file.endswith(".py") else None, (".py",)),
            ("weights", entry.weights, (".safetensors",)),
            ("samples", entry.samples, (".npz", ".npy")),
        )
        yield from ((("models", i, key), text) for key, name, ends in named for text in _file(suite, key, name, ends))


def _file(suite: Suite, key: str, name: str | None, suffixes: tuple[str, ...]) -> Iterator[str]:
    if name is None:
        return
    path = suite.path(name)
    if not _exists(path):
        yield f"{path}: not found"
    elif path.is_dir() and key != "samples":
        yield f"{path}: found a folder, allowed: a {suffixes[0]} file"
    elif path.is_file() and path.suffix not in suffixes:
        folder = " or a folder of pictures" if key == "samples" else ""
        yield f"{path}: found '{path.suffix}', allowed: {', '.join(suffixes)}{folder}"


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - False for a name too long or a folder not open to us, where Path raises


RULES: tuple[Callable[[Suite], Iterator[Problem]], ...] = (
    _repeated, _dataset, _model_names, _exclusions, _budgets, _weights_of, _claims, _files,
)  # fmt: skip
