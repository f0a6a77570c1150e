"""What a worker does for one cell: train, draw, extract, measure. Every step leaves its artefact in the store."""

from __future__ import annotations

import csv
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genbench import data, metrics
from genbench.errors import CellFailure, TooFewSamples
from genbench.evaluate.cell_inputs import CellInputs, build_network
from genbench.evaluate.readings import measure, sample_protocol
from genbench.keys import file_hash
from genbench.machine import device_name, explain
from genbench.metrics.base import COST, LIKELIHOOD, OF_SAMPLES, TRANSLATION, Metric, Value
from genbench.metrics.cost import cost_protocol
from genbench.plan.cells import Cell, DataPlan, FitPlan, MetricPlan
from genbench.progress import Progress, Report
from genbench.records import FAILED, NOT_APPLICABLE, Record, protocol_hash
from genbench.screen import duration
from genbench.sources.build import write_weights
from genbench.store import SAMPLES, VALUES, WEIGHTS, Store
from genbench.train.batches import Batches
from genbench.train.loop import FitOptions, fit


@dataclass(frozen=True)
class Measured:
    """A value with what only measuring it tells: counts, protocol, the linter's warnings, seconds and device."""

    value: Value
    n_fake: int | None
    n_real: int | None
    protocol: dict[str, Any]
    warnings: tuple[str, ...]
    seconds: float
    device: str


def fit_weights(plan: FitPlan, dataset: DataPlan, store: Store, device: str, report: Report) -> None:
    """Trains and keeps the weights and loss curves, unless they are there already."""
    with store.lock(WEIGHTS, plan.key):
        if store.intact(WEIGHTS, plan.key):
            return
        model = build_network(plan.network, dataset, plan.seed).to(device)
        batches = _batches(data.load(dataset.entry, dataset.folder), plan, device)
        options = FitOptions(plan.images, plan.seed, plan.precision, plan.compile)
        fitted = fit(model, batches, plan.recipe, options, store.scratch(WEIGHTS, plan.key), report)
        meta = {"label": plan.label, "steps": fitted.steps, "images": fitted.images, "seconds": fitted.seconds}
        meta |= {"device": device_name(device), "config": asdict(model.config), "recipe": asdict(plan.recipe)}
        with store.writing(WEIGHTS, plan.key, meta) as folder:
            write_weights(model, folder / "model.safetensors")
            with (folder / "curves.csv").open("w", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(["stage", "step", "images", "seconds", "name", "value"])
                rows.writerows(asdict(point).values() for point in fitted.curves)


def _batches(dataset: data.Dataset, plan: FitPlan, device: str) -> Batches:
    train, source = dataset.train, dataset.source
    labels = None if train.labels is None else train.labels.to(device)
    other = None if source is None else source.train.pixels.to(device)
    levels, flip = dataset.spec.levels, plan.recipe.flip
    return Batches(train.pixels.to(device), labels, levels, plan.seed, flip, dataset.captions, other)


def measure_one(inputs: CellInputs, metric: Metric) -> Measured:
    """One value with its protocol."""
    start = time.perf_counter()
    value, n_fake, n_real = measure(metric, inputs)
    protocol = cell_protocol(inputs, metric, n_fake, n_real)
    warnings = inputs.warnings if metric.reads in OF_SAMPLES else ()
    seconds = time.perf_counter() - start
    return Measured(value, n_fake, n_real, protocol, warnings, seconds, device_name(inputs.device))


def cell_protocol(inputs: CellInputs, metric: Metric, n_fake: int | None, n_real: int | None) -> dict[str, Any]:
    """Everything that decides the number; records.MODEL_SIDE fields are those in which models may differ."""
    plan = inputs.cell.data
    fields: dict[str, Any] = {"dataset": plan.entry["name"], "dataset_fingerprint": plan.fingerprint}
    fields |= sample_protocol(metric, inputs.identity, plan.spec.levels, plan.reference, n_fake, n_real)
    if metric.reads == TRANSLATION:
        fields |= inputs.identity | {"pairs": "test", "n_fake": n_fake, "levels": plan.spec.levels}
    fields |= inputs.similarity_identity(metric)
    if metric.reads == LIKELIHOOD:
        fields |= {"split": "test", "n_real": n_real, "levels": plan.spec.levels, "dims": plan.spec.dims}
    if metric.reads == COST:
        fields |= cost_protocol(metric.name, inputs.cost)
    return {**fields, **metric.protocol, **_model_side(inputs), **_non_finite(inputs)}


def _model_side(inputs: CellInputs) -> dict[str, Any]:
    cell = inputs.cell
    if cell.network is None:
        return {}
    model = inputs.model
    side: dict[str, Any] = {"precision": cell.precision, "config": asdict(model.config)}
    side |= {"sampler": asdict(model.sampler), "evaluations": model.evaluations}
    side |= {"caveat": model.caveat} if model.caveat else {}
    if cell.fit is None:
        return {**side, "weights_file": file_hash(cell.weights) if cell.weights else ""}
    seen = inputs.store.meta(WEIGHTS, cell.weights_key)["images"]
    return {**side, "ema": cell.fit.recipe.ema, "images_seen": seen}


def _non_finite(inputs: CellInputs) -> dict[str, Any]:
    store, key = inputs.store, inputs.cell.samples_key
    bad = store.meta(SAMPLES, key).get("non_finite", 0) if store.has(SAMPLES, key) else 0
    return {"non_finite_samples": bad} if bad else {}


def evaluate(
    cell: Cell, costs: bool, suite: tuple[str, int], store: Store, device: str, report: Report
) -> list[Record]:
    """Records of the cell's metrics that do (costs) or do not time the machine; a failure is a record too."""
    inputs = CellInputs(cell, store, device, report)
    records = []
    for planned in cell.metrics:
        metric = metrics.get(planned.name)
        if (metric.reads == COST) == costs:
            with store.lock(VALUES, planned.key):  # two cells may have the very same samples
                records.append(_measure_one(inputs, planned, metric, suite))
    return records


def _measure_one(inputs: CellInputs, planned: MetricPlan, metric: Metric, suite: tuple[str, int]) -> Record:
    cell, store = inputs.cell, inputs.store
    kept = stored_record(cell, planned, suite, store)
    if kept is not None:
        return kept
    inputs.report(Progress(f"measure {metric.name}", 0, 0))
    try:
        measured = measure_one(inputs, metric)
        if not math.isfinite(measured.value.value):
            raise CellFailure(f"the value is {measured.value.value}")
        found = asdict(measured)
    except TooFewSamples as error:
        found = {"reason": explain(error)}
    except Exception as error:
        return failed_record(cell, planned, suite, explain(error))
    with store.writing(VALUES, planned.key, {"metric": metric.name}) as folder:
        (folder / "value.json").write_text(json.dumps(found))
    return _record(cell, planned, suite, found)


def stored_record(cell: Cell, planned: MetricPlan, suite: tuple[str, int], store: Store) -> Record | None:
    """The record of a metric that does not apply or whose value the store holds; None when it must be measured."""
    if planned.reason:
        return _base(cell, planned, suite, status=NOT_APPLICABLE, reason=planned.reason)
    if not store.has(VALUES, planned.key):
        return None
    return _record(cell, planned, suite, json.loads((store.path(VALUES, planned.key) / "value.json").read_text()))


def failed_record(cell: Cell, planned: MetricPlan, suite: tuple[str, int], reason: str) -> Record:
    """The record of a metric that could not be measured."""
    return _base(cell, planned, suite, status=FAILED, reason=reason)


def _record(cell: Cell, planned: MetricPlan, suite: tuple[str, int], kept: dict[str, Any]) -> Record:
    if "reason" in kept:
        return _base(cell, planned, suite, status=NOT_APPLICABLE, reason=kept["reason"])
    more = {k: v for k, v in kept.items() if k != "value"} | kept["value"] | {"warnings": tuple(kept["warnings"])}
    return _base(cell, planned, suite, protocol_hash=protocol_hash(kept["protocol"]), **more)


def _base(cell: Cell, planned: MetricPlan, suite: tuple[str, int], **more: Any) -> Record:
    metric = metrics.get(planned.name)
    return Record(
        *suite, cell.id, cell.label, cell.data.entry["name"], cell.seed, metric.name, metric.version,
        unit=metric.unit, better=metric.better, role=cell.role, family=cell.family, key=planned.key, **more,
    )  # fmt: skip


def train_task(fit: FitPlan, dataset: DataPlan, root: Path, device: str, report: Report) -> str:
    """Trains in a worker; returns a line for the screen."""
    store = Store(root)
    fit_weights(fit, dataset, store, device, report)
    meta = store.meta(WEIGHTS, fit.key)
    return f"{meta['images']:,} images in {duration(meta['seconds'])}"


def evaluate_task(
    cell: Cell, costs: bool, suite: tuple[str, int], root: Path, device: str, report: Report
) -> list[Record]:
    """Evaluates in a worker."""
    return evaluate(cell, costs, suite, Store(root), device, report)
