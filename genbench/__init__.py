"""genbench: GANs, VAEs, diffusion models and flows trained, sampled and scored under one declared protocol."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genbench import metrics
    from genbench.contract import DataSpec
    from genbench.evaluate.score import Scores, score
    from genbench.runner.run import Result, run
    from genbench.sources.build import load_model

__all__ = ["DataSpec", "Result", "Scores", "load_model", "metrics", "run", "score"]

_MODULES = {
    "run": "genbench.runner.run",
    "Result": "genbench.runner.run",
    "load_model": "genbench.sources.build",
    "DataSpec": "genbench.contract",
    "score": "genbench.evaluate.score",
    "Scores": "genbench.evaluate.score",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    if name == "metrics":
        return importlib.import_module("genbench.metrics")
    raise AttributeError(f"module 'genbench' has no attribute '{name}'")
