"""The models of a suite as plain data, from which a process of any revision can build them."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from genbench import data
from genbench.errors import GenbenchError
from genbench.keys import digest
from genbench.plan.cells import Cell
from genbench.plan.planner import make_plan
from genbench.sources.network import NetworkSource
from genbench.sources.trained import WEIGHTS_FILE, Trained, Weights
from genbench.store import Kind, Store
from genbench.suite.schema import Suite


@dataclass(frozen=True)
class TimedModel:
    """One model to time.

    name, source, folder, config, sampler: as in the suite. spec: the fields of DataSpec. captions: the conditions of a
    text model. weights: a file of weights, None for random weights. part: key and strip of it.
    """

    label: str
    name: str
    source: str | None
    folder: str
    config: dict[str, Any]
    sampler: dict[str, Any]
    precision: str
    spec: dict[str, Any]
    captions: tuple[str, ...] = ()
    weights: str | None = None
    part: tuple[str, str] = ("", "")

    @property
    def key(self) -> str:
        """Hash of everything that decides what is drawn; times with different keys are not compared."""
        fields = {k: v for k, v in asdict(self).items() if k not in ("folder", "weights", "label", "part")}
        return digest({**fields, "trained": self.weights is not None})[:12]

    def within(self, root: Path, tree: Path) -> TimedModel:
        """The same subject in another checkout: its folder below `root` becomes the same folder below `tree`."""
        return replace(self, folder=str(tree / Path(self.folder).resolve().relative_to(root)))


def subjects(
    suite: Suite, models: Collection[str] | None, random_weights: bool
) -> tuple[list[TimedModel], dict[str, str]]:
    """The suite's models that can be timed, and by label the reasons of those that cannot.

    Raises GenbenchError where trained weights are needed and missing, or no model can be timed.
    """
    unscored = suite.model_copy(update={"features": "pixels", "metrics": ["images_per_second"]})  # needs no extractor
    plan, store = make_plan(unscored, models=models), Store()
    first = {entry.label: suite.seeds_of(entry)[0] for entry in suite.models}
    cells = [cell for cell in plan.cells if cell.source.ranked and cell.seed == first[cell.label]]
    left_out = {cell.label: why for cell in cells if (why := cell.source.capabilities.no_network)}
    timed = [_subject(cell, suite, store, random_weights) for cell in cells if cell.label not in left_out]
    if not timed:
        raise GenbenchError(f"{suite.suite}: no model with a network to time")
    return timed, left_out


def _subject(cell: Cell, suite: Suite, store: Store, random_weights: bool) -> TimedModel:
    assert isinstance(cell.source, NetworkSource)
    network = cell.source.network
    entry, folder = cell.data.entry, cell.data.folder
    captions = data.captions_of(entry)
    if not captions and data.has_captions(entry, folder):
        captions = data.load(entry, folder).test.texts or ()
    weights = None if random_weights else _weights(cell, suite, store)
    part = (cell.source.key, cell.source.strip) if isinstance(cell.source, Weights) and weights else ("", "")
    return TimedModel(
        cell.label, network.name, network.target, os.path.abspath(network.folder), network.config, network.sampler,  # noqa: PTH100 - resolve() would follow a link out of the repository
        cell.drawing.precision, asdict(cell.data.spec), captions, weights, part,
    )  # fmt: skip


def _weights(cell: Cell, suite: Suite, store: Store) -> str | None:
    if isinstance(cell.source, Weights):
        return str(cell.source.file.absolute())
    if not isinstance(cell.source, Trained):
        return None
    if not store.intact(Kind.WEIGHTS, cell.source.weights_key):
        raise GenbenchError(
            f"{suite.suite}: {cell.label} is not trained; allowed: --random-weights (throughput needs no training), "
            "or `genbench run` first"
        )
    return str(store.path(Kind.WEIGHTS, cell.source.weights_key) / WEIGHTS_FILE)
