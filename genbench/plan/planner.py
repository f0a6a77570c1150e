"""From a suite to its cells: what each one trains, draws and measures, its keys, and what does not apply and why.

Keys form a chain; each is the hash of everything that a result depends on:
    weights <- code, config, recipe, budget, seed, data;  samples <- weights, sampler, count;  features <- samples,
    extractor;  value <- features, reference, metric.
A changed metric is therefore measured again, and nothing is trained again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from genbench import data, features, metrics
from genbench.errors import DataError, GenbenchError, SuiteError
from genbench.features import FeatureOptions, similarity
from genbench.keys import value_key
from genbench.metrics.base import Metric, too_few
from genbench.metrics.facts import Capabilities, Facts
from genbench.options import nearest
from genbench.plan.applies import suite_setting
from genbench.plan.cells import Cell, MetricPlan, SuiteVersion
from genbench.plan.pins import pinned_suite
from genbench.plan.rows import SuiteRows
from genbench.plan.trial import refuse_impossible_rows
from genbench.provenance import Provenance, provenance
from genbench.sources import scale
from genbench.sources.base import DataPlan, Drawing, Source
from genbench.sources.scale_row import ScaleRow
from genbench.sources.trained import Fit, Trained
from genbench.suite.schema import Suite, check_suite_options


@dataclass(frozen=True)
class Plan:
    """A suite's cells in order, and the trainings they need."""

    suite: Suite
    data: DataPlan
    cells: tuple[Cell, ...]
    limit_images: int | None = None

    @property
    def rows(self) -> list[str]:
        """The ids of all cells of the suite in order, including those that were not chosen."""
        suite, name = self.suite, self.data.name
        rows = [f"{entry.label}/{name}/s{seed}" for entry in suite.models for seed in suite.seeds]
        return rows + [f"{label}/{name}/s{suite.seeds[0]}" for label in scale.SCALE_ROWS]

    @property
    def fits(self) -> list[Fit]:
        """Every training once."""
        return list({c.source.fit.key: c.source.fit for c in self.cells if isinstance(c.source, Trained)}.values())


def make_plan(
    suite: Suite,
    *,
    models: Collection[str] | None = None,
    seeds: Collection[int] | None = None,
    limit_images: int | None = None,
    machine: str = "",
    try_models: bool = False,
) -> Plan:
    """The cells of a suite.

    models, seeds: only these labels and seeds. limit_images: cap on every budget and on the number of samples and
    held-out images. machine: the hardware that timings depend on. try_models: also computes a loss, images and a
    likelihood with each model, as `genbench plan` does; in a run, each training does so first. Raises SuiteError for a
    suite that cannot be run.
    """
    limited = _limited(pinned_suite(suite), limit_images)
    suite = limited.located()
    labels = [entry.label for entry in suite.models]
    for label in models or ():
        if label not in labels:
            raise SuiteError(f"--models: unknown '{label}'{nearest(label, labels) or ';'} allowed: {', '.join(labels)}")
    planner = _Planner(suite, limit_images, machine)
    planner.refuse_impossible_metrics()
    wanted = [i for i, label in enumerate(labels) if models is None or label in models]
    chosen = [s for s in suite.seeds if s in seeds] if seeds else suite.seeds
    if not chosen:
        raise SuiteError(f"--seeds: none of them is in the suite; allowed: {', '.join(map(str, suite.seeds))}")
    refuse_impossible_rows(planner.rows, wanted, try_models)
    cells = [planner.cell(planner.rows.source(i, seed), seed) for i in wanted for seed in chosen]
    cells += [planner.cell(ScaleRow(label), suite.seeds[0]) for label in scale.SCALE_ROWS]
    _refuse_nothing(suite, cells)
    return Plan(limited, planner.data, tuple(cells), limit_images)


def _refuse_nothing(suite: Suite, cells: list[Cell]) -> None:
    """SuiteError when no metric can be measured for any row that is ranked."""
    planned = [metric for cell in cells if cell.source.ranked for metric in cell.metrics]
    if planned and all(metric.reason for metric in planned):
        reasons = "; ".join(dict.fromkeys(metric.reason for metric in planned))
        raise suite.error(("metrics",), f"none of them can be measured: {reasons}")


def _limited(suite: Suite, limit: int | None) -> Suite:
    if limit is None:
        return suite
    trial = suite.trial
    samples = min(limit, suite.samples, trial.samples or limit)
    held_out = min(limit, suite.likelihood_images or limit, trial.likelihood_images or limit)
    batch = min(suite.speed.batch, trial.speed_batch or suite.speed.batch)
    speed = suite.speed.model_copy(update={"batch": batch})
    changed = {"samples": samples, "block": min(samples, suite.block), "likelihood_images": held_out, "speed": speed}
    return suite.model_copy(update=changed)


def extraction(suite: Suite) -> FeatureOptions:
    """The suite's choices for its extractor."""
    chosen = suite.extraction
    weights = suite.path(chosen.weights) if chosen.weights else None
    return FeatureOptions(weights, chosen.resize, chosen.precision, chosen.download, chosen.own)


class _Planner:
    def __init__(self, suite: Suite, limit: int | None, machine: str) -> None:
        self.suite, self.machine = suite, machine
        self.entry = {"name": suite.dataset.name, **suite.dataset.options}
        self.data = self._data()
        self.extractor = self._extractor()
        self.metrics = [self._declared(index, name) for index, name in enumerate(suite.metrics)]
        self.setting = suite_setting(suite.features, self.data)
        self.rows = SuiteRows(suite, self.data, limit)
        self.provenance: Provenance = provenance(suite.folder)

    def _data(self) -> DataPlan:
        suite = self.suite
        try:
            declared = data.dataset_source(self.entry)
            check_suite_options(suite, ("dataset",), suite.dataset.options, declared.options, suite.dataset.name)
            spec, fingerprint = data.describe(self.entry, suite.folder)
            sizes = data.sizes(self.entry, suite.folder)
        except DataError as error:
            raise suite.error(("dataset",), str(error)) from None
        return DataPlan(self.entry, suite.folder, spec, fingerprint, suite.reference, sizes)

    def _extractor(self) -> dict[str, Any]:
        """The protocol fields of the extractor."""
        suite = self.suite
        try:
            check_suite_options(
                suite, ("extraction",), suite.extraction.own, features.extractor_source(suite.features).options
            )
            return features.protocol_fields(suite.features, data.origin(self.entry), extraction(suite))
        except DataError as error:
            key = "features" if "features" in suite.model_fields_set else "dataset"
            raise suite.error((key,), str(error)) from None

    def _declared(self, index: int, name: str) -> Metric:
        try:
            return metrics.get(name)
        except GenbenchError as error:
            raise self.suite.error(("metrics", index), str(error)) from None

    def refuse_impossible_metrics(self) -> None:
        able = [self.rows.source(i, 0).capabilities for i in range(len(self.suite.models))]
        names = [metric.name for metric in self.metrics]
        for index, metric in enumerate(self.metrics):
            if metric.name in names[:index]:
                raise self.suite.error(("metrics", index), f"found a second metric '{metric.name}', allowed: once")
            reasons = [self._why_not(metric, capabilities) for capabilities in able]
            if all(reasons):
                message = f"{metric.name}: not available for any model of this suite; {reasons[0]}"
                raise self.suite.error(("metrics", index), message)

    def _why_not(self, metric: Metric, capabilities: Capabilities) -> str:
        return metric.reads.why_not(metric, self.setting, capabilities)

    def cell(self, source: Source, seed: int) -> Cell:
        suite = self.suite
        drawing = Drawing(suite.samples, seed, suite.block, suite.precision)
        facts = self._facts(source, drawing)
        counts = self._counts(source, drawing)
        planned = tuple(self._metric(metric, facts, source.capabilities, counts) for metric in self.metrics)
        return Cell(
            SuiteVersion(suite.suite, suite.version), source, self.data, drawing, suite.features, extraction(suite),
            facts, planned, self.provenance,
        )  # fmt: skip

    def _facts(self, source: Source, drawing: Drawing) -> Facts:
        suite, plan = self.suite, self.data
        return Facts(
            plan.name, plan.fingerprint, plan.spec.levels, plan.spec.dims, plan.reference, self.extractor,
            samples=source.samples_key(plan, drawing), weights=source.weights_key, images=suite.likelihood_images,
            machine=self.machine, speed=suite.speed.model_dump(),
        )  # fmt: skip

    def _counts(self, source: Source, drawing: Drawing) -> dict[str, int | None]:
        """How many images a metric of this source is given, by the names of metrics.base.SETS."""
        drawn = source.count(self.data, drawing)
        train, test = self.data.sizes or (None, None)
        real = train if self.data.reference == "train" else test
        classes = self.data.spec.classes
        sets = {"fake": drawn, "probabilities": drawn, "real": real, "train": train, "held_out": test}
        return sets | {"classes": classes}

    def _metric(
        self, metric: Metric, facts: Facts, capabilities: Capabilities, counts: dict[str, int | None]
    ) -> MetricPlan:
        reason = self._why_not(metric, capabilities) or too_few(metric, counts)
        similar = self._similarity(metric)
        depends = {**metric.reads.depends(facts), "similarity": similar}
        depends |= {"code": metric.code} if metric.code else {}
        key = value_key(metric.name, metric.version, metric.protocol, depends)
        return MetricPlan(metric.name, key, reason, similar, metric.source)

    def _similarity(self, metric: Metric) -> dict[str, Any]:
        """The protocol fields of the distance between images that the metric reads, {} for none."""
        name = metric.similarity_for(self.suite.features)
        if not name:
            return {}
        try:
            return similarity.protocol_fields(name, data.origin(self.entry), extraction(self.suite))
        except DataError as error:
            index = self.metrics.index(metric)
            raise self.suite.error(("metrics", index), f"{metric.name}: {error}") from None
