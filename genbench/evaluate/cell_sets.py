"""The images behind the metrics of a cell, and their features: computed once, kept in the store, shared by views."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from genbench import data, features, lint
from genbench.evaluate.one_pass import kept_in_one_pass
from genbench.evaluate.shares import extract_share, joined_shares
from genbench.evaluate.store_inputs import kept_about_reference, kept_texts
from genbench.features.together import Extracted, extract_together
from genbench.halving import AtOnce
from genbench.keys import features_key, split_key
from genbench.metrics.base import Inputs, OfReference
from genbench.metrics.facts import Images
from genbench.metrics.readings import MEMORY
from genbench.plan.cells import Cell
from genbench.processes.group import Processes
from genbench.progress import Report, StallWatch, noting, silent
from genbench.sources.base import Opened
from genbench.store import Kind, Store
from genbench.team import SOLO, Team

TEXTS_FILE = "texts.json"
SAMPLES = "samples"  # the images of the cell, beside the names of splits


class SetInputs(Inputs):
    """The sets of images of one cell and their features, computed or loaded when a metric first reads them.

    views: those of the same row with each extractor, this one among them; they share images, dataset and model.
    """

    def __init__(
        self, cell: Cell, store: Store, device: str, report: Report, team: Team = SOLO,
        views: list[SetInputs] | None = None,
    ) -> None:  # fmt: skip
        self.cell, self.store, self.device, self.report = cell, store, device, StallWatch(report)
        self.levels = cell.data.spec.levels
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
        return self.store.meta_or_none(Kind.SAMPLES, self.cell.samples_key) or {}

    @cached_property
    def summaries(self) -> tuple[lint.Summary, lint.Summary]:
        """The linter's, of the samples and of the reference."""
        if self.views[0] is not self:
            return self.views[0].summaries
        return lint.summarise(self.generated.pixels), _summary_of(self.dataset, self.cell.data.reference)

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

    def _extracted(self, images: str, views: Mapping[str, SetInputs], sizes: Mapping[str, AtOnce]) -> Extracted:
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


_SUMMARIES: WeakKeyDictionary[data.Dataset, dict[str, lint.Summary]] = WeakKeyDictionary()


def _summary_of(dataset: data.Dataset, split: str) -> lint.Summary:
    """The linter's summary of a split, made once while a process keeps the dataset."""
    summaries = _SUMMARIES.setdefault(dataset, {})
    if split not in summaries:
        summaries[split] = lint.summarise(getattr(dataset, split).pixels)
    return summaries[split]


def _extract_too(group: Processes, cells: Mapping[str, Cell], store: str, device: str, images: str) -> None:
    """What a member of the team does while process 0 extracts features."""
    views: list[SetInputs] = []
    for cell in cells.values():
        SetInputs(cell, Store(store), group.device(device), silent, views=views)
    loads = {name: (view.load_extractor, AtOnce()) for name, view in zip(cells, views, strict=True)}
    group.collected(extract_share(loads, views[0]._pixels(images), views[0].levels, group))


def _read_samples(folder: Path) -> Images:
    labels, texts = folder / "labels.npy", folder / TEXTS_FILE
    return Images(
        torch.from_numpy(np.load(folder / "pixels.npy")),
        torch.from_numpy(np.load(labels)) if labels.is_file() else None,
        tuple(json.loads(texts.read_text(encoding="utf-8"))) if texts.is_file() else None,
    )
