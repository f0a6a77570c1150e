"""What applies to a suite: the setting that metrics are checked against, and what a dataset lacks for a model."""

from __future__ import annotations

from genbench import data, features
from genbench.contract import ClassConditional, Draws, TextConditional, Translates
from genbench.metrics.facts import Setting
from genbench.sources.base import DataPlan


def suite_setting(extractor: str, plan: DataPlan) -> Setting:
    """The setting of a suite's metrics."""
    return Setting(
        plan.name,
        plan.spec.classes,
        extractor,
        probabilities=features.has_probabilities(extractor),
        spatial=features.has_spatial(extractor),
        translation=data.is_translation(plan.entry),
    )


def lacking(kind: type[Draws], plan: DataPlan) -> str:
    """What the dataset lacks for training a model or drawing from it; "" for nothing."""
    name = plan.name
    if issubclass(kind, Translates) and not data.is_translation(plan.entry):
        return f"translates; found dataset {name}, allowed: {{name: edges, of: ...}}"
    if issubclass(kind, ClassConditional) and not plan.spec.classes:
        return f"is conditioned on classes; found dataset {name} without labels"
    if issubclass(kind, TextConditional) and not (
        data.has_captions(plan.entry, plan.folder) or issubclass(kind, ClassConditional)
    ):
        return f"is conditioned on text; found dataset {name} without captions"
    return ""
