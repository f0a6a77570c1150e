"""What a worker does for one cell: train, draw, extract, measure. Every step leaves its artefact in the store."""

from __future__ import annotations

import csv
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench import data, features, metrics, scale
from genbench.batches import Batches
from genbench.build import build, read_weights, write_weights
from genbench.contract import ExactLikelihood, LikelihoodBound, Model
from genbench.draw import draw
from genbench.errors import CellFailure, GenbenchError
from genbench.metrics.base import COST, FEATURES, LIKELIHOOD, PROBABILITIES, Metric, Value
from genbench.metrics.cost import measure_cost
from genbench.plan import Cell, DataPlan, FitPlan, MetricPlan, Network
from genbench.progress import Progress, Report
from genbench.records import BOUND, EXACT, FAILED, NOT_APPLICABLE, Record, digest, processor_name, protocol_hash
from genbench.screen import duration
from genbench.seeds import stream_seed
from genbench.space import seeded
from genbench.store import FEATURES as FEATURES_KIND
from genbench.store import LIKELIHOODS, SAMPLES, VALUES, WEIGHTS, Store, file_hash
from genbench.train import FitOptions, fit

LIKELIHOOD_BATCH = 100


@dataclass(frozen=True)
class Measured:
    """A value with what only measuring it tells: counts, protocol, seconds and device."""

    value: Value
    n_fake: int | None
    n_real: int | None
    protocol: dict[str, Any]
    seconds: float
    device: str


def device_name(device: str) -> str:
    """What the numbers were measured on, e.g. "NVIDIA H100" or a processor with the number of threads."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    if torch.device(device).type == "mps":
        return f"{processor_name()} (mps)"
    return processor_name()


def fit_weights(plan: FitPlan, dataset: DataPlan, store: Store, device: str, report: Report) -> None:
    """Trains and keeps the weights and loss curves, unless they are there already."""
    with store.lock(WEIGHTS, plan.key):
        if store.intact(WEIGHTS, plan.key):
            return
        model = _build(plan.network, dataset, plan.seed).to(device)
        train = data.load(dataset.entry, dataset.folder).train
        labels = None if train.labels is None else train.labels.to(device)
        batches = Batches(train.pixels.to(device), labels, dataset.spec.levels, plan.seed, plan.recipe.flip)
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


def _build(network: Network, dataset: DataPlan, seed: int) -> Model:
    return build(network.resolve(), dataset.spec, network.config, network.sampler, stream_seed(seed, "weights"))


class CellWork:
    """One cell at work: loads lazily what a metric asks for, and keeps every artefact."""

    def __init__(self, cell: Cell, store: Store, device: str, report: Report) -> None:
        self.cell, self.store, self.device, self.report = cell, store, device, report

    @cached_property
    def dataset(self) -> data.Dataset:
        """The suite's dataset."""
        return data.load(self.cell.data.entry, self.cell.data.folder)

    @cached_property
    def extractor(self) -> features.Extractor:
        """The suite's feature extractor on the device."""
        return features.load(self.cell.extractor, self.cell.data.entry["name"], self.device)

    @cached_property
    def model(self) -> Model:
        """The cell's model with its weights, in eval mode."""
        cell = self.cell
        assert cell.network is not None
        model = _build(cell.network, cell.data, cell.seed)
        path = cell.weights or self.store.path(WEIGHTS, cell.weights_key) / "model.safetensors"
        if cell.weights is None and not self.store.intact(WEIGHTS, cell.weights_key):
            raise CellFailure("its weights are not there: training failed or was not run")
        read_weights(model, path)
        return model.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @cached_property
    def samples(self) -> Tensor:
        """The cell's images (n, C, H, W) uint8, drawn once and kept."""
        key = self.cell.samples_key
        with self.store.lock(SAMPLES, key):
            if not self.store.intact(SAMPLES, key):
                pixels, meta = self._make_samples()
                with self.store.writing(SAMPLES, key, meta) as folder:
                    np.save(folder / "pixels.npy", pixels.numpy())
        return torch.from_numpy(np.load(self.store.path(SAMPLES, key) / "pixels.npy"))

    def _make_samples(self) -> tuple[Tensor, dict[str, Any]]:
        cell = self.cell
        if cell.samples is not None:
            pixels = data.read_images(cell.samples, cell.data.spec).pixels
            return pixels, {"file": str(cell.samples)}
        if cell.role == "scale":
            return scale.ROWS[cell.label].samples(self.dataset, cell.n, cell.seed), {}
        scratch = self.store.scratch(SAMPLES, cell.samples_key)
        drawn = draw(self.model, cell.n, cell.seed, block=cell.block, precision=cell.precision, scratch=scratch,
                     report=self.report)  # fmt: skip
        return drawn.pixels, {
            "evaluations": drawn.evaluations,
            "non_finite": drawn.non_finite,
            "seconds": drawn.seconds,
        }

    @cached_property
    def fake(self) -> features.Features:
        """Features of the samples."""
        return self._features(self.cell.samples_key, lambda: self.samples)

    @cached_property
    def real(self) -> features.Features:
        """Features of the reference split."""
        plan = self.cell.data
        key = digest({"data": plan.fingerprint, "split": plan.reference})
        return self._features(key, lambda: getattr(self.dataset, plan.reference).pixels)

    def _features(self, source: str, pixels: Callable[[], Tensor]) -> features.Features:
        identity = features.identity(self.cell.extractor, self.cell.data.entry["name"])
        key = digest({"pixels": source, **identity})
        with self.store.lock(FEATURES_KIND, key):
            if not self.store.intact(FEATURES_KIND, key):
                found = self.extractor(pixels(), self.cell.data.spec.levels)
                arrays = {k: v for k, v in vars(found).items() if v is not None}
                with self.store.writing(FEATURES_KIND, key, identity) as folder:
                    np.savez(folder / "features.npz", **arrays)
        with np.load(self.store.path(FEATURES_KIND, key) / "features.npz") as kept:
            return features.Features(kept["vectors"], kept.get("probabilities"))

    @cached_property
    def log_probs(self) -> tuple[np.ndarray, str]:
        """Log-probabilities of held-out images in nats (N,), and the kind of number they are."""
        cell = self.cell
        pixels = self.dataset.test.pixels[: cell.likelihood_images]
        if cell.role == "scale":
            row = scale.ROWS[cell.label].log_prob
            assert row is not None
            return np.asarray(row(self.dataset, pixels, cell.seed)), EXACT
        kind = EXACT if isinstance(self.model, ExactLikelihood) else BOUND
        key = digest({"samples": cell.samples_key, "images": len(pixels)})
        with self.store.lock(LIKELIHOODS, key):
            if not self.store.intact(LIKELIHOODS, key):
                values = self._log_probs(pixels)
                with self.store.writing(LIKELIHOODS, key, {"kind": kind}) as folder:
                    np.save(folder / "log_probs.npy", values)
        return np.load(self.store.path(LIKELIHOODS, key) / "log_probs.npy"), kind

    @torch.inference_mode()
    def _log_probs(self, pixels: Tensor) -> np.ndarray:
        ask = self.model.log_prob if isinstance(self.model, ExactLikelihood) else None
        ask = self.model.log_prob_bound if isinstance(self.model, LikelihoodBound) else ask
        assert ask is not None
        gen, parts, start = seeded(stream_seed(self.cell.seed, "likelihood"), self.device), [], time.perf_counter()
        for i, part in enumerate(pixels.split(LIKELIHOOD_BATCH)):
            parts.append(ask(part.to(self.device), gen).double().cpu())
            done = min(len(pixels), (i + 1) * LIKELIHOOD_BATCH)
            self.report(Progress("likelihood", done, len(pixels), "images", done / (time.perf_counter() - start)))
        return torch.cat(parts).numpy()

    def measure(self, metric: Metric) -> Measured:
        """One value with its protocol."""
        start = time.perf_counter()
        if metric.reads == FEATURES:
            value = metric.compute(fake=self.fake.vectors, real=self.real.vectors)
            counts: tuple[int | None, int | None] = (len(self.fake.vectors), len(self.real.vectors))
        elif metric.reads == PROBABILITIES:
            value, counts = metric.compute(probabilities=self.fake.probabilities), (len(self.fake.vectors), None)
        elif metric.reads == LIKELIHOOD:
            log_probs, kind = self.log_probs
            value = metric.compute(log_probs=log_probs, dims=self.cell.data.spec.dims, kind=kind)
            counts = (None, len(log_probs))
        else:
            value, counts = metric.compute(cost=self.cost), (None, None)
        protocol = self.protocol(metric, *counts)
        return Measured(value, *counts, protocol, time.perf_counter() - start, device_name(self.device))

    @cached_property
    def cost(self) -> Any:
        """Throughput, latency and memory of sampling."""
        cell = self.cell
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=cell.precision == "bf16"):
            return measure_cost(self.model, seed=cell.seed, batch=cell.speed_batch, seconds=cell.speed_seconds)

    def protocol(self, metric: Metric, n_fake: int | None, n_real: int | None) -> dict[str, Any]:
        """Everything that decides the number; records.MODEL_SIDE fields are those in which models may differ."""
        plan, cell = self.cell.data, self.cell
        protocol: dict[str, Any] = {"dataset": plan.entry["name"], "dataset_fingerprint": plan.fingerprint}
        if metric.reads in (FEATURES, PROBABILITIES):
            protocol |= features.identity(cell.extractor, plan.entry["name"])
            protocol |= {"n_fake": n_fake, "quantisation": f"uint8, {plan.spec.levels} levels"}
        if metric.reads == FEATURES:
            protocol |= {"reference": plan.reference, "n_real": n_real}
        if metric.reads == LIKELIHOOD:
            protocol |= {"split": "test", "n_real": n_real, "levels": plan.spec.levels, "dims": plan.spec.dims}
        if metric.reads == COST:
            protocol |= {"torch": torch.__version__, **self.cost.protocol}
        return {**protocol, **metric.protocol, **self._model_side(), **self._non_finite()}

    def _model_side(self) -> dict[str, Any]:
        cell = self.cell
        side: dict[str, Any] = {"precision": cell.precision}
        if cell.network is None:
            return {}
        side |= {"config": asdict(self.model.config), "sampler": asdict(self.model.sampler)}
        side |= {"evaluations": self.model.evaluations}
        side |= {"caveat": self.model.caveat} if self.model.caveat else {}
        if cell.fit is None:
            return {**side, "weights_file": file_hash(cell.weights) if cell.weights else ""}
        seen = self.store.meta(WEIGHTS, cell.weights_key)["images"]
        return {**side, "ema": cell.fit.recipe.ema, "images_seen": seen}

    def _non_finite(self) -> dict[str, Any]:
        key = self.cell.samples_key
        bad = self.store.meta(SAMPLES, key).get("non_finite", 0) if self.store.has(SAMPLES, key) else 0
        return {"non_finite_samples": bad} if bad else {}


def evaluate(
    cell: Cell, costs: bool, suite: tuple[str, int], store: Store, device: str, report: Report
) -> list[Record]:
    """Records of the cell's metrics that do (costs) or do not time the machine; a failure is a record too."""
    work = CellWork(cell, store, device, report)
    records = []
    for planned in cell.metrics:
        metric = metrics.get(planned.name)
        if (metric.reads == COST) == costs:
            with store.lock(VALUES, planned.key):  # two cells may have the very same samples
                records.append(_measure_one(work, planned, metric, suite))
    return records


def _measure_one(work: CellWork, planned: MetricPlan, metric: Metric, suite: tuple[str, int]) -> Record:
    cell, store = work.cell, work.store
    kept = stored_record(cell, planned, suite, store)
    if kept is not None:
        return kept
    work.report(Progress(f"measure {metric.name}", 0, 0))
    try:
        measured = work.measure(metric)
        if not math.isfinite(measured.value.value):
            raise CellFailure(f"the value is {measured.value.value}")
    except Exception as error:
        return failed_record(cell, planned, suite, explain(error))
    with store.writing(VALUES, planned.key, {"metric": metric.name}) as folder:
        (folder / "value.json").write_text(json.dumps(asdict(measured)))
    return _record(cell, planned, suite, asdict(measured))


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
    more = {k: v for k, v in kept.items() if k != "value"} | kept["value"]
    return _base(cell, planned, suite, protocol_hash=protocol_hash(kept["protocol"]), **more)


def _base(cell: Cell, planned: MetricPlan, suite: tuple[str, int], **more: Any) -> Record:
    metric = metrics.get(planned.name)
    return Record(
        *suite, cell.id, cell.label, cell.data.entry["name"], cell.seed, metric.name, metric.version,
        unit=metric.unit, better=metric.better, role=cell.role, family=cell.family, key=planned.key, **more,
    )  # fmt: skip


def explain(error: BaseException) -> str:
    """An exception as one sentence for a record."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, CellFailure | GenbenchError):
        return text
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "out of memory" in text.lower():
        return f"out of memory: {text}" if text else "out of memory"
    return f"{type(error).__name__}: {text}"


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


def use_threads(count: int) -> None:
    """Gives this process `count` cores."""
    torch.set_num_threads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)
