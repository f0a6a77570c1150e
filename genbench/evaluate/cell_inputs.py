"""The inputs of the metrics of one cell: what its model computes, and the facts and warnings beside a value."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
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
from genbench.evaluate.cell_sets import SetInputs
from genbench.evaluate.store_inputs import cut_texts
from genbench.features import similarity
from genbench.halving import COARSE, AtOnce
from genbench.machine import only_made_with
from genbench.metrics.base import Metric
from genbench.metrics.facts import Images
from genbench.metrics.likelihood import check_together
from genbench.metrics.paths import path_distances
from genbench.metrics.readings import PROMPTS
from genbench.metrics.readings.images import unit_images
from genbench.metrics.translation import Direction, there_and_back
from genbench.plan.cells import Cell
from genbench.progress import Report, noting
from genbench.sources.network import conditions_of
from genbench.store import Kind, Store
from genbench.team import SOLO, Team

PATIENCE = 4.0  # times the seconds of a timing: how long it waits for other processes at most


class CellInputs(SetInputs):
    """The inputs of one cell, computed or loaded when a metric first reads them."""

    def __init__(
        self, cell: Cell, store: Store, device: str, report: Report, team: Team = SOLO,
        views: list[SetInputs] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(cell, store, device, report, team, views)
        self._likelihoods_with: dict[str, dict[str, str]] = {}

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
        with_features = any(lint.needs_features(plan.metric) for plan in self.cell.metrics if not plan.reason)
        findings = lint.lint(
            images.pixels,
            self.levels,
            labels=images.labels,
            feature_dims=self.fake.vectors.shape[1] if with_features else None,
            reference=self.summaries[1],
            summary=self.summaries[0],
            not_finite=self.samples_meta.get("non_finite", 0),
            files=found_from(self.samples_meta.get("found", {})),
        )
        modes = () if self.cell.source.capabilities.no_network else lint.lint_model(self.opened.model)
        return (*modes, *findings, *(self._label_findings(images) if with_features else ()))

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
        metas = {phase: self.store.meta_or_none(*of) for phase, of in used.items() if of[1]}
        found = {phase: meta["at_once"] for phase, meta in metas.items() if meta and "at_once" in meta}
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
            made[name] = only_made_with(self.store.meta_or_none(Kind.FEATURES, key) or {}) if key else {}
        return {name: with_what for name, with_what in made.items() if with_what}

    def log_probs(self, metric: Metric) -> dict[str, Any]:
        """Log-probabilities of held-out images in nats (N,), and the kind of likelihood."""
        cell = self.cell
        pixels = self.dataset.test.pixels[: cell.facts.images]
        found = cell.source.log_probs(self.opened, metric, pixels)
        check_together(found.values, pixels.numpy())
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


def _distances(direction: Direction, distance: Callable[[Tensor, Tensor], Tensor], sizes: AtOnce) -> np.ndarray:
    """How far each translated image is from its target (N,)."""
    a, b = torch.from_numpy(direction.translated), torch.from_numpy(direction.target)
    found: np.ndarray = sizes.rows(len(a), lambda i, j: distance(a[i:j], b[i:j]).cpu(), COARSE).numpy()
    return found
