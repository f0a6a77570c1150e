"""The cells of a plan as plain data that can be sent to worker processes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from genbench.features import FeatureOptions
from genbench.keys import value_key
from genbench.metrics.base import Metric
from genbench.metrics.facts import Facts
from genbench.provenance import Provenance
from genbench.records import metric_name
from genbench.registry import METRICS
from genbench.sources.base import DataPlan, Drawing, Source


@dataclass(frozen=True)
class MetricPlan:
    """One number to measure. name: of its column. reason: why it does not apply, "" when it does.

    similarity: protocol fields of the distance between images that it reads, {} for none. source: how metrics.get finds
    the metric of a plug-in, "" for others.
    """

    name: str
    key: str = ""
    reason: str = ""
    similarity: dict[str, Any] = field(default_factory=dict)
    source: str = ""

    @cached_property
    def metric(self) -> Metric:
        """The metric's declaration; a plug-in's without the hash of its code, which the key holds."""
        metric: Metric = METRICS.load(self.source or metric_name(self.name))
        return metric

    def __getstate__(self) -> dict[str, Any]:
        """Without the declaration, which another process loads itself."""
        return {name: value for name, value in vars(self).items() if name != "metric"}


def planned_key(metric: Metric, facts: Facts, similarity: dict[str, Any]) -> str:
    """The key of a value; similarity: protocol fields of the distance between images that it reads, {} for none."""
    depends = {**metric.reads.depends(facts), "similarity": similarity}
    depends |= {"code": metric.code} if metric.code else {}
    return value_key(metric.name, metric.version, metric.protocol, depends)


@dataclass(frozen=True)
class SuiteVersion:
    """The suite of a cell and its version."""

    name: str
    version: int


@dataclass(frozen=True)
class Cell:
    """One source on one dataset with one seed: what to draw from, and what to measure.

    extractor, extraction: the feature extractor and its options. facts: what its values depend on.
    """

    suite: SuiteVersion
    source: Source
    data: DataPlan
    drawing: Drawing
    extractor: str
    extraction: FeatureOptions
    facts: Facts
    metrics: tuple[MetricPlan, ...]
    provenance: Provenance

    @property
    def label(self) -> str:
        """The row's name."""
        return self.source.label

    @property
    def seed(self) -> int:
        """The seed of its samples."""
        return self.drawing.seed

    @property
    def id(self) -> str:
        """model/dataset/seed, as in the records."""
        return f"{self.label}/{self.data.name}/s{self.seed}"

    @property
    def samples_key(self) -> str:
        """The key of its images."""
        return self.facts.samples

    def on_machine(self, machine: str) -> Cell:
        """The cell where its timings are of that machine."""
        facts = replace(self.facts, machine=machine)
        planned = tuple(replace(m, key=planned_key(m.metric, facts, m.similarity)) for m in self.metrics)
        return replace(self, facts=facts, metrics=planned)

    def facts_for(self, planned: MetricPlan) -> Facts:
        """The facts that the value of one metric depends on."""
        return replace(self.facts, similarity=planned.similarity)
