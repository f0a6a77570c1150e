"""One cell of a suite: the inputs of its metrics, each computed once and kept in the store, and its records."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench import data, features, lint
from genbench.contract import Condition
from genbench.data.image_set import found_from
from genbench.draw.blocks import on_device
from genbench.draw.cost import measure_cost
from genbench.draw.repeats import meter_for
from genbench.evaluate.closest import keep_closest
from genbench.evaluate.measure import Measured, from_plain, measure_metric, to_plain
from genbench.evaluate.one_pass import kept_in_one_pass
from genbench.evaluate.shares import extract_share, joined_shares
from genbench.evaluate.store_inputs import cut_texts, kept_about_reference, kept_texts
from genbench.features import similarity
from genbench.features.together import Extracted, extract_together
from genbench.halving import COARSE, AtOnce
from genbench.keys import features_key, split_key
from genbench.machine import only_made_with
from genbench.metrics.base import Inputs, Metric, OfReference
from genbench.metrics.facts import Images
from genbench.metrics.paths import path_distances
from genbench.metrics.readings import MEMORY, PROMPTS
from genbench.metrics.readings.images import unit_images
from genbench.metrics.translation import Direction, there_and_back
from genbench.plan.cells import Cell, MetricPlan
from genbench.processes.group import Processes
from genbench.progress import Progress, Report, StallWatch, noting, silent
from genbench.records import FAILED, NOT_APPLICABLE, OK, Record
from genbench.sources.base import Opened
from genbench.sources.network import conditions_of
from genbench.store import Kind, Store, default_root
from genbench.team import SOLO, Team
from genbench.text import without_folders, without_secrets

VALUE_FILE, TEXTS_FILE = "value.json", "texts.json"
SAMPLES = "samples"  # the images of the cell, beside the names of splits
PATIENCE = 4.0  # times the seconds of a timing: how long it waits for other processes at most


class CellInputs(Inputs):
    """The inputs of one cell, computed or loaded when a metric first reads them.

    views: those of the same row with each extractor, this one among them; they share images, dataset and model.
    """

    def __init__(
        self, cell: Cell, store: Store, device: str, report: Report, team: Team = SOLO,
        views: list[CellInputs] | None = None,
    ) -> None:  # fmt: skip
        self.cell, self.store, self.device, self.report = cell, store, device, StallWatch(report)
        self.levels = cell.data.spec.levels
        self._likelihoods_with: dict[str, dict[str, str]] = {}
        self.views = [] if views is None else views
        self.views.append(self)
        self.opened: Opened = (
            Opened(cell.source, cell.data, cell.drawing, store, device, self.report, team)
            if self.views[0] is self
            else self.views[0].opened
        )

    @property
    def dataset(self) -> data.Dataset:
        """The suite's dataset."""
        return self.opened.dataset

    @cached_property
    def extractor(self) -> features.Extractor:
        """The suite's feature extractor on the device."""
        cell = self.cell
        return features.load_extractor(cell.extractor, data.origin(cell.data.entry), self.device, cell.extraction)

    @cached_property
    def generated(self) -> Images:
        """The cell's images (n, C, H, W) uint8 and the requested classes, drawn once and kept."""
        if self.views[0] is not self:
            return self.views[0].generated
        return self.store.kept_content(Kind.SAMPLES, self.cell.samples_key, self._write_samples, _read_samples)

    def _write_samples(self, folder: Path) -> dict[str, Any]:
        samples = self.cell.source.draw(self.opened)
        arrays = {"pixels": samples.images.pixels, "labels": samples.images.labels, "shown": samples.shown}
        for name, tensor in arrays.items():
            if tensor is not None:
                np.save(folder / f"{name}.npy", tensor.cpu().numpy())
        if samples.images.texts is not None:
            (folder / TEXTS_FILE).write_text(json.dumps(samples.images.texts), encoding="utf-8")
        return samples.meta

    @cached_property
    def samples_meta(self) -> dict[str, Any]:
        """Facts about drawing the images; {} before they are drawn."""
        key = self.cell.samples_key
        return self.store.meta(Kind.SAMPLES, key) if self.store.has(Kind.SAMPLES, key) else {}

    def warnings_for(self, metric: Metric) -> tuple[str, ...]:
        """As Inputs; for a metric that does not see the images nothing is looked at."""
        if not metric.reads.of_samples:
            return ()
        asked = self.generated.texts if metric.reads is PROMPTS else None
        cut = cut_texts(self.text_features(tuple(sorted(set(asked))))) if asked else ()
        return (*(finding.text for finding in lint.concerning(self._findings, (metric,))), *cut)

    @cached_property
    def _findings(self) -> tuple[lint.Finding, ...]:
        images = self.generated
        findings = lint.lint(
            images.pixels,
            self.levels,
            labels=images.labels,
            feature_dims=self.fake.vectors.shape[1],
            reference=self._summaries[1],
            summary=self._summaries[0],
            not_finite=self.samples_meta.get("non_finite", 0),
            files=found_from(self.samples_meta.get("found", {})),
        )
        modes = () if self.cell.source.capabilities.no_network else lint.lint_model(self.opened.model)
        return (*modes, *findings, *self._label_findings(images))

    @cached_property
    def _summaries(self) -> tuple[lint.Summary, lint.Summary]:
        """The linter's, of the samples and of the reference."""
        if self.views[0] is not self:
            return self.views[0]._summaries
        return lint.summarise(self.generated.pixels), lint.summarise(self.reference.pixels)

    def _label_findings(self, images: Images) -> tuple[lint.Finding, ...]:
        reference = self.reference.labels
        if images.labels is None or reference is None:
            return ()
        of_fake, of_real = lint.label_findings(
            self.fake.vectors, images.labels.numpy(), self.real.vectors, reference.numpy()
        )
        return (*of_fake, *of_real)

    @property
    def source_warnings(self) -> tuple[str, ...]:
        """The source's, and the stalls of this process while it measured the cell."""
        return (*self.cell.source.warnings(self.store), *self.report.stalls)

    @property
    def model_protocol(self) -> dict[str, Any]:
        """The source's branch, with how many samples were not finite and what the samples were drawn with."""
        branch = self.cell.source.protocol(self.opened)
        bad = self.samples_meta.get("non_finite", 0)
        drawn = only_made_with(self.samples_meta)
        branch |= {"non_finite_samples": bad} if bad else {}
        return branch | ({"drawn_with": drawn} if drawn else {})

    def at_once(self, metric: Metric) -> dict[str, int]:
        """As Inputs, from the meta data of the artefacts that the metric was measured from."""
        reads, samples = metric.reads, self.cell.samples_key
        used = {"train": (Kind.WEIGHTS, self.cell.source.weights_key)}
        used |= {"draw": (Kind.SAMPLES, samples)} if reads.of_samples else {}
        used |= {"features": (Kind.FEATURES, self._features_key(samples))} if reads.through_extractor else {}
        metas = {phase: self.store.meta(*of) for phase, of in used.items() if of[1] and self.store.has(*of)}
        found = {phase: meta["at_once"] for phase, meta in metas.items() if "at_once" in meta}
        of_network = {phase: n for phase, n in self.opened.at_once.items() if phase.split()[0] == reads.name}
        return found | of_network

    def made_with(self, metric: Metric) -> dict[str, Any]:
        """As Inputs: of the features of the samples and of the reference, and of the likelihoods."""
        reads, made = metric.reads, {"likelihoods_with": self._likelihoods_with.get(metric.name, {})}
        reference = self._split_key(self.cell.data.reference)
        sets = {"features_with": reads.of_samples and self.cell.samples_key,
                "reference_with": reads.against_reference and reference}  # fmt: skip
        for name, pixels in sets.items():
            key = self._features_key(pixels) if pixels and reads.through_extractor else ""
            if key and self.store.has(Kind.FEATURES, key):
                made[name] = only_made_with(self.store.meta(Kind.FEATURES, key))
        return {name: with_what for name, with_what in made.items() if with_what}

    @property
    def reference(self) -> Images:
        """The reference split."""
        split = getattr(self.dataset, self.cell.data.reference)
        return Images(split.pixels, split.labels)

    @property
    def unseen(self) -> Images:
        """The test split."""
        return Images(self.dataset.test.pixels, self.dataset.test.labels)

    @cached_property
    def fake(self) -> features.Features:
        """Features of the samples."""
        return self._features(self.cell.samples_key, SAMPLES)

    @cached_property
    def real(self) -> features.Features:
        """Features of the reference split."""
        return self._split_features(self.cell.data.reference)

    def text_features(self, texts: tuple[str, ...]) -> features.TextFeatures:
        """As Inputs, kept in the store."""
        fields = self.cell.facts.extractor
        return kept_texts(self.store, texts, fields, lambda: self.extractor.texts(texts), self.device)

    def of_real(self, part: OfReference) -> dict[str, np.ndarray]:
        """Of the reference's features, kept beside them."""
        key = self._features_key(self._split_key(self.cell.data.reference))
        return kept_about_reference(self.store, key, part, lambda: self.real.vectors)

    @cached_property
    def train(self) -> features.Features:
        """Features of the train split."""
        return self._split_features("train")

    @cached_property
    def held_out(self) -> features.Features:
        """Features of the test split."""
        return self._split_features("test")

    def _split_key(self, split: str) -> str:
        return split_key(self.cell.data.fingerprint, split)

    def _features_key(self, pixels: str) -> str:
        return features_key(pixels, self.cell.facts.extractor)

    def _split_features(self, split: str) -> features.Features:
        return self._features(self._split_key(split), split)

    def _features(self, key: str, images: str) -> features.Features:
        sharing = [view for view in self.views if view is self or images in view._still_read]
        views = {view._features_key(key): view for view in sharing}
        sizes = {name: AtOnce(noting(self.report, "features")) for name in views}
        own = self._features_key(key)
        others = [name for name in views if name != own]

        def extract(names: Sequence[str]) -> Extracted:
            return self._extracted(images, {name: views[name] for name in names}, sizes)

        return kept_in_one_pass(self.store, own, others, extract, self.device, lambda name: sizes[name].facts)

    @cached_property
    def _still_read(self) -> frozenset[str]:
        """SAMPLES and splits whose features the metrics that are not measured yet read."""
        absent = [m for m in self.cell.metrics if not m.reason and not self.store.has(Kind.VALUES, m.key)]
        reads = [m.metric.reads for m in absent if m.metric.reads.through_extractor]
        sets = {SAMPLES} if reads else set()
        sets |= {self.cell.data.reference} if any(r.against_reference for r in reads) else set()
        return frozenset(sets | ({"train", "test"} if MEMORY in reads else set()))

    def _pixels(self, images: str) -> Tensor:
        """The pixels of SAMPLES or of a split."""
        return self.generated.pixels if images == SAMPLES else getattr(self.dataset, images).pixels

    def _extracted(self, images: str, views: Mapping[str, CellInputs], sizes: Mapping[str, AtOnce]) -> Extracted:
        """Features by each of the views, in one pass; with a team, each process passes over its share."""
        team, pixels = self.opened.team, self._pixels(images)
        loads = {name: (view.load_extractor, sizes[name]) for name, view in views.items()}
        if team.size == 1 or len(pixels) <= features.BATCH:
            return extract_together(loads, pixels, self.levels)
        cells = {name: view.cell for name, view in views.items()}
        with team.call(_extract_too, cells, self.store.location, self.device, images) as group:
            return joined_shares(group.collected(extract_share(loads, pixels, self.levels, group)))

    def load_extractor(self) -> features.Extractor:
        """The extractor, loaded once."""
        return self.extractor

    def log_probs(self, metric: Metric) -> dict[str, Any]:
        """Log-probabilities of held-out images in nats (N,), and the kind of likelihood."""
        cell = self.cell
        pixels = self.dataset.test.pixels[: cell.facts.images]
        found = cell.source.log_probs(self.opened, metric, pixels)
        self._likelihoods_with[metric.name] = found.made_with
        return {"log_probs": found.values, "dims": cell.data.spec.dims, "kind": found.kind}

    def _similarity(self, metric: Metric) -> similarity.Similarity:
        name = metric.similarity_for(self.cell.extractor)
        return similarity.load_similarity(name, data.origin(self.cell.data.entry), self.device, self.cell.extraction)

    @contextmanager
    def _at_once(self, phase: str) -> Iterator[AtOnce]:
        """What halves the batches of a phase, with what fitted into memory in its earlier uses."""
        sizes = AtOnce(noting(self.report, phase), self.opened.at_once.get(phase))
        yield sizes
        self.opened.at_once |= {} if sizes.size is None else {phase: sizes.size}

    def path_distances(self, metric: Metric) -> np.ndarray:
        """Distances along paths between latents of the model."""
        names = {"n": "paths", "seed": "path_seed", "epsilon": "epsilon", "mode": "interpolation"}
        options = {argument: metric.protocol[field] for argument, field in names.items()}
        with self._at_once("paths") as sizes:
            distances: np.ndarray = path_distances(
                self.opened.model, self._similarity(metric).of_unit, **options, at_once=sizes
            )
        return distances

    def translation(self, metric: Metric) -> dict[str, Any]:
        """Both directions, on held-out pairs."""
        if not metric.similarity or any(d.target is None for d in self._directions.values()):
            return self._directions
        distance = self._similarity(metric).of_unit
        with self._at_once("translation distances") as sizes:
            return {n: replace(d, perceptual=_distances(d, distance, sizes)) for n, d in self._directions.items()}

    @cached_property
    def _directions(self) -> dict[str, Direction]:
        there, here = self.dataset.source, self.dataset
        assert there is not None
        return {
            "a_to_b": self._direction("a_to_b", there.test.pixels, here.test.pixels, here.train.pixels),
            "b_to_a": self._direction("b_to_a", here.test.pixels, there.test.pixels, there.train.pixels),
        }

    def _direction(self, name: str, source: Tensor, target: Tensor, real: Tensor) -> Direction:
        source, target = source[: self.cell.drawing.n], target[: self.cell.drawing.n]
        with self._at_once("translation") as sizes:
            translated, back = there_and_back(self.opened.model, source, name, at_once=sizes)
        start, shown, again = (unit_images(p, self.levels) for p in (source, translated, back))
        assert self.dataset.source is not None
        wanted = unit_images(target, self.levels) if self.dataset.source.paired else None
        with self._at_once("translation features") as sizes:
            sets = (features.extract(self.extractor, pixels, self.levels, sizes) for pixels in (translated, real))
            fakes, reals = (found.vectors for found in sets)
        return Direction(start, shown, again, fakes, reals, wanted)

    @cached_property
    def cost(self) -> Any:
        """Throughput, latency and memory of sampling."""
        drawing, speed, model = self.cell.drawing, self.cell.facts.speed, self.opened.model
        meter = meter_for(model.device, PATIENCE * speed["seconds"], torch.get_num_threads())
        return measure_cost(
            model, seed=drawing.seed, precision=drawing.precision, condition=self._condition, meter=meter, **speed
        )

    def _condition(self, n: int) -> Condition | None:
        return on_device(conditions_of(self.opened).block(0, self.cell.drawing.seed, n), self.opened.model.device)


def _extract_too(group: Processes, cells: Mapping[str, Cell], store: str, device: str, images: str) -> None:
    """What a member of the team does while process 0 extracts features."""
    views: list[CellInputs] = []
    for cell in cells.values():
        CellInputs(cell, Store(store), group.device(device), silent, views=views)
    loads = {name: (view.load_extractor, AtOnce()) for name, view in zip(cells, views, strict=True)}
    group.collected(extract_share(loads, views[0]._pixels(images), views[0].levels, group))


def _distances(direction: Direction, distance: Callable[[Tensor, Tensor], Tensor], sizes: AtOnce) -> np.ndarray:
    """How far each translated image is from its target (N,)."""
    a, b = torch.from_numpy(direction.translated), torch.from_numpy(direction.target)
    found: np.ndarray = sizes.rows(len(a), lambda i, j: distance(a[i:j], b[i:j]).cpu(), COARSE).numpy()
    return found


def _read_samples(folder: Path) -> Images:
    labels, texts = folder / "labels.npy", folder / TEXTS_FILE
    return Images(
        torch.from_numpy(np.load(folder / "pixels.npy")),
        torch.from_numpy(np.load(labels)) if labels.is_file() else None,
        tuple(json.loads(texts.read_text(encoding="utf-8"))) if texts.is_file() else None,
    )


def evaluate(cell: Cell, alone: bool, store: Store, device: str, report: Report, team: Team = SOLO) -> list[Record]:
    """Records of the cell's metrics that do (alone) or do not time the machine; a failure is a record too.

    team: the processes that draw, extract features and compute likelihoods together.
    """
    return evaluate_views((cell,), alone, store, device, report, team)


def evaluate_views(
    cells: Sequence[Cell], alone: bool, store: Store, device: str, report: Report, team: Team = SOLO
) -> list[Record]:
    """As evaluate, of the cells of one row with each of several extractors; the images are read once for all."""
    views: list[CellInputs] = []
    for cell in cells:
        CellInputs(cell, store, device, report, team, views)
    return [record for inputs in views for record in _records(inputs, alone)]


def _records(inputs: CellInputs, alone: bool) -> list[Record]:
    cell = inputs.cell
    planned = [(plan, plan.metric) for plan in cell.metrics]
    chosen = [(plan, metric) for plan, metric in planned if metric.reads.alone == alone]
    records = [_record(inputs, plan, metric) for plan, metric in chosen]
    if any(r.status == OK and metric.reads is MEMORY for r, (_, metric) in zip(records, chosen, strict=True)):
        keep_closest(cell, inputs.store, inputs, lambda: inputs.dataset.train.pixels)
    return records


class _NotKept(Exception):  # noqa: N818 - passes through the store what the next run must measure again
    def __init__(self, measured: Measured) -> None:
        self.measured = measured


def _record(inputs: CellInputs, planned: MetricPlan, metric: Metric) -> Record:
    cell = inputs.cell
    record = stored_record(cell, planned, inputs.store)
    if record is not None:
        return record
    inputs.report(Progress(f"measure {metric.name}", 0, 0))

    def make(folder: Path) -> dict[str, Any]:
        measured = measure_metric(metric, inputs, cell.facts_for(planned), inputs.device)
        if measured.status == FAILED or (measured.value is not None and measured.value.busy):
            raise _NotKept(measured)
        value = {"measured": to_plain(measured), "provenance": vars(cell.provenance), "code": cell.source.code}
        (folder / VALUE_FILE).write_text(json.dumps(value))
        return {"machine": cell.facts.machine} if metric.reads.alone else {}

    try:
        inputs.store.kept(Kind.VALUES, planned.key, make)
    except _NotKept as found:
        return _base(cell, planned, **found.measured.fields())
    kept = stored_record(cell, planned, inputs.store)
    assert kept is not None
    return kept


def stored_record(cell: Cell, planned: MetricPlan, store: Store) -> Record | None:
    """The record of a metric that does not apply or whose value the store holds; None when it must be measured."""
    if planned.reason:
        return _base(cell, planned, status=NOT_APPLICABLE, reason=planned.reason)
    if not store.intact(Kind.VALUES, planned.key):
        return None
    value = json.loads((store.path(Kind.VALUES, planned.key) / VALUE_FILE).read_text())
    origin = {**value["provenance"], "code": value["code"]}
    return _base(cell, planned, **{**origin, **from_plain(value["measured"]).fields()})


def failed_record(cell: Cell, planned: MetricPlan, reason: str) -> Record:
    """The record of a metric that could not be measured."""
    return _base(cell, planned, status=FAILED, reason=reason)


def _base(cell: Cell, planned: MetricPlan, status: str = OK, **more: Any) -> Record:
    metric, suite, source = planned.metric, cell.suite, cell.source
    origin = {**vars(cell.provenance), "code": source.code}
    roots = (cell.data.folder, default_root(), Path("~").expanduser())
    public = lambda text: without_secrets(without_folders(text, *roots), os.environ)  # noqa: E731
    more |= {"reason": public(more.get("reason", "")), "warnings": tuple(map(public, more.get("warnings", ())))}
    return Record(
        suite.name, suite.version, cell.id, cell.label, cell.data.name, cell.seed, planned.name, metric.version,
        status=status, unit=metric.unit, better=metric.better, role=source.role, family=source.family,
        given=source.given, key=planned.key, **{**origin, **more},
    )  # fmt: skip
