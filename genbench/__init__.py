"""genbench: GANs, VAEs, diffusion models and flows trained, sampled and scored under one declared protocol."""

from __future__ import annotations

TYPE_CHECKING = False  # typing.TYPE_CHECKING: importing typing would delay the command's handlers of signals
if TYPE_CHECKING:
    from genbench import metrics
    from genbench.contract import DataSpec
    from genbench.errors import GenbenchError
    from genbench.evaluate.score import Scores, score
    from genbench.report.result import Result, read_result
    from genbench.runner.run import run
    from genbench.sources.build import load_model

__all__ = [
    "DataSpec",
    "GenbenchError",
    "Result",
    "Scores",
    "load_model",
    "metrics",
    "read_result",
    "run",
    "score",
]
__version__: str

_MODULES = {
    "run": "genbench.runner.run",
    "Result": "genbench.report.result",
    "read_result": "genbench.report.result",
    "load_model": "genbench.sources.build",
    "DataSpec": "genbench.contract",
    "GenbenchError": "genbench.errors",
    "score": "genbench.evaluate.score",
    "Scores": "genbench.evaluate.score",
}

if not TYPE_CHECKING:  # a type checker reads the imports above, and reports names that do not exist

    def __getattr__(name: str) -> object:
        """A public name, imported when it is used first, so that `import genbench` does not import torch."""
        import importlib

        if name in _MODULES:
            return getattr(importlib.import_module(_MODULES[name]), name)
        if name == "__version__":
            return importlib.import_module("importlib.metadata").version("genbench")
        if name == "metrics":
            return importlib.import_module("genbench.metrics")
        raise AttributeError(f"module 'genbench' has no attribute '{name}'")

    def __dir__() -> list[str]:
        """The public names."""
        return [*__all__, "__version__"]
