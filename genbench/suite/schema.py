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
from genbench.suite.options import checked_options
from genbench.suite.rules import RULES
from genbench.suite.shipped import suite_path
from genbench.suite.yaml_source import Loc, SuiteSource, read_source, refusal

__all__ = ["ClaimEntry", "ModelEntry", "Suite", "TrainEntry", "check_suite_options", "read_suite", "suite_json_schema"]


class Suite(SuiteFields):
    """A benchmark: one dataset, models, metrics, and the protocol they share.

    budget: for models without their own. samples: images drawn from each model. block: images in one drawing call,
    which determines the noise of image i. likelihood_images: held-out images scored (None: all). trial: further
    limits of a run with --limit-images.
    Raises SuiteError, never pydantic's ValidationError.
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
        problems = [problem for rule in RULES for problem in rule(suite)]
        if problems:
            raise source.error(sorted(problems, key=lambda problem: source.line(problem[0])))
        return suite

    def located(self) -> Suite:
        """The suite with absolute paths in names such as `file.py:Object`, so that they mean the same everywhere."""
        dataset = self.dataset.model_copy(update={"name": located(self.dataset.name, self.folder)})
        names = {"features": located(self.features, self.folder)}
        return self.model_copy(
            update={**names, "dataset": dataset, "metrics": [located(name, self.folder) for name in self.metrics]}
        )


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
    return checked_options(kind, options, source=suite.source, loc=loc, name=name)
