"""The readings that genbench has: one object per kind of metric input, shared by suites and by `genbench score`."""

from __future__ import annotations

from genbench.metrics.readings.images import (
    BY_CLASS,
    CLIP,
    CONDITION,
    FEATURES,
    GENERATED,
    LABELLED,
    MEMORY,
    NEIGHBOURS,
    PIXELS,
    PROBABILITIES,
    PROMPTS,
    SPATIAL,
)
from genbench.metrics.readings.network import COST, LIKELIHOOD, PATHS, TRANSLATION

__all__ = [
    "BY_CLASS", "CLIP", "CONDITION", "COST", "FEATURES", "GENERATED", "LABELLED", "LIKELIHOOD", "MEMORY", "NEIGHBOURS",
    "PATHS", "PIXELS", "PROBABILITIES", "PROMPTS", "SPATIAL", "TRANSLATION",
]  # fmt: skip
