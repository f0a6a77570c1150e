"""From a suite to its cells: what each trains, draws and measures, under which key, and what does not apply and why.

Keys form a chain, each the hash of all that a result depends on:
    weights <- code, config, recipe, budget, seed, data;  samples <- weights, sampler, count;  features <- samples,
    extractor;  value <- features, reference, metric.
So a changed metric measures again and never trains again.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

from genbench import data, features, metrics
from genbench.contract import Model, Translates, override
from genbench.draw.blocks import DRAW_VERSION
from genbench.errors import DataError, ModelError, SuiteError
from genbench.features import FeatureOptions, similarity
from genbench.keys import content_hash, digest, file_hash
from genbench.metrics.base import (
    AGAINST_REFERENCE,
    COST,
    LIKELIHOOD,
    OF_SAMPLES,
    PATHS,
    THROUGH_EXTRACTOR,
    TRANSLATION,
    Metric,
)
from genbench.plan.applies import Setting, similarity_name
from genbench.plan.cells import Cell, DataPlan, FitPlan, MetricPlan, Network
from genbench.plan.code_hash import code_hash
from genbench.registry import nearest, resolve_model
from genbench.sources import scale
from genbench.suite.schema import ModelEntry, Suite, check_options
from genbench.train.loop import TRAIN_VERSION


@dataclass(frozen=True)
class Plan:
    """A suite's cells in order, and the trainings they need."""

    suite: Suite
    data: DataPlan
    cells: tuple[Cell, ...]

    @property
    def fits(self) -> list[FitPlan]:
        """Every training once."""
        return list({c.fit.key: c.fit for c in self.cells if c.fit is not None}.values())


def make_plan(
    suite: Suite,
    *,
    models: Collection[str] | None = None,
    seeds: Collection[int] | None = None,
    limit_images: int | None = None,
    machine: str = "",
) -> Plan:
    """The cells of a suite.

    models, seeds: only these labels and seeds. limit_images: cap on every budget and on the number of samples and
    held-out images. machine: what timings depend on. Raises SuiteError for what cannot be run.
    """
    suite = _limited(suite, limit_images)
    labels = [entry.label for entry in suite.models]
    for label in models or ():
        if label not in labels:
            raise SuiteError(f"--models: unknown '{label}'{nearest(label, labels) or ';'} allowed: {', '.join(labels)}")
    dataset = _plan_data(suite)
    planner = _Planner(suite, dataset, limit_images, machine)
    planner.refuse_impossible_metrics()
    wanted = [i for i, label in enumerate(labels) if models is None or label in models]
    chosen = [s for s in suite.seeds if s in seeds] if seeds else suite.seeds
    if not chosen:
        raise SuiteError(f"--seeds: none of them is in the suite; allowed: {', '.join(map(str, suite.seeds))}")
    cells = [planner.model_cell(i, seed) for i in wanted for seed in chosen]
    cells += [planner.scale_cell(label, chosen[0]) for label in scale.ROWS]
    return Plan(suite, dataset, tuple(cells))


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


def _plan_data(suite: Suite) -> DataPlan:
    entry = suite.dataset.model_dump(exclude_none=True)
    try:
        spec, fingerprint = data.describe(entry, suite.folder)
        identity(suite, entry)
    except DataError as error:
        raise suite.error(("dataset",), str(error)) from None
    return DataPlan(entry, suite.folder, spec, fingerprint, suite.reference)


def extraction(suite: Suite) -> FeatureOptions:
    """The suite's choices for its extractor."""
    chosen = suite.extraction
    weights = suite.path(chosen.weights) if chosen.weights else None
    return FeatureOptions(weights, chosen.resize, chosen.precision, chosen.download)


def identity(suite: Suite, entry: dict[str, Any]) -> dict[str, Any]:
    """The protocol fields of the suite's extractor."""
    return features.identity(suite.features, data.origin(entry), extraction(suite))


class _Planner:
    def __init__(self, suite: Suite, dataset: DataPlan, limit: int | None, machine: str) -> None:
        self.suite, self.data, self.limit, self.machine = suite, dataset, limit, machine
        self.metrics = [metrics.get(name) for name in suite.metrics]
        self.extractor = identity(suite, dataset.entry)
        self.setting = Setting(suite.features, dataset.entry, dataset.spec)
        self.kinds = [self._kind(i, e) for i, e in enumerate(suite.models)]

    def refuse_impossible_metrics(self) -> None:
        for i, metric in enumerate(self.metrics):
            reasons = [self._why_not(metric, j) for j in range(len(self.kinds))]
            if all(reasons):
                raise self.suite.error(
                    ("metrics", i), f"{metric.name}: no model of this suite can give it; {reasons[0]}"
                )

    def _why_not(self, metric: Metric, index: int) -> str:
        kind, file = self.kinds[index], self.suite.models[index].samples
        return self.setting.why_not(metric, kind, file is not None and data.has_labels(self.suite.path(file)))

    def similarity(self, metric: Metric) -> dict[str, Any]:
        """The protocol fields of the distance between images that the metric reads."""
        name, index = similarity_name(metric, self.suite.features), self.metrics.index(metric)
        try:
            return similarity.identity(name, data.origin(self.data.entry), extraction(self.suite))
        except DataError as error:
            raise self.suite.error(("metrics", index), f"{metric.name}: {error}") from None

    def model_cell(self, index: int, seed: int) -> Cell:
        entry, kind = self.suite.models[index], self.kinds[index]
        if entry.samples is not None:
            file = self.suite.path(entry.samples)
            return self._cell(entry, seed, kind, digest({"file": content_hash(file)}), samples=file)
        assert kind is not None
        network, owner = self._network(index), self._trained(index)
        fit, given = self._fit(owner, seed), self.suite.models[owner].weights
        path = self.suite.path(given) if given else None
        weights_key = fit.key if fit else digest({"file": file_hash(path)}) if path else ""
        sampler = asdict(override(kind.Sampler(), network.sampler))
        key = digest({
            "draw": DRAW_VERSION, "weights": weights_key, "code": code_hash(kind), "sampler": sampler, "seed": seed,
            "config": network.config, "n": self.suite.samples, "block": self.suite.block,
            "precision": self.suite.precision, "spec": asdict(self.data.spec),
        })  # fmt: skip
        return self._cell(
            entry, seed, kind, key,
            network=network, fit=fit, weights=path, weights_key=weights_key, family=kind.family,
            translates=issubclass(kind, Translates),
        )  # fmt: skip

    def scale_cell(self, label: str, seed: int) -> Cell:
        key = digest({
            "scale": scale.SCALE_VERSION, "row": label, "data": self.data.fingerprint, "n": self.suite.samples,
            "seed": seed,
        })  # fmt: skip
        planned = tuple(self._metric(m, key, key, self.setting.why_not_scale(m, label)) for m in self.metrics)
        return self._base(label, "scale", seed, planned, key)

    def _cell(self, entry: ModelEntry, seed: int, kind: type[Model] | None, key: str, **more: Any) -> Cell:
        weights_key = more.get("weights_key", "")
        index = self.suite.models.index(entry)
        planned = tuple(self._metric(m, key, weights_key, self._why_not(m, index)) for m in self.metrics)
        cell = self._base(entry.label, "model", seed, planned, key)
        return replace(cell, **more)

    def _base(self, label: str, role: str, seed: int, planned: tuple[MetricPlan, ...], key: str) -> Cell:
        s = self.suite
        return Cell(
            label, role, seed, self.data, s.samples, s.block, s.precision, s.features, extraction(s), planned, key,
            likelihood_images=s.likelihood_images, speed_batch=s.speed.batch, speed_seconds=s.speed.seconds,
        )  # fmt: skip

    def _metric(self, metric: Metric, samples_key: str, weights_key: str, reason: str) -> MetricPlan:
        depends: dict[str, Any] = {"metric": metric.name, "version": metric.version, "protocol": metric.protocol}
        depends["data"] = self.data.fingerprint
        if metric.reads in (*OF_SAMPLES, PATHS, TRANSLATION):
            depends |= {"samples": samples_key, "weights": weights_key}
        if metric.reads in (*THROUGH_EXTRACTOR, PATHS, TRANSLATION):
            depends |= {"extractor": self.extractor}
        if similarity_name(metric, self.suite.features):
            depends |= self.similarity(metric)
        if metric.reads in AGAINST_REFERENCE:
            depends |= {"reference": self.data.reference}
        if metric.reads == LIKELIHOOD:
            depends |= {"weights": weights_key, "samples": samples_key, "images": self.suite.likelihood_images}
        if metric.reads == COST:
            depends |= {"samples": samples_key, "machine": self.machine, "speed": self.suite.speed.model_dump()}
        return MetricPlan(metric.name, digest(depends), reason)

    def _kind(self, index: int, entry: ModelEntry) -> type[Model] | None:
        if entry.samples is not None:
            return None
        try:
            kind: type[Model] = resolve_model(entry.name, entry.source, self.suite.folder)
            preset = kind.preset(self.data.spec)
        except ModelError as error:
            raise self.suite.error(("models", index, "source" if entry.source else "name"), str(error)) from None
        except ValueError as error:
            raise self.suite.error(("models", index), str(error)) from None
        self._check(index, "config", entry.config, preset)
        self._check(index, "sampler", entry.sampler, kind.Sampler())
        lacking = self.setting.lacking(kind)
        if lacking:
            raise self.suite.error(("models", index), f"{kind.__name__} {lacking}")
        return kind

    def _check(self, index: int, key: str, changes: dict[str, Any], options: Any) -> None:
        check_options(self.suite, ("models", index, key), changes, type(options))
        try:
            override(options, changes)
        except (ModelError, ValueError) as error:
            raise self.suite.error(("models", index, key), str(error)) from None

    def _trained(self, index: int) -> int:
        of = self.suite.models[index].weights_of
        return index if of is None else [e.label for e in self.suite.models].index(of)

    def _network(self, index: int) -> Network:
        entry, owner = self.suite.models[index], self.suite.models[self._trained(index)]
        config = {**owner.config, **entry.config}
        return Network(entry.name, entry.source, self.suite.folder, config, entry.sampler, self._code(index))

    def _code(self, index: int) -> str:
        kind = self.kinds[index]
        assert kind is not None
        return code_hash(kind)

    def _fit(self, index: int, seed: int) -> FitPlan | None:
        suite, entry, kind = self.suite, self.suite.models[index], self.kinds[index]
        assert kind is not None
        if entry.weights is not None:
            return None
        recipe = override(kind.recipe(self.data.spec), entry.train.changes())
        images = min(suite.images(entry) or recipe.images, self.limit or math.inf)
        if self.limit is not None and suite.trial.train_batch is not None:
            recipe = override(recipe, {"batch": min(recipe.batch, suite.trial.train_batch)})
        config = asdict(override(kind.preset(self.data.spec), entry.config))
        key = digest({
            "train": TRAIN_VERSION, "code": code_hash(kind), "config": config, "recipe": asdict(recipe),
            "images": images, "seed": seed, "precision": suite.precision, "compile": suite.compile,
            "data": self.data.fingerprint,
        })  # fmt: skip
        network = Network(entry.name, entry.source, suite.folder, entry.config, code=self._code(index))
        label = entry.label
        return FitPlan(key, label, network, recipe, int(images), seed, suite.precision, suite.compile)
