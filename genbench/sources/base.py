"""What a source of images is: the base class, and the plain data that sources are planned and opened with.

A source is a frozen dataclass of plain data, made while planning and sent to a worker. Metrics, the planner and the
page use this interface and do not distinguish kinds of sources.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from genbench import data
from genbench.contract import DataSpec
from genbench.data.last import load_again
from genbench.data.prompts import Prompts
from genbench.errors import CellFailure
from genbench.metrics.facts import Capabilities, Images
from genbench.processes.group import Processes
from genbench.progress import Report, silent
from genbench.store import Store
from genbench.team import SOLO, Team

if TYPE_CHECKING:
    import numpy as np

    from genbench.contract import Model
    from genbench.metrics.base import Metric


@dataclass(frozen=True)
class DataPlan:
    """A suite's dataset: its entry, where relative paths start, shape, fingerprint, and the reference split.

    sizes: the numbers of train and of test images, None where only loading tells.
    """

    entry: dict[str, Any]
    folder: Path
    spec: DataSpec
    fingerprint: str
    reference: str
    sizes: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The dataset's name in records and tables."""
        return data.label(self.entry)


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn: n images from a seed, in blocks of that many, in "fp32" or "bf16".

    prompts: the texts that models which draw from a text are asked for; None: the captions of the data.
    """

    n: int
    seed: int
    block: int = 500
    precision: str = "fp32"
    prompts: Prompts | None = None

    @property
    def plain(self) -> dict[str, Any]:
        """For keys: everything but the prompts, which only some models read."""
        return {"n": self.n, "seed": self.seed, "block": self.block, "precision": self.precision}


@dataclass(frozen=True)
class Samples:
    """Drawn images, facts about drawing them (evaluations, non_finite, seconds), and a picture laid out for the page.

    shown: (M, C, H, W) uint8, None where the page shows the images themselves.
    """

    images: Images
    meta: dict[str, Any] = field(default_factory=dict)
    shown: Tensor | None = None


@dataclass(frozen=True)
class LogProbs:
    """Log-probabilities in nats (N,), their kind, and the hardware and version of torch that computed them, if any."""

    kind: str
    values: np.ndarray
    made_with: dict[str, str] = field(default_factory=dict)


class Opened:
    """A source opened in a worker: its dataset and its model are loaded when they are first used, and then kept.

    team: the processes that draw and compute likelihoods together. at_once: how many images were computed at once in a
    phase ("likelihood") that ran out of memory with more.
    """

    def __init__(
        self, source: Source, plan: DataPlan, drawing: Drawing, store: Store, device: str, report: Report,
        team: Team = SOLO,
    ) -> None:  # fmt: skip
        self.source, self.plan, self.drawing = source, plan, drawing
        self.store, self.device, self.report, self.team = store, device, report, team
        self.at_once: dict[str, int] = {}

    @cached_property
    def dataset(self) -> data.Dataset:
        """The suite's dataset."""
        return load_again(self.plan.entry, self.plan.folder)

    @cached_property
    def model(self) -> Model:
        """The source's model with its weights, on the device, in eval mode."""
        return self.source.load(self)

    @property
    def sent(self) -> tuple[Any, ...]:
        """What a member of the team needs to open the same source: the arguments of `opened_too`."""
        return self.source, self.plan, self.drawing, self.store.location, self.device


def opened_too(group: Processes, source: Source, plan: DataPlan, drawing: Drawing, store: str, device: str) -> Opened:
    """In a member of a team, the source that process 0 has opened."""
    return Opened(source, plan, drawing, Store(store), group.device(device), silent)


class Source(ABC):
    """Where the images of one row come from.

    label: the row's name. ranked: whether it takes part in ranks; scale rows do not. family: of the model, "" for none.
    given: what it receives for each image: "class", "caption", "image", or "" for nothing. code: hash of the model's
    code, "" for none. weights_key: key of the weights, "" for none.
    """

    label: str
    family: str
    ranked = True
    given = ""
    code = ""

    @property
    def role(self) -> str:
        """The record's role: "model" for rows that are ranked, else "scale"."""
        return "model" if self.ranked else "scale"

    @property
    def weights_key(self) -> str:
        """The key of the weights that it draws from; "" when there are none."""
        return ""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What it can do, by name."""

    @abstractmethod
    def samples_key(self, plan: DataPlan, drawing: Drawing) -> str:
        """The key of its images."""

    @abstractmethod
    def draw(self, opened: Opened) -> Samples:
        """Its images. Raises CellFailure when they cannot be made."""

    def count(self, plan: DataPlan, drawing: Drawing) -> int | None:
        """How many images it draws; None where that is not known."""
        return drawing.n

    def warnings(self, store: Store) -> tuple[str, ...]:
        """What a reader of any number of this row must know, beside what the linter says of its images."""
        return ()

    def protocol(self, opened: Opened) -> dict[str, Any]:
        """The `model` branch of a record's protocol."""
        return {}

    def load(self, opened: Opened) -> Model:
        """The model with its weights. Raises CellFailure for a source without one."""
        raise CellFailure(self.capabilities.no_network)

    def log_probs(self, opened: Opened, metric: Metric, pixels: Tensor) -> LogProbs:
        """Log-probabilities of images (N, C, H, W) uint8."""
        raise CellFailure(self.capabilities.no_network)
