"""The keys of a suite and their types, without the rules between them (genbench.suite.rules)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr

from genbench.errors import SuiteError
from genbench.hub import PREFIX, hub_folder
from genbench.suite.entries import (
    Budget,
    DatasetEntry,
    ExtractionEntry,
    FeaturesName,
    ListedMetric,
    ModelEntry,
    Positive,
    PromptsOfFile,
    Seed,
    SpeedEntry,
    SuiteMapping,
    SuiteTitle,
    TrialEntry,
)
from genbench.suite.yaml_source import Loc, SuiteSource


class SuiteFields(SuiteMapping):
    """The values of a suite, each of the right type, and where they come from (explained at schema.Suite)."""

    suite: SuiteTitle
    version: Positive = 1
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    dataset: DatasetEntry | None = None
    datasets: list[DatasetEntry] = []
    features: FeaturesName | Annotated[list[FeaturesName], Field(min_length=1)] = "classifier"
    extraction: ExtractionEntry = ExtractionEntry()
    budget: Budget | None = None
    preset: Literal["auto", "small", "paper"] = "auto"
    samples: Annotated[int, Field(ge=2)] = 2_000
    prompts: PromptsOfFile | None = None
    reference: Literal["train", "test"] = "train"
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    compile: bool = False
    block: Positive = 500
    likelihood_images: Positive | None = None
    speed: SpeedEntry = SpeedEntry()
    trial: TrialEntry = TrialEntry()
    models: Annotated[list[ModelEntry], Field(min_length=1)]
    metrics: Annotated[list[ListedMetric], Field(min_length=1)]

    _source: SuiteSource = PrivateAttr(default_factory=SuiteSource)
    _written: list[int] = PrivateAttr(default_factory=list)  # of each model, the number of the entry it comes from

    @property
    def source(self) -> SuiteSource:
        """Where the suite came from, for messages."""
        return self._source

    @property
    def folder(self) -> Path:
        """Where relative paths start: the folder of the suite's file, or the current one."""
        return self._source.folder

    @property
    def data_entries(self) -> list[tuple[Loc, DatasetEntry]]:
        """The datasets, each with its place."""
        single: list[tuple[Loc, DatasetEntry]] = [] if self.dataset is None else [(("dataset",), self.dataset)]
        return [*single, *((("datasets", i), entry) for i, entry in enumerate(self.datasets))]

    @property
    def extractors(self) -> list[tuple[Loc, str]]:
        """The feature extractors, each with its place."""
        if isinstance(self.features, str):
            return [(("features",), self.features)]
        return [(("features", i), name) for i, name in enumerate(self.features)]

    def seeds_of(self, entry: ModelEntry) -> list[int]:
        """The seeds of a row: its own, else the suite's."""
        return entry.seeds or self.seeds

    def path(self, text: str) -> Path:
        """A path of the suite; a relative one starts in the suite's folder."""
        return self.folder / os.path.expanduser(text)  # noqa: PTH111 - leaves "~nobody" as it is, where Path raises

    def weights_path(self, text: str) -> Path:
        """The path of weights, which may be on the hub. Raises ModelError as `hub.hub_folder` does."""
        return hub_folder(text.removeprefix(PREFIX)) if text.startswith(PREFIX) else self.path(text)

    def error(self, loc: Loc, message: str, lines: bool = False) -> SuiteError:
        """An error about the value at loc, e.g. ("models", 2, "config"); raise what it returns.

        lines: whether the message has several lines; otherwise line ends are escaped.
        """
        return self._source.error([(self.as_written(loc), message)], lines)

    def as_written(self, loc: Loc) -> Loc:
        """The place in the file of a value: of several models from one entry with `grid`, that entry."""
        if len(loc) > 1 and loc[0] == "models" and self._written:
            return ("models", self._written[int(loc[1])], *loc[2:])
        return loc

    def images(self, entry: ModelEntry) -> int | None:
        """Images to train on: the entry's budget, else its train.images, else the suite's; None: the recipe's."""
        budget = self.budget.images if self.budget else None
        return entry.budget.images if entry.budget else entry.train.images or budget
