"""What the metrics of one cell read: samples, features, likelihoods, timings; each made once and kept in the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genbench import data, features, lint
from genbench.contract import (
    ClassConditional,
    Condition,
    ExactLikelihood,
    ImportanceBound,
    LikelihoodBound,
    LikelihoodEstimate,
    Model,
    TextConditional,
    Translates,
)
from genbench.draw.blocks import NO_WISHES, Wishes, draw, on_device
from genbench.draw.cost import Cost, measure_cost
from genbench.errors import CellFailure
from genbench.evaluate.readings import Images, Inputs, kept_moments, kept_of_reference, unit_images
from genbench.features import similarity
from genbench.keys import digest, stream_seed
from genbench.metrics.base import Metric, OfReference
from genbench.metrics.frechet import Moments
from genbench.metrics.paths import path_distances
from genbench.metrics.translation import Direction, there_and_back
from genbench.plan.applies import similarity_name
from genbench.plan.cells import Cell, DataPlan, Network
from genbench.progress import Progress, Report
from genbench.records import BOUND, ESTIMATE, EXACT
from genbench.sources import scale
from genbench.sources.build import build, read_weights
from genbench.space import seeded, to_unit_range
from genbench.store import FEATURES, LIKELIHOODS, SAMPLES, WEIGHTS, Store

LIKELIHOOD_BATCH = 100
SHOWN, ROW = 30, 10  # images of a translator's grid, and how many in a row
Ask = Callable[[Tensor, torch.Generator], Tensor]


def build_network(network: Network, dataset: DataPlan, seed: int) -> Model:
    """The network of a cell, untrained."""
    return build(network.resolve(), dataset.spec, network.config, network.sampler, stream_seed(seed, "weights"))


def likelihood_of(model: Model, metric: Metric) -> tuple[str, Ask]:
    """The kind of number that the metric can have of the model, and how to ask for it."""
    if isinstance(model, ExactLikelihood) and "ExactLikelihood" in metric.abilities:
        return EXACT, model.log_prob
    if isinstance(model, LikelihoodBound) and "LikelihoodBound" in metric.abilities:
        return BOUND, model.log_prob_bound
    if isinstance(model, ImportanceBound) and "ImportanceBound" in metric.abilities:
        return BOUND, lambda pixels, gen: model.log_prob_importance(pixels, metric.protocol["k"], gen)
    assert isinstance(model, LikelihoodEstimate)
    return ESTIMATE, partial(model.log_prob_estimate, steps=metric.protocol["steps"])


class CellInputs(Inputs):
    """One cell's numbers: loads lazily what a metric asks for, and keeps every artefact."""

    def __init__(self, cell: Cell, store: Store, device: str, report: Report) -> None:
        self.cell, self.store, self.device, self.report = cell, store, device, report
        self.levels = cell.data.spec.levels

    @cached_property
    def dataset(self) -> data.Dataset:
        """The suite's dataset."""
        return data.load(self.cell.data.entry, self.cell.data.folder)

    @cached_property
    def extractor(self) -> features.Extractor:
        """The suite's feature extractor on the device."""
        cell = self.cell
        return features.load(cell.extractor, data.origin(cell.data.entry), self.device, cell.extraction)

    @cached_property
    def identity(self) -> dict[str, Any]:
        """The extractor's protocol fields."""
        return features.identity(self.cell.extractor, data.origin(self.cell.data.entry), self.cell.extraction)

    @cached_property
    def model(self) -> Model:
        """The cell's model with its weights, in eval mode."""
        cell = self.cell
        assert cell.network is not None
        model = build_network(cell.network, cell.data, cell.seed)
        path = cell.weights or self.store.path(WEIGHTS, cell.weights_key) / "model.safetensors"
        if cell.weights is None and not self.store.intact(WEIGHTS, cell.weights_key):
            raise CellFailure("its weights are not there: training failed or was not run")
        read_weights(model, path)
        return model.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @cached_property
    def wishes(self) -> Wishes:
        """What the model is asked to show, where it can be asked."""
        if isinstance(self.model, Translates):
            assert self.dataset.source is not None
            return Wishes(images=to_unit_range(self.dataset.source.test.pixels, self.levels))
        if isinstance(self.model, ClassConditional):
            return Wishes(self.dataset.train.labels)
        if isinstance(self.model, TextConditional):
            return Wishes(self.dataset.train.labels, self.dataset.captions)
        return NO_WISHES

    @cached_property
    def generated(self) -> Images:
        """The cell's images (n, C, H, W) uint8 and the classes asked for, drawn once and kept."""
        key = self.cell.samples_key
        with self.store.lock(SAMPLES, key):
            if not self.store.intact(SAMPLES, key):
                images, meta = self._make_samples()
                with self.store.writing(SAMPLES, key, meta) as folder:
                    np.save(folder / "pixels.npy", images.pixels.numpy())
                    if images.labels is not None:
                        np.save(folder / "labels.npy", images.labels.numpy())
                    if self.cell.translates:
                        np.save(folder / "shown.npy", self._triples().numpy())
        folder = self.store.path(SAMPLES, key)
        labels = folder / "labels.npy"
        return Images(
            torch.from_numpy(np.load(folder / "pixels.npy")),
            torch.from_numpy(np.load(labels)) if labels.is_file() else None,
        )

    def _make_samples(self) -> tuple[Images, dict[str, Any]]:
        cell = self.cell
        if cell.samples is not None:
            split = data.read_images(cell.samples, cell.data.spec)
            return Images(split.pixels, split.labels), {"file": str(cell.samples)}
        if cell.role == "scale":
            return Images(scale.ROWS[cell.label].samples(self.dataset, cell.n, cell.seed)), {}
        scratch = self.store.scratch(SAMPLES, cell.samples_key)
        drawn = draw(self.model, cell.n, cell.seed, block=cell.block, precision=cell.precision, wishes=self.wishes,
                     scratch=scratch, report=self.report)  # fmt: skip
        meta = {"evaluations": drawn.evaluations, "non_finite": drawn.non_finite, "seconds": drawn.seconds}
        return Images(drawn.pixels, drawn.labels), meta

    def _triples(self) -> Tensor:
        """Rows of source images, under each its translation and the translation's way back."""
        assert self.dataset.source is not None
        source = self.dataset.source.test.pixels[:SHOWN]
        rows = [images.split(ROW) for images in (source, *there_and_back(self.model, source, "a_to_b"))]
        return torch.cat([row for group in zip(*rows, strict=True) for row in group])

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What the linter says of the samples."""
        images, key = self.generated, self.cell.samples_key
        found = lint.lint(
            images.pixels,
            self.levels,
            labels=images.labels,
            feature_dims=self.fake.vectors.shape[1],
            reference=self.reference.pixels,
            not_finite=self.store.meta(SAMPLES, key).get("non_finite", 0),
        )
        modes = lint.lint_model(self.model) if self.cell.network else ()
        return tuple(finding.text for finding in (*modes, *found))

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
        return self._features(self.cell.samples_key, lambda: self.generated.pixels)

    @cached_property
    def real(self) -> features.Features:
        """Features of the reference split."""
        return self._split_features(self.cell.data.reference)

    @cached_property
    def real_moments(self) -> Moments:
        """Moments of the reference's features."""
        source = self._split_key(self.cell.data.reference)
        return kept_moments(self.store, self._features_key(source), lambda: self.real.vectors)

    def of_real(self, what: OfReference) -> np.ndarray:
        """Of the reference's features, kept beside them."""
        source = self._split_key(self.cell.data.reference)
        return kept_of_reference(self.store, self._features_key(source), lambda: self.real.vectors, what)

    @cached_property
    def train(self) -> features.Features:
        """Features of the train split."""
        return self._split_features("train")

    @cached_property
    def held_out(self) -> features.Features:
        """Features of the test split."""
        return self._split_features("test")

    def _split_key(self, split: str) -> str:
        return digest({"data": self.cell.data.fingerprint, "split": split})

    def _features_key(self, source: str) -> str:
        return digest({"pixels": source, **self.identity})

    def _split_features(self, split: str) -> features.Features:
        return self._features(self._split_key(split), lambda: getattr(self.dataset, split).pixels)

    def _features(self, source: str, pixels: Callable[[], Tensor]) -> features.Features:
        key = self._features_key(source)
        with self.store.lock(FEATURES, key):
            if not self.store.intact(FEATURES, key):
                found = self.extractor(pixels(), self.levels)
                arrays = {k: v for k, v in vars(found).items() if v is not None}
                with self.store.writing(FEATURES, key, self.identity) as folder:
                    np.savez(folder / "features.npz", **arrays)
        with np.load(self.store.path(FEATURES, key) / "features.npz") as kept:
            return features.Features(kept["vectors"], kept.get("probabilities"), kept.get("spatial"))

    def log_probs(self, metric: Metric) -> dict[str, Any]:
        """Log-probabilities of held-out images in nats (N,), and the kind of number they are."""
        cell = self.cell
        pixels = self.dataset.test.pixels[: cell.likelihood_images]
        if cell.role == "scale":
            row = scale.ROWS[cell.label].log_prob
            assert row is not None
            values, kind = np.asarray(row(self.dataset, pixels, cell.seed)), EXACT
        else:
            kind, ask = likelihood_of(self.model, metric)
            depends = {"of": self._likelihood_source(kind), "images": len(pixels), "metric": metric.protocol}
            values = self._kept_log_probs(digest(depends), partial(self._log_probs, pixels, ask))
        return {"log_probs": values, "dims": cell.data.spec.dims, "kind": kind}

    def _likelihood_source(self, kind: str) -> str:
        """What a likelihood depends on: an estimate is shared by all cells that draw from the same weights."""
        cell = self.cell
        if kind != ESTIMATE or not cell.weights_key:
            return digest([cell.samples_key, kind])
        assert isinstance(self.model, LikelihoodEstimate)
        return digest([cell.weights_key, kind, type(self.model).log_prob_estimate.__qualname__])

    def _kept_log_probs(self, key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        with self.store.lock(LIKELIHOODS, key):
            if not self.store.intact(LIKELIHOODS, key):
                values = make()
                with self.store.writing(LIKELIHOODS, key, {}) as folder:
                    np.save(folder / "log_probs.npy", values)
        kept: np.ndarray = np.load(self.store.path(LIKELIHOODS, key) / "log_probs.npy")
        return kept

    @torch.no_grad()
    def _log_probs(self, pixels: Tensor, ask: Ask) -> np.ndarray:
        gen, parts, start = seeded(stream_seed(self.cell.seed, "likelihood"), self.device), [], time.perf_counter()
        for i, part in enumerate(pixels.split(LIKELIHOOD_BATCH)):
            parts.append(ask(part.to(self.device), gen).cpu().double())
            done = min(len(pixels), (i + 1) * LIKELIHOOD_BATCH)
            self.report(Progress("likelihood", done, len(pixels), "images", done / (time.perf_counter() - start)))
        values: np.ndarray = torch.cat(parts).numpy()
        return values

    def similarity_identity(self, metric: Metric) -> dict[str, Any]:
        """The protocol fields of the distance between images that the metric reads; none for other metrics."""
        name = similarity_name(metric, self.cell.extractor)
        return similarity.identity(name, data.origin(self.cell.data.entry), self.cell.extraction) if name else {}

    def _similarity(self, metric: Metric) -> similarity.Similarity:
        name = similarity_name(metric, self.cell.extractor)
        return similarity.load_similarity(name, data.origin(self.cell.data.entry), self.device, self.cell.extraction)

    def path_distances(self, metric: Metric) -> np.ndarray:
        """Distances along paths between latents of the model."""
        names = {"n": "paths", "seed": "path_seed", "epsilon": "epsilon", "mode": "interpolation"}
        options = {argument: metric.protocol[field] for argument, field in names.items()}
        found: np.ndarray = path_distances(self.model, self._similarity(metric).of_unit, **options)
        return found

    def translation(self, metric: Metric) -> dict[str, Any]:
        """Both directions, on held-out pairs."""
        if not similarity_name(metric, self.cell.extractor):
            return self._directions
        distance = self._similarity(metric).of_unit
        pairs = {n: (torch.from_numpy(d.translated), torch.from_numpy(d.target)) for n, d in self._directions.items()}
        return {n: replace(d, perceptual=distance(*pairs[n]).numpy()) for n, d in self._directions.items()}

    @cached_property
    def _directions(self) -> dict[str, Direction]:
        there, here = self.dataset.source, self.dataset
        assert there is not None
        return {
            "a_to_b": self._direction("a_to_b", there.test.pixels, here.test.pixels, here.train.pixels),
            "b_to_a": self._direction("b_to_a", here.test.pixels, there.test.pixels, there.train.pixels),
        }

    def _direction(self, name: str, source: Tensor, target: Tensor, real: Tensor) -> Direction:
        source, target = source[: self.cell.n], target[: self.cell.n]
        translated, back = there_and_back(self.model, source, name)
        given, shown, again, wanted = (unit_images(p, self.levels) for p in (source, translated, back, target))
        fakes, reals = (self.extractor(pixels, self.levels).vectors for pixels in (translated, real))
        return Direction(given, shown, again, fakes, reals, wanted)

    @cached_property
    def cost(self) -> Cost:
        """Throughput, latency and memory of sampling."""
        cell = self.cell
        return measure_cost(
            self.model, seed=cell.seed, batch=cell.speed_batch, seconds=cell.speed_seconds, precision=cell.precision,
            condition=self._wish,
        )  # fmt: skip

    def _wish(self, n: int) -> Condition | None:
        return on_device(self.wishes.block(0, self.cell.seed, n), self.model.device)
