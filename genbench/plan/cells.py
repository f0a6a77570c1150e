"""The cells of a plan as plain data, which is sent to worker processes.

A cell names everything that its worker needs: what to load or train, how to draw, what to measure, under which keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genbench.contract import DataSpec, Model, Recipe
from genbench.errors import CellFailure
from genbench.features import FeatureOptions
from genbench.plan.code_hash import code_hash
from genbench.records import slug
from genbench.registry import resolve_model


@dataclass(frozen=True)
class DataPlan:
    """The suite's dataset: its entry, where relative paths start, shape, fingerprint, and the reference split."""

    entry: dict[str, Any]
    folder: Path
    spec: DataSpec
    fingerprint: str
    reference: str


@dataclass(frozen=True)
class Network:
    """Which class with which options; plain data, so that it travels to a worker. code: the hash of its source."""

    name: str
    source: str | None
    folder: Path
    config: dict[str, Any] = field(default_factory=dict)
    sampler: dict[str, Any] = field(default_factory=dict)
    code: str = ""

    def resolve(self) -> type[Model]:
        """The class; CellFailure when its source is no longer what was planned with."""
        kind = resolve_model(self.name, self.source, self.folder)
        if code_hash(kind) != self.code:
            raise CellFailure(f"the code of {self.name} changed while the run was going; run it again")
        return kind


@dataclass(frozen=True)
class FitPlan:
    """One training, which several cells may share; key: the hash of all that the weights depend on."""

    key: str
    label: str
    network: Network
    recipe: Recipe
    images: int
    seed: int
    precision: str
    compile: bool


@dataclass(frozen=True)
class MetricPlan:
    """One number to measure; reason says why it does not apply ("" when it does)."""

    name: str
    key: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Cell:
    """One model on one dataset with one seed: what to load or train, draw and measure.

    role: "model" or "scale". Exactly one source of samples: fit (weights trained here), weights (a file), samples (a
    file), or a scale row of that label.
    """

    label: str
    role: str
    seed: int
    data: DataPlan
    n: int
    block: int
    precision: str
    extractor: str
    extraction: FeatureOptions
    metrics: tuple[MetricPlan, ...]
    samples_key: str
    weights_key: str = ""
    network: Network | None = None
    fit: FitPlan | None = None
    weights: Path | None = None
    samples: Path | None = None
    family: str = ""
    likelihood_images: int | None = None
    translates: bool = False
    speed_batch: int = 64
    speed_seconds: float = 3.0

    @property
    def id(self) -> str:
        """model/dataset/seed, as in the records."""
        return f"{self.label}/{self.data.entry['name']}/s{self.seed}"

    @property
    def slug(self) -> str:
        """The cell's name in file names."""
        return f"{slug(self.label)}-s{self.seed}"
