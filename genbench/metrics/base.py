"""What a metric declares, and the interface of a reading: the kind of input that a metric reads.

A metric names one reading (`Metric.reads`). Planner, worker and `genbench score` use that object to find out what the
metric needs, what its value depends on and what it records, and to get its arguments; they never test which kind it is.
A new kind of input is one new subclass of Reading, which a plug-in may define.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from genbench.metrics.facts import Arguments, Capabilities, Facts, Images, Setting

if TYPE_CHECKING:
    import numpy as np

    from genbench.features import Features, TextFeatures

Tree = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Value:
    """A number with its interval.

    interval: how lo..hi was computed ("" when there is none). kind: of a likelihood, one of
    genbench.records.LIKELIHOOD_KINDS; "" for other metrics. busy: what disturbed the timing, as in genbench.records.
    """

    value: float
    lo: float | None = None
    hi: float | None = None
    interval: str = ""
    kind: str = ""
    busy: str = ""


# Smallest and largest possible value by unit.
UNIT_BOUNDS: dict[str, tuple[float, float]] = {
    "share": (0, 1), "probability": (0, 1), "classes": (1, math.inf), "samples": (1, math.inf),
    "similarity": (-1, 1), "2.5 cosine": (0, 2.5),
    **dict.fromkeys(
        ("feature^2", "balls / k", "pixel range", "grey range", "distance", "distance / step^2", "bits/dim", "images/s",
         "1000 MMD^2", "ms", "evaluations/image", "parameters", "MiB"),
        (0, math.inf),
    ),
}  # fmt: skip


def cut_interval(unit: str, value: float, lo: float | None, hi: float | None) -> tuple[float | None, float | None]:
    """The ends of an interval, cut at the bounds of the unit; as they are where an estimate is itself beyond these."""
    least, most = UNIT_BOUNDS.get(unit, (-math.inf, math.inf))
    if not least <= value <= most:
        return lo, hi
    return None if lo is None else max(lo, least), None if hi is None else min(hi, most)


@dataclass(frozen=True)
class OfReference:
    """What a metric needs of the reference alone: compute takes its features (M, D) and returns named arrays.

    The store keeps them under `name`, which must change with what is computed.
    """

    name: str
    compute: Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Metric:
    """One declared metric.

    name: as in suites and columns. title: as on the page. version: increased whenever a value may change. better:
    "lower" or "higher". unit: of the value, with its bounds (UNIT_BOUNDS). reads: the reading that provides the
    arguments of compute (genbench.metrics.readings). abilities: names of contract abilities, any one of which
    suffices; empty: none needed. protocol: the constants that decide the value; they go into the record's `metric`
    branch. of_reference: what compute is given as `known` beside the reference's rows. similarity: the distance
    between images that the reading computes: "" for none, "lpips-vgg16", or "own" for the classifier's where it is
    the extractor, else lpips-vgg16. machine: names of the settings of genbench.draw.cost.Cost that the value depends
    on. least: the fewest images of a set that define it, by the set's name in SETS, and the fewest classes. about: one
    line for `genbench ls metrics`. cannot_detect: one sentence about which faults of a model leave the value good.
    source, code: of a plug-in, set when it is loaded: the name that metrics.get finds it by, and the hash of its code.

        def brightness(*, fake, real):  # pixels (N, P), (M, P) in [0, 1]
            return Value(abs(float(fake.mean() - real.mean())))

        brightness_gap = Metric("brightness", "Brightness", 1, "lower", "grey range", readings.PIXELS, brightness)
        brightness_gap.compute(fake=np.full((3, 4), 0.75), real=np.zeros((5, 4))).value  # 0.75
    """

    name: str
    title: str
    version: int
    better: str
    unit: str
    reads: Reading
    compute: Callable[..., Value]
    abilities: tuple[str, ...] = ()
    protocol: dict[str, Any] = field(default_factory=dict)
    of_reference: OfReference | None = None
    similarity: str = ""
    machine: tuple[str, ...] = ()
    least: Mapping[str, int] = field(default_factory=dict)
    about: str = ""
    cannot_detect: str = ""
    source: str = ""
    code: str = ""

    def similarity_for(self, extractor: str) -> str:
        """The name of the distance between images that it reads under this extractor; "" for none."""
        if self.similarity != "own":
            return self.similarity
        return "classifier" if extractor == "classifier" else "lpips-vgg16"


# The sets whose size Metric.least bounds, as arguments of compute, and what messages call one and several.
SETS = {
    "fake": ("generated sample", "generated samples"), "probabilities": ("generated sample", "generated samples"),
    "real": ("reference sample", "reference samples"), "train": ("train image", "train images"),
    "held_out": ("held-out image", "held-out images"), "classes": ("class", "classes"),
    "texts": ("distinct prompt", "distinct prompts"),
}  # fmt: skip


def too_few(metric: Metric, counts: Mapping[str, int | None]) -> str:
    """Which set is too small for the metric, "" for none; counts: by the names of SETS, None where it is not known."""
    for name, least in metric.least.items():
        count = counts.get(name)
        if count is not None and count < least:
            return f"{count} {SETS[name][count != 1]}; needs at least {least}"
    return ""


class Inputs:
    """Numbers that metrics read. A subclass overrides what it can provide; readings use nothing else."""

    levels: int

    @property
    def fake(self) -> Features:
        """Features of the generated images."""
        raise NotImplementedError

    @property
    def real(self) -> Features:
        """Features of the reference images."""
        raise NotImplementedError

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What several metrics of a row share: made at the first request under this name."""
        shared = self.__dict__.setdefault("_shared", {})
        if name not in shared:
            shared[name] = make()
        return shared[name]

    def of_real(self, part: OfReference) -> dict[str, np.ndarray]:
        """What a metric needs of the reference's features alone."""
        return part.compute(self.real.vectors)

    @property
    def train(self) -> Features:
        """Features of the images that the model may have seen."""
        raise NotImplementedError

    @property
    def held_out(self) -> Features:
        """Features of images that no model has seen."""
        raise NotImplementedError

    @property
    def generated(self) -> Images:
        """The generated images; labels and texts are those that were requested."""
        raise NotImplementedError

    def text_features(self, texts: tuple[str, ...]) -> TextFeatures:
        """Embeddings of texts by the extractor."""
        raise NotImplementedError

    @property
    def reference(self) -> Images:
        """The reference images."""
        raise NotImplementedError

    @property
    def unseen(self) -> Images:
        """Held-out images with their labels."""
        raise NotImplementedError

    def warnings_for(self, metric: Metric) -> tuple[str, ...]:
        """The linter's findings that concern the metric, as sentences."""
        raise NotImplementedError

    @property
    def source_warnings(self) -> tuple[str, ...]:
        """Warnings about what made the images, such as its training; they concern every metric."""
        return ()

    @property
    def model_protocol(self) -> dict[str, Any]:
        """The branch `model` of a record's protocol."""
        return {}

    def at_once(self, metric: Metric) -> dict[str, int]:
        """How many images were computed at once in the phases that ran out of memory with more; {} for none."""
        return {}

    def made_with(self, metric: Metric) -> dict[str, Any]:
        """For that branch: the hardware and the version of torch behind what the metric has just read."""
        return {}

    def log_probs(self, metric: Metric) -> dict[str, Any]:
        """The arguments log_probs, dims and kind of a likelihood metric."""
        raise NotImplementedError

    def path_distances(self, metric: Metric) -> np.ndarray:
        """Distances (N,) along paths in latent space."""
        raise NotImplementedError

    def translation(self, metric: Metric) -> dict[str, Any]:
        """The arguments of a translation metric."""
        raise NotImplementedError

    @property
    def cost(self) -> Any:
        """Throughput, latency and memory of sampling."""
        raise NotImplementedError


class Reading(ABC):
    """One kind of metric input.

    name: a word for messages. depends_on: names of the fields of Facts that the value depends on beside the data.
    of_samples: whether it reads the generated images, so that the linter's warnings concern it. through_extractor:
    whether it reads them through the feature extractor. against_reference: whether it reads the reference split.
    needs_network: whether it uses the network itself. alone: whether it times the machine, so nothing else may run.
    """

    name: str
    depends_on: tuple[str, ...] = ()
    of_samples = False
    through_extractor = False
    against_reference = False
    needs_network = False
    alone = False

    def why_not(self, metric: Metric, setting: Setting, source: Capabilities) -> str:
        """Why the metric cannot be measured for this source in this setting; "" when it can."""
        missing = self.missing(setting)
        if missing:
            return missing
        if self.needs_network and source.no_network:
            return source.no_network
        if not metric.abilities or set(metric.abilities) & set(source.abilities):
            return ""
        if source.no_network and not source.abilities:
            return source.no_network
        has = ", ".join(source.abilities) or "none"
        return f"needs {' or '.join(metric.abilities)}; {source.name} has: {has}"

    def missing(self, setting: Setting) -> str:
        """What the extractor or the data lacks for this reading; "" for nothing."""
        return ""

    def depends(self, facts: Facts) -> dict[str, Any]:
        """What the value depends on beside the metric, as plain data for its key."""
        return {"data": facts.fingerprint, **facts.resized} | {name: getattr(facts, name) for name in self.depends_on}

    def protocol(self, facts: Facts, n_fake: int | None, n_real: int | None) -> Tree:
        """The branches `data` and `features` of a record's protocol."""
        data: dict[str, Any] = {"name": facts.dataset, "fingerprint": facts.fingerprint}
        if self.of_samples:
            data |= {"n_fake": n_fake, "quantisation": f"uint8, {facts.levels} levels", **facts.resized}
        if self.against_reference:
            data |= {"reference": facts.reference, "n_real": n_real}
        features = (facts.extractor if self.through_extractor else {}) | facts.similarity
        return {"data": data, "features": features}

    def machine(self, metric: Metric, inputs: Inputs) -> dict[str, Any]:
        """The branch `machine` of a record's protocol; {} for values that do not depend on the machine."""
        return {}

    @abstractmethod
    def read(self, inputs: Inputs, metric: Metric) -> Arguments:
        """The metric's arguments."""

    def __repr__(self) -> str:
        return f"<reading {self.name}>"
