"""What a suite may contain: its keys and types, and the rules between them.

Everything that can be checked without importing torch is checked here; messages name file, line and key. The options of
models, and of datasets and extractors that genbench does not ship, are checked when the suite is planned.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError, ValidationInfo, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler

from genbench.registry import located
from genbench.suite.entries import (
    ClaimEntry,
    ModelEntry,
    TrainEntry,
)
from genbench.suite.fields import SuiteFields
from genbench.suite.grid import expanded
from genbench.suite.options import checked_options
from genbench.suite.refusals import refusal
from genbench.suite.rules import RULES
from genbench.suite.shipped import suite_path
from genbench.suite.yaml_source import Loc, SuiteSource, read_source

__all__ = ["ClaimEntry", "ModelEntry", "Suite", "TrainEntry", "check_suite_options", "read_suite", "suite_json_schema"]


class Suite(SuiteFields):
    """A benchmark: datasets, models, metrics, and the protocol they share. Raises SuiteError, never pydantic's.

    suite: its name, which is the name of the results folder. version: part of every record; increase it when numbers
    may change. seeds: each row is trained and drawn once for each. dataset: the data. datasets: in place of dataset,
    several, with a table for each. features: a feature extractor, or several; the metrics that read features then have
    a column for each that can give them. extraction: how features are extracted. budget: of training, for models
    without their own. preset: paper for published networks and recipes, small for those that a CPU trains in about 15
    minutes, with a warm-up of 5 % and a moving average over 10 % of the steps, where their recipes have any; auto is
    small for budgets below a tenth of the published recipe's, else paper. samples: images drawn from each model.
    prompts: a file of texts that models drawn from a text are asked for, in place of the captions of the data.
    reference: the split that samples are compared with. precision: of training and drawing; auto is bf16 on a device
    that is faster with it, else fp32. compile: whether models are compiled for training. block: images in one drawing
    call, which determines the noise of image i. likelihood_images: held-out images scored (default: all). speed: how
    drawing is timed. trial: further limits of a run with --limit-images.
    models: the rows. metrics: the columns, by name or file.py:Object.
    """

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_in_our_words(cls, data: Any, handler: ModelWrapValidatorHandler[Suite], info: ValidationInfo) -> Suite:
        if isinstance(data, cls):
            return data
        source = (info.context or {}).get("source") or SuiteSource()
        try:
            suite = handler(data)
        except ValidationError as error:
            raise refusal(error, cls, source) from None
        suite._source = source
        suite.__dict__["models"], suite._written = expanded(suite)
        problems = [(suite.as_written(loc), text) for rule in RULES for loc, text in rule(suite)]
        problems = list(dict.fromkeys(problems))
        if problems:
            raise source.error(sorted(problems, key=lambda problem: source.line(problem[0])))
        return suite

    def located(self) -> Suite:
        """The suite with absolute paths in names such as `file.py:Object`, so that they mean the same everywhere."""
        entries = [
            entry.model_copy(update={"name": located(entry.name, self.folder)}) for _, entry in self.data_entries
        ]
        single = self.dataset is not None
        extractors = [located(name, self.folder) for _, name in self.extractors]
        return self.model_copy(
            update={
                "dataset": entries[0] if single else None,
                "datasets": entries[1:] if single else entries,
                "features": extractors[0] if isinstance(self.features, str) else extractors,
                "metrics": [located(name, self.folder) for name in self.metrics],
            }
        )

    def parts(self) -> list[tuple[Loc, list[tuple[Loc, Suite]]]]:
        """For each dataset its place and, for each extractor, its place and the suite of these two alone."""
        return [
            (
                at,
                [
                    (of, self.model_copy(update={"dataset": entry, "datasets": [], "features": name}))
                    for of, name in self.extractors
                ],
            )
            for at, entry in self.data_entries
        ]


def read_suite(suite: Path | str) -> Suite:
    """The suite in a YAML file, or the shipped suite of that name.

    Raises SuiteError: one line with file, line, key, what was found, what is allowed.
    """
    source = read_source(suite_path(suite))
    return Suite.model_validate(source.data, context={"source": source})


def suite_json_schema() -> dict[str, Any]:
    """JSON Schema of a suite, for editors that check and complete YAML."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Suite.model_json_schema()}


def check_suite_options(
    suite: Suite, loc: Loc, options: Mapping[str, Any], kind: type, name: str | None = None
) -> dict[str, Any]:
    """Options of a suite checked against the frozen dataclass that declares them, as `checked_options` does.

    Raises SuiteError at loc.
    """
    return checked_options(kind, options, source=suite.source, loc=suite.as_written(loc), name=name)
