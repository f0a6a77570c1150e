"""Where a run's tasks run, as plain data, and what a launcher is told about the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from genbench.errors import GenbenchError
from genbench.options import option_problems
from genbench.runner.launcher import Task

Options = TypeVar("Options")


@dataclass(frozen=True)
class Execution:
    """Where tasks run: an executor's name, the device of a task, GPUs of this machine (as in Pool), and options.

    processes: that compute each task together. launched: whether torchrun has started them.
    """

    executor: str = "local"
    device: str = "cpu"
    gpus: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    processes: int = 1
    launched: bool = False

    @property
    def here(self) -> bool:
        """Whether it is this machine, so that the machine of timings is known before they run."""
        return self.executor == "local"


@dataclass(frozen=True)
class LaunchRequest:
    """What a launcher is told about a run.

    modules: what every worker needs. folder: of the result. limit: seconds after which a task fails. on_stall: is told
    of a task without progress, and for how many seconds.
    """

    execution: Execution
    modules: tuple[str, ...]
    folder: Path
    limit: float | None
    on_stall: Callable[[Task, float], None]


def executor_options(kind: type[Options], execution: Execution) -> Options:
    """The options of an executor; kind: their dataclass. GenbenchError for one that is unknown or does not fit."""
    for name, message in option_problems(kind, execution.options):
        raise GenbenchError(f"--executor-option {name}: {message}")
    return kind(**execution.options)
