"""genbench: GANs, VAEs, diffusion models and flows trained, sampled and scored under one declared protocol."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genbench import metrics
    from genbench.build import load_model
    from genbench.contract import DataSpec
    from genbench.runner import Result, run
    from genbench.scoring import Scores, score

__all__ = ["DataSpec", "Result", "Scores", "load_model", "metrics", "run", "score"]

_PLACES = {
    "run": "genbench.runner",
    "Result": "genbench.runner",
    "load_model": "genbench.build",
    "DataSpec": "genbench.contract",
    "score": "genbench.scoring",
    "Scores": "genbench.scoring",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(importlib.import_module(_PLACES[name]), name)
    if name == "metrics":
        return importlib.import_module("genbench.metrics")
    raise AttributeError(f"module 'genbench' has no attribute '{name}'")
