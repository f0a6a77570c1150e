"""The inputs of metrics for two sets of images: features extracted batch by batch, the reference's kept by content.

The reference's features are in the store under the same key as in a suite, so that scoring against a dataset and
running a suite on it share them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from genbench import features, lint
from genbench.data.files import captions_of_images, check_levels
from genbench.data.image_set import ImageSet, batch_size
from genbench.errors import DataError
from genbench.evaluate.rows import ExtractionRequest, FeatureRows, extract_rows, extract_too
from genbench.evaluate.sides import Side, in_same_channels, labels_as, split_of
from genbench.evaluate.store_inputs import cut_texts, kept_about_reference, kept_features, kept_texts
from genbench.features import Features
from genbench.halving import AtOnce
from genbench.keys import features_key, summary_key
from genbench.lint import Case, Finding, Gather, Summary
from genbench.machine import made_with, only_made_with
from genbench.metrics.base import Inputs, Metric, OfReference
from genbench.metrics.facts import Capabilities, Facts, Images, Setting
from genbench.metrics.readings import PROMPTS
from genbench.progress import Progress, Report, noting
from genbench.provenance import provenance
from genbench.sources.files import NO_NETWORK
from genbench.store import Kind, Store
from genbench.team import SOLO

EVERY = ("vectors", "probabilities", "spatial")
ELSEWHERE = "images"  # stands for a dataset's name where there is none


@dataclass(frozen=True, eq=False)
class Extracted:
    """The features of a set of images, and its summary for the linter, from one pass over it."""

    features: Features
    summary: Summary


class ScoreInputs(Inputs):
    """The numbers behind a score; features of each set are extracted once, when a metric first reads them."""

    def __init__(
        self, fake: Side, real: Side, extractor: str, options: features.FeatureOptions, device: str, report: Report
    ) -> None:
        """Raises DataError for sets whose images cannot be compared, and for an extractor that does not exist."""
        self.fake_side, self.real_side = in_same_channels(fake, real)
        self.extractor_name, self.options, self.device, self.report = extractor, options, device, report
        self.identity = features.protocol_fields(extractor, self.dataset_name, options=options)
        self.levels = self._shared_levels()
        self._refuse_other_shapes()
        self.store, self.provenance = Store(), provenance(Path())
        self.spatial_wanted, self.team, self._files = False, SOLO, list[FeatureRows]()
        self.prompts: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, str]:
        """The names of both sets."""
        return self.fake_side.images.name, self.real_side.images.name

    @property
    def reference_label(self) -> str:
        """A short name of the reference, for a record."""
        return self.real_side.label if self.real_side.dataset is None else self.real_side.dataset.name

    def adapted(self, metric: Metric) -> Metric:
        """The metric as it is measured on these sets."""
        return metric

    @property
    def dataset_name(self) -> str:
        """The reference's dataset, or "images"."""
        dataset = self.real_side.dataset
        return ELSEWHERE if dataset is None else dataset.name

    def _shared_levels(self) -> int:
        levels = {side.dataset.spec.levels for side in (self.fake_side, self.real_side) if side.dataset}
        if len(levels) > 1:
            raise DataError(f"fake and reference: found {' and '.join(map(str, levels))} grey levels; must agree")
        return levels.pop() if levels else 256

    def _refuse_other_shapes(self) -> None:
        fake, real = self.fake_side.images, self.real_side.images
        if fake.shape != real.shape and self.identity["resize"] == "none":
            raise DataError(
                f"{fake.name}: images of (channels, height, width) {fake.shape}, but {real.name} has {real.shape}; "
                f"they must agree, as {self.identity['extractor']} does not resize"
            )

    @cached_property
    def setting(self) -> Setting:
        """The setting that decides which metrics are available."""
        fake, real = self.fake_side.images, self.real_side.images
        return Setting(
            self.dataset_name,
            1 if real.labels is None else int(real.labels.max()) + 1,  # what is missing, fake_labels says
            self.extractor_name,
            probabilities=features.has_probabilities(self.extractor_name),
            spatial=features.has_spatial(self.extractor_name),
            splits=self.real_side.dataset is not None,
            own_classes=self.extractor_name == "classifier",
            texts=features.has_texts(self.extractor_name),
            shapes=None if fake.shape == real.shape else (fake.shape, real.shape),
        )

    @cached_property
    def capabilities(self) -> Capabilities:
        """What images made elsewhere can do: nothing that needs a network."""
        return Capabilities(self.fake_side.label, (), NO_NETWORK, self.fake_labels[1], self.fake_texts[1])

    @cached_property
    def fake_texts(self) -> tuple[tuple[str, ...], str]:
        """The text of each generated image, or () and the reason why it is not known."""
        return (self.prompts, "") if self.prompts else captions_of_images(self.fake_side.images)

    @cached_property
    def fake_labels(self) -> tuple[Tensor | None, str]:
        """The labels of the generated images as numbers of the reference's classes, or None and the reason."""
        return labels_as(self.fake_side, self.real_side)

    def why_not(self, metric: Metric) -> str:
        """Why the metric cannot be measured on these sets; "" when it can."""
        return metric.reads.why_not(metric, self.setting, self.capabilities)

    @cached_property
    def facts(self) -> Facts:
        """What values depend on; it reads both sets."""
        channels, height, width = self.real_side.images.shape
        return Facts(
            self.dataset_name, self.fingerprint, self.levels, channels * height * width, self.real_side.split,
            self.identity, samples=self.fake_hash, resized=self.real_side.fit.protocol if self.real_side.fit else {},
        )  # fmt: skip

    @cached_property
    def extractor(self) -> features.Extractor:
        """The extractor on the device, its weights checked."""
        return features.load_extractor(self.extractor_name, self.dataset_name, self.device, options=self.options)

    @cached_property
    def _fake(self) -> Extracted:
        keep = EVERY if self.spatial_wanted else ("vectors", "probabilities")
        return self._read(self.fake_side.images, keep, self.fake_side.origin)

    @cached_property
    def _real(self) -> Extracted:
        return self._kept(self.real_side)

    @property
    def fake(self) -> Features:
        """Features of the generated images."""
        return self._fake.features

    @property
    def real(self) -> Features:
        """Features of the reference images."""
        return self._real.features

    def text_features(self, texts: tuple[str, ...]) -> features.TextFeatures:
        """As Inputs, kept in the store."""
        return kept_texts(self.store, texts, self.identity, lambda: self.extractor.texts(texts), self.device)

    def of_real(self, part: OfReference) -> dict[str, np.ndarray]:
        """What a metric needs of the reference's features alone, kept in the store."""
        key = self._features_key(self.real_side.images)
        return kept_about_reference(self.store, key, part, lambda: self.real.vectors)

    @cached_property
    def train(self) -> Features:
        """Features of the train split."""
        return self._split("train")

    @cached_property
    def held_out(self) -> Features:
        """Features of the test split."""
        return self._split("test")

    def _split(self, split: str) -> Features:
        side = self.real_side
        assert side.dataset is not None
        return self.real if split == side.split else self._kept(split_of(side.dataset, split, side.fit)).features

    @cached_property
    def generated(self) -> Images:
        """As Inputs; all pixels in memory."""
        return replace(self._all(self.fake_side.images, self.fake_labels[0]), texts=self.fake_texts[0] or None)

    @cached_property
    def reference(self) -> Images:
        """As Inputs; all pixels in memory."""
        return self._all(self.real_side.images, self.real_side.images.labels)

    @property
    def unseen(self) -> Images:
        """The test split."""
        assert self.real_side.dataset is not None
        test = split_of(self.real_side.dataset, "test", self.real_side.fit).images
        return self._all(test, test.labels)

    def _all(self, images: ImageSet, labels: Tensor | None) -> Images:
        pixels = images.load()
        check_levels(pixels, self.levels, images.name)
        return Images(pixels, labels)

    def made_with(self, metric: Metric) -> dict[str, Any]:
        """As Inputs: of the features of both sets; those of the reference may be older than this version of torch."""
        if not metric.reads.through_extractor:
            return {}
        made = {"features_with": made_with(self.device)}
        key = self._features_key(self.real_side.images)
        known = metric.reads.against_reference and self.store.has(Kind.FEATURES, key)
        return made | ({"reference_with": only_made_with(self.store.meta(Kind.FEATURES, key))} if known else {})

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the reference: its dataset's, or over its pixels."""
        dataset = self.real_side.dataset
        return self._real.summary.pixel_hash if dataset is None else dataset.fingerprint

    @property
    def fake_hash(self) -> str:
        """SHA-256 (hex) over the generated pixels."""
        return self._fake.summary.pixel_hash

    def warnings_for(self, metric: Metric) -> tuple[str, ...]:
        """As Inputs, about both sets."""
        of_fake, of_real = (lint.concerning(findings, (metric,)) for findings in self.findings)
        asked = metric.reads is PROMPTS and tuple(sorted(set(self.fake_texts[0])))
        cut = cut_texts(self.text_features(asked)) if asked else ()
        return (*(f.text for f in of_fake), *(f"reference: {f.text}" for f in of_real), *cut)

    @cached_property
    def findings(self) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
        """The linter's findings about the generated images, and about the reference."""
        fake, real, dims = self.fake_side.images, self.real_side.images, self.fake.vectors.shape[1]
        mine, theirs = self._fake.summary, self._real.summary
        cases = (
            Case(mine, self.levels, self.fake_labels[0], dims, theirs, fake.found, ordered=not fake.folders),
            Case(theirs, self.levels, real.labels, dims, None, real.found, ordered=False),
        )
        of_fake, of_real = map(lint.inspect, cases)
        more = self._label_findings()
        return (*of_fake, *more[0]), (*(f for f in of_real if f.code != "few"), *more[1])

    def _label_findings(self) -> tuple[tuple[Finding, ...], tuple[Finding, ...]]:
        mine, theirs = self.fake_labels[0], self.real_side.images.labels
        if mine is None or theirs is None:
            return (), ()
        return lint.label_findings(self.fake.vectors, mine.numpy(), self.real.vectors, theirs.numpy())

    def _features_key(self, images: ImageSet) -> str:
        return features_key(images.source_hash, self.identity)

    def _kept(self, side: Side) -> Extracted:
        """Features and summary from the store; one pass over the images makes both when either is absent."""
        images, passes = side.images, list[Extracted]()

        def extracted() -> Extracted:
            if not passes:
                passes.append(self._read(images, EVERY, side.origin))
            return passes[0]

        def write_summary(folder: Path) -> None:
            extracted().summary.save(folder / "summary.npz")

        vectors = kept_features(self.store, self._features_key(images), lambda: extracted().features, self.device)
        key = summary_key(images.source_hash, lint.SUMMARY_VERSION)
        summary = lint.load_summary(self.store.kept(Kind.FEATURES, key, write_summary) / "summary.npz")
        spatial = vectors.spatial if self.spatial_wanted else None
        return Extracted(Features(vectors.vectors, None, spatial), summary)

    def _read(self, images: ImageSet, keep: tuple[str, ...], origin: tuple[Any, ...]) -> Extracted:
        """Features and summary of a set from one pass over it; origin: of its Side, () where no other process reads."""
        shared = self.team.size > 1 and images.count > batch_size(images.shape) and bool(origin)
        request = ExtractionRequest(
            origin, images.shape[0], self.extractor_name, self.dataset_name, self.options, self.levels, self.device,
            keep,
        )  # fmt: skip
        gather, rows = Gather(images.count, images.shape), FeatureRows(images.count, keep, shared)
        at_once, start = AtOnce(noting(self.report, f"features of {images.name}")), time.perf_counter()

        def see(part: Tensor) -> None:
            check_levels(part, self.levels, images.name)
            gather.add(part)
            rate = gather.seen / (time.perf_counter() - start)
            self.report(Progress(f"features of {images.name}", gather.seen, images.count, "images", rate))

        with (self.team if shared else SOLO).call(extract_too, request) as group:
            extract_rows(images, group, rows, lambda part: self._extract(part, at_once), see)
        self._files.append(rows)  # which removes them when this object is no longer used
        return Extracted(Features(**rows.arrays), gather.summary())

    def _extract(self, part: Tensor, at_once: AtOnce) -> Features:
        return features.extract(self.extractor, part, self.levels, at_once)
