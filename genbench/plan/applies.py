"""What applies to a suite: the setting that metrics are checked against, and what a dataset lacks for a model."""

from __future__ import annotations

from genbench import data, features
from genbench.contract import ClassConditional, Draws, Model, TextConditional, Translates
from genbench.data.prompts import Prompts
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
        texts=features.has_texts(extractor),
    )


def lacking(kind: type[Draws], plan: DataPlan, prompts: Prompts | None = None, trained: bool = True) -> str:
    """What the dataset lacks for training a model, if it is trained here, or drawing from it; "" for nothing."""
    name = plan.name
    if issubclass(kind, Translates) and not data.is_translation(plan.entry):
        return f"translates; found dataset {name}, allowed: {{name: edges, of: ...}}"
    if issubclass(kind, TextConditional) and not _has_texts(kind, plan, prompts, trained):
        return f"is conditioned on text; found dataset {name} without captions"
    if issubclass(kind, ClassConditional) and not plan.spec.classes and unrequested(kind, plan, prompts)["no_texts"]:
        return f"is conditioned on classes; found dataset {name} without labels"
    return ""


def _has_texts(kind: type[Draws], plan: DataPlan, prompts: Prompts | None, trained: bool) -> bool:
    """Whether there are texts to train it on, and to draw it for."""
    own = data.has_captions(plan.entry, plan.folder)
    return (
        own or issubclass(kind, ClassConditional) or (prompts is not None and not (trained and issubclass(kind, Model)))
    )


def unrequested(kind: type[Draws], plan: DataPlan, prompts: Prompts | None) -> dict[str, str]:
    """Why samples of a class are not drawn for classes of the data and for texts: no_classes, no_texts; "" for asked.

    A model that accepts classes and texts is asked for texts only where the suite has prompts.
    """
    by_class, by_text = issubclass(kind, ClassConditional), issubclass(kind, TextConditional)
    if by_text and (prompts is not None or not by_class):
        named = prompts is None or prompts.classes
        return {"no_classes": "" if named else "the suite's prompts name no classes of the data", "no_texts": ""}
    if by_class:
        return {"no_classes": "", "no_texts": "its samples were drawn for classes, not for texts"}
    return {
        "no_classes": "its samples were drawn without requested classes",
        "no_texts": "its samples were drawn without texts",
    }
