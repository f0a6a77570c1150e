"""One extractor on one dataset of a suite: which metrics it makes available, and the plan of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from genbench import data, features, metrics
from genbench.errors import DataError, GenbenchError
from genbench.features import FeatureOptions, similarity
from genbench.metrics.base import Metric, too_few
from genbench.metrics.facts import Capabilities, Facts
from genbench.plan.applies import suite_setting
from genbench.plan.cells import MetricPlan, planned_key
from genbench.records import column_name
from genbench.registry import short_name
from genbench.sources.base import DataPlan
from genbench.suite.schema import Suite, check_suite_options
from genbench.suite.yaml_source import Loc


class PlannedView:
    """suite: with this dataset and this extractor alone, which is at `at` in the file. able: what each model can do.

    several: whether the suite has other extractors, so that the columns are named by extractor. reasons: of each metric
    and each model why it does not apply, "" where it does. left_out: metrics that only other extractors can give.
    unusable: why the extractor cannot be used on this dataset, "" where it can.
    """

    left_out: frozenset[str] = frozenset()

    def __init__(self, suite: Suite, plan: DataPlan, at: Loc, able: list[Capabilities], several: bool) -> None:
        self.suite, self.data, self.at, self.several = suite, plan, at, several
        self.extractor = str(suite.features)
        self.options = self._options()
        self.fields, self.unusable = self._fields()
        self.metrics = [self._declared(index, name) for index, name in enumerate(suite.metrics)]
        self.setting = suite_setting(self.extractor, plan)
        self.reasons = [[self._why_not(metric, one) for one in able] for metric in self.metrics]
        self.unable = {m.name for m in self.metrics if m.reads.through_extractor and m.reads.missing(self.setting)}

    def _options(self) -> FeatureOptions:
        """The suite's choices for the extractor: of several extractors, each receives the options that it declares."""
        chosen, own = self.suite.extraction, dict(self.suite.extraction.own)
        declared = features.extractor_source(self.extractor).options
        if self.several:
            own = {key: own[key] for key in own if key in {field.name for field in fields(declared)}}
        check_suite_options(self.suite, ("extraction",), own, declared)
        weights = self.suite.path(chosen.weights) if chosen.weights else None
        return FeatureOptions(weights, chosen.resize, chosen.precision, chosen.download, own)

    def _fields(self) -> tuple[dict[str, Any], str]:
        """The protocol fields of the extractor and "", or {} and why it cannot be used."""
        try:
            return features.protocol_fields(self.extractor, data.origin(self.data.entry), self.options), ""
        except DataError as error:
            return {}, str(error)

    def _declared(self, index: int, name: str) -> Metric:
        try:
            return metrics.get(name)
        except GenbenchError as error:
            raise self.suite.error(("metrics", index), str(error)) from None

    def _why_not(self, metric: Metric, capabilities: Capabilities) -> str:
        unusable = self.unusable if metric.reads.through_extractor else ""
        return metric.reads.why_not(metric, self.setting, capabilities) or unusable

    def metric_plans(
        self, facts: Facts, capabilities: Capabilities, counts: Mapping[str, int | None], only_features: bool
    ) -> Iterator[MetricPlan]:
        """The metrics of one row. only_features: without those that read no features."""
        for metric in self.metrics:
            if metric.name not in self.left_out and (metric.reads.through_extractor or not only_features):
                yield self._metric(metric, facts, capabilities, counts)

    def _metric(
        self, metric: Metric, facts: Facts, capabilities: Capabilities, counts: Mapping[str, int | None]
    ) -> MetricPlan:
        reason = self._why_not(metric, capabilities) or too_few(metric, counts)
        similar = {} if reason else self._similarity(metric)
        key = planned_key(metric, facts, similar)
        beside = short_name(self.extractor) if self.several and metric.reads.through_extractor else ""
        return MetricPlan(column_name(metric.name, beside), key, reason, similar, metric.source)

    def _similarity(self, metric: Metric) -> dict[str, Any]:
        """The protocol fields of the distance between images that the metric reads, {} for none."""
        name = metric.similarity_for(self.extractor)
        if not name:
            return {}
        try:
            return similarity.protocol_fields(name, data.origin(self.data.entry), self.options)
        except DataError as error:
            index = self.metrics.index(metric)
            raise self.suite.error(("metrics", index), f"{metric.name}: {error}") from None


def without_empty_columns(views: list[PlannedView]) -> list[PlannedView]:
    """The views of a dataset, each without the metrics that its extractor cannot give and another one can."""
    nowhere = set.intersection(*(view.unable for view in views))
    for view in views:
        view.left_out = frozenset(view.unable - nowhere)
    return views


def refuse_unusable(suite: Suite, tables: Sequence[tuple[Loc, Sequence[PlannedView]]]) -> None:
    """SuiteError for an extractor that can be used with no dataset, and for a dataset that can be used with none.

    tables: the views of each dataset, with its place in the file.
    """
    written = suite.source.data
    unwritten = isinstance(written, dict) and "features" not in written
    for same in zip(*(views for _, views in tables), strict=True):
        if all(view.unusable for view in same):
            raise suite.error(tables[0][0] if unwritten else same[0].at, same[0].unusable)
    for at, views in tables:
        if all(view.unusable for view in views):
            names = ", ".join(short_name(view.extractor) for view in views)
            several = f"and `features: [{names}, pixels]` with each of these datasets"
            raise suite.error(at, f"{views[0].data.name}: {views[0].unusable}, {several}")
