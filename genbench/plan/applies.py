"""What applies to what: why a model, samples made elsewhere or a scale row cannot have a metric, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from genbench import data, features
from genbench.contract import ClassConditional, DataSpec, Model, TextConditional, Translates, abilities
from genbench.metrics.base import (
    CLASSES,
    CONDITION,
    COST,
    LABELLED,
    LIKELIHOOD,
    PATHS,
    PROBABILITIES,
    SPATIAL,
    TRANSLATION,
    Metric,
)
from genbench.sources import scale

OF_LABELS = (CLASSES, CONDITION, LABELLED)
ASKED = (ClassConditional, TextConditional)


def similarity_name(metric: Metric, extractor: str) -> str:
    """Which distance between pairs of images the metric reads ("" for none): see genbench.features.similarity."""
    if metric.name == "paired_lpips":
        return "lpips-vgg16"
    if metric.reads != PATHS:
        return ""
    return "classifier" if extractor == "classifier" else "lpips-vgg16"


@dataclass(frozen=True)
class Setting:
    """What decides beside the model: the extractor's name, and the dataset's entry and shape."""

    extractor: str
    entry: dict[str, Any]
    spec: DataSpec

    def why_not(self, metric: Metric, kind: type[Model] | None, labels: bool) -> str:
        """Why a model of this kind, or samples (kind None) with or without labels, cannot have it; "" when it can."""
        missing = self.missing(metric)
        if missing or (kind is None and labels and metric.reads in OF_LABELS):
            return missing
        if metric.reads in OF_LABELS and not (kind is not None and issubclass(kind, ASKED)):
            return "its samples were not asked for classes"
        if kind is None and metric.abilities:
            return "samples only: no network to ask"
        if kind is None and metric.reads == COST:
            return "samples only: no network to time"
        if kind is None or not metric.abilities or set(metric.abilities) & set(abilities(kind)):
            return ""
        has = ", ".join(abilities(kind)) or "none"
        return f"needs {' or '.join(metric.abilities)}; {kind.__name__} has: {has}"

    def missing(self, metric: Metric) -> str:
        """What the extractor or the dataset lacks for the metric."""
        name = self.entry["name"]
        if metric.reads in (PROBABILITIES, CONDITION) and not features.has_probabilities(self.extractor):
            return f"features '{self.extractor}' give no class probabilities"
        if metric.reads == SPATIAL and not features.has_spatial(self.extractor):
            return f"features '{self.extractor}' have no spatial map"
        if metric.reads in OF_LABELS and not self.spec.classes:
            return f"dataset {name} has no labels"
        if metric.reads == TRANSLATION and not data.is_translation(self.entry):
            return f"dataset {name} is no translation task"
        return ""

    def why_not_scale(self, metric: Metric, row: str) -> str:
        """Why a scale row cannot have the metric."""
        if metric.reads in (COST, PATHS, TRANSLATION):
            return "a scale row has no network"
        if metric.reads in OF_LABELS:
            return "a scale row is not asked for classes"
        if metric.reads != LIKELIHOOD:
            return self.missing(metric)
        if scale.ROWS[row].log_prob is None:
            return f"{row} has no likelihood"
        return (
            ""
            if "ExactLikelihood" in metric.abilities
            else f"the likelihood of {row} has a closed formula: see bits_per_dim"
        )

    def lacking(self, kind: type[Model]) -> str:
        """What the dataset lacks for a model to be trained on it at all."""
        name = self.entry["name"]
        if issubclass(kind, Translates) and not data.is_translation(self.entry):
            return f"translates; found dataset {name}, allowed: {{name: edges, of: ...}}"
        if issubclass(kind, ClassConditional) and not self.spec.classes:
            return f"is asked for classes; found dataset {name} without labels"
        if issubclass(kind, TextConditional) and not (
            data.has_captions(self.entry) or issubclass(kind, ClassConditional)
        ):
            return f"is asked for by text; found dataset {name} without captions"
        return ""
