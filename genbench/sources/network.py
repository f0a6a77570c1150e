"""Sources that draw with a network: which class with which options, how it is loaded, and how it draws."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from genbench import contract, returned
from genbench.code_hash import code_hash
from genbench.contract import (
    ClassConditional,
    Draws,
    TextConditional,
    Translates,
)
from genbench.draw.blocks import DRAW_VERSION, UNCONDITIONAL, Conditions, draw, draw_share
from genbench.errors import CellFailure
from genbench.halving import AtOnce
from genbench.keys import likelihoods_key, samples_key, stream_seed
from genbench.machine import made_with, only_made_with, pinned_globals
from genbench.metrics.base import Metric
from genbench.metrics.facts import Capabilities, Images
from genbench.metrics.translation import there_and_back
from genbench.processes.group import Processes
from genbench.progress import noting
from genbench.records import ESTIMATE
from genbench.registry import resolve_model
from genbench.sources.base import DataPlan, Drawing, LogProbs, Opened, Samples, Source, opened_too
from genbench.sources.build import build
from genbench.sources.likelihoods import LIKELIHOOD_BATCH, likelihood_of, refuse_unconverged, shared_log_probs
from genbench.sources.read_files import ReadFile, hashes, refuse_changed
from genbench.space import to_unit_range
from genbench.store import Kind
from genbench.train.loop import numeric_settings

SHOWN, ROW = 30, 10  # images of a translator's picture, and how many in a row
GIVEN = {"Translates": "image", "TextConditional": "caption", "ClassConditional": "class"}


@dataclass(frozen=True)
class Network:
    """Which class with which options, as plain data.

    target: as in a suite's `source`. code: the hash of its code. files: what else it reads.
    """

    name: str
    target: str | None
    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    sampler: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    files: tuple[ReadFile, ...] = ()

    @pinned_globals()
    def resolve(self) -> type[Draws]:
        """The class; CellFailure when its code or a file is no longer what was planned with."""
        refuse_changed(self.files)
        kind = resolve_model(self.name, self.target, self.folder)
        if code_hash(kind) != self.code:
            raise CellFailure(f"the code of {self.name} changed during the run; run it again")
        return kind

    def build(self, plan: DataPlan, seed: int) -> Draws:
        """The network with fresh weights."""
        return build(self.resolve(), plan.spec, self.config, self.sampler, stream_seed(seed, "weights"))


@dataclass(frozen=True)
class NetworkSource(Source):
    """A row that draws with a network.

    sampler: all options of the sampler. abilities: names of the contract's abilities. no_classes, no_texts: why its
    samples are not drawn for classes of the data and for texts, "" where they are. translates: whether it translates
    images. phases: which of numeric_settings' phases decide its images.
    """

    phases: ClassVar[tuple[str, ...]] = ("draw",)

    label: str
    network: Network
    family: str
    kind_name: str
    sampler: dict[str, Any]
    abilities: tuple[str, ...]
    translates: bool
    no_classes: str
    no_texts: str

    @classmethod
    def of(cls, label: str, network: Network, kind: type[Draws], sampler: dict[str, Any], **more: Any) -> Any:
        """A source of this kind for a class."""
        names, translates = contract.abilities(kind), issubclass(kind, Translates)
        return cls(label, network, kind.family, kind.__name__, sampler, names, translates, **more)

    @property
    def given(self) -> str:  # type: ignore[override]
        """What the class declares."""
        return next((text for ability, text in GIVEN.items() if ability in self.abilities), "")

    @property
    def code(self) -> str:  # type: ignore[override]
        """The hash of the class's code."""
        return self.network.code

    @property
    def capabilities(self) -> Capabilities:
        """The class's abilities."""
        return Capabilities(self.kind_name, self.abilities, "", self.no_classes, self.no_texts)

    def samples_key(self, plan: DataPlan, drawing: Drawing) -> str:
        """Weights, code, config, sampler, and how they are drawn."""
        return samples_key(
            draw=DRAW_VERSION, weights=self.weights_key, code=self.code, config=self.network.config,
            sampler=self.sampler, spec=asdict(plan.spec), **drawing.plain, **hashes(self.network.files),
            **self._texts(drawing, "captions of the data"),
        )  # fmt: skip

    def _texts(self, drawing: Drawing, otherwise: str) -> dict[str, Any]:
        """Which texts its samples are drawn for; {} for none."""
        return {} if self.no_texts else {"prompts": drawing.prompts.facts if drawing.prompts else otherwise}

    def load(self, opened: Opened) -> Any:
        """The network with its weights, on the device, in eval mode."""
        model = self.network.build(opened.plan, opened.drawing.seed)
        self.read_weights(model, opened)
        returned.weights(model, "as loaded")
        return model.to(opened.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]

    @abstractmethod
    def read_weights(self, model: Draws, opened: Opened) -> None:
        """Puts the weights into the model. Raises CellFailure when they are missing."""

    def draw(self, opened: Opened) -> Samples:
        """Images by the model's sampler, block by block."""
        drawing, model, start = opened.drawing, opened.model, time.perf_counter()
        scratch = self._scratch(opened) if drawing.n > drawing.block else None
        if opened.team.size > 1 and scratch is not None:
            with opened.team.call(_draw_too, *opened.sent, scratch) as group:
                _draw_share(opened, group, scratch)
        drawn = draw(model, drawing.n, drawing.seed, block=drawing.block, precision=drawing.precision,
                     conditions=conditions_of(opened), scratch=scratch, report=opened.report)  # fmt: skip
        seconds = time.perf_counter() - start
        meta = {"evaluations": drawn.evaluations, "non_finite": drawn.non_finite, "seconds": seconds}
        meta |= {"at_once": drawn.at_once} if drawn.at_once else {}
        shown = translated_rows(opened) if self.translates else None
        return Samples(Images(drawn.pixels, drawn.labels, drawn.texts), meta | made_with(opened.device), shown)

    def _scratch(self, opened: Opened) -> Path:
        """Where finished blocks are kept until the last one is drawn."""
        return opened.store.scratch(Kind.SAMPLES, self.samples_key(opened.plan, opened.drawing))

    def protocol(self, opened: Opened) -> dict[str, Any]:
        """Precision, config, sampler, evaluations; where there are any, CUDA's settings, files, prompts, the caveat."""
        model = opened.model
        settings = numeric_settings(opened.device)
        branch: dict[str, Any] = {"precision": opened.drawing.precision, **returned.options(model)}
        evaluations = returned.evaluations(model)
        branch |= {} if evaluations is None else {"evaluations": evaluations}
        branch |= {"numerics": {phase: settings[phase] for phase in self.phases}} if settings else {}
        branch |= hashes(self.network.files) | self._texts(opened.drawing, "captions of the data")
        return branch | ({"caveat": model.caveat} if model.caveat else {})

    def log_probs(self, opened: Opened, metric: Metric, pixels: Tensor) -> LogProbs:
        """By the model, kept in the store."""
        kind, log_prob = likelihood_of(opened.model, metric)
        key = likelihoods_key(self._likelihood_source(opened, kind), kind, len(pixels), metric.protocol)

        at_once = AtOnce(noting(opened.report, "likelihood"))

        def make() -> dict[str, np.ndarray]:
            values = shared_log_probs(opened, metric, pixels, log_prob, at_once)
            if kind == ESTIMATE:
                refuse_unconverged(opened, metric, pixels[:LIKELIHOOD_BATCH], values[:LIKELIHOOD_BATCH], at_once)
            return {"log_probs": values}

        meta = lambda: made_with(opened.device) | at_once.facts  # noqa: E731
        arrays = opened.store.kept_arrays(Kind.LIKELIHOODS, key, make, meta)
        made = opened.store.meta(Kind.LIKELIHOODS, key)
        opened.at_once |= {"likelihood": made["at_once"]} if "at_once" in made else {}
        return LogProbs(kind, arrays["log_probs"], only_made_with(made))

    def _likelihood_source(self, opened: Opened, kind: str) -> str:
        """An estimate depends on the weights and not on the sampler: rows that share weights share it."""
        estimate = getattr(type(opened.model), "log_prob_estimate", None)
        if kind == ESTIMATE and self.weights_key and estimate is not None:
            read = [file.content for file in self.network.files]
            return " ".join([self.weights_key, estimate.__qualname__, *read])
        return self.samples_key(opened.plan, opened.drawing)


def _draw_too(group: Processes, *arguments: Any) -> None:
    """What a member of the team does while process 0 draws."""
    *sent, scratch = arguments
    _draw_share(opened_too(group, *sent), group, scratch)


def _draw_share(opened: Opened, group: Processes, scratch: Path) -> None:
    drawing = opened.drawing
    draw_share(opened.model, drawing.n, drawing.seed, group, scratch, block=drawing.block, precision=drawing.precision,
               conditions=conditions_of(opened), report=opened.report)  # fmt: skip


def conditions_of(opened: Opened) -> Conditions:
    """What the samples of a row are requested to show; UNCONDITIONAL for a model that accepts no condition."""
    model, dataset = opened.model, opened.dataset
    if isinstance(model, Translates):
        assert dataset.source is not None
        return Conditions(images=to_unit_range(dataset.source.test.pixels, dataset.spec.levels))
    if isinstance(model, TextConditional) and not opened.source.capabilities.no_texts:
        return _texts_asked(opened)
    return Conditions(dataset.train.labels) if isinstance(model, ClassConditional) else UNCONDITIONAL


def _texts_asked(opened: Opened) -> Conditions:
    prompts, dataset = opened.drawing.prompts, opened.dataset
    if prompts is not None:
        classes = torch.tensor(prompts.classes) if prompts.classes else None
        return Conditions(texts=prompts.texts, text_labels=classes, each=prompts.each)
    if dataset.test.texts:
        return Conditions(texts=dataset.test.texts, text_labels=dataset.test.labels)
    return Conditions(dataset.train.labels, dataset.captions)


def translated_rows(opened: Opened) -> Tensor:
    """Rows of source images; below each row its translation, and the translation back."""
    assert opened.dataset.source is not None
    source, sizes = opened.dataset.source.test.pixels[:SHOWN], AtOnce(noting(opened.report, "draw"))
    rows = [images.split(ROW) for images in (source, *there_and_back(opened.model, source, "a_to_b", at_once=sizes))]
    return torch.cat([row for group in zip(*rows, strict=True) for row in group])
