"""Suites run in this process, so that what is patched here holds for them; and a suite's results as plain values."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import yaml

from tools.gpu.common import ROOT

SUITES = ROOT / "suites"
TINY = {"budget": {"images": 64}, "samples": 100, "block": 100, "likelihood_images": 4}
TINY_MODELS = ("gan", "vae", "ddpm", "ddim", "cyclegan")
COSTS = ("images_per_second", "latency", "evaluations", "parameters", "peak_memory")  # what does not depend on images
NEED_LARGER = ("class_accuracy", "prompt_agreement")  # metrics that no tiny model can give
SCALE = "scale "  # before the names of scale rows
Values = dict[str, float]  # by "cell metric"


class PoolOfThisProcess:
    """In place of genbench's pool of worker processes: tasks one after another, here."""

    def __init__(self, *_: object) -> None:
        pass

    def run(self, tasks: Sequence[Any], _: Callable[..., None], ended: Callable[..., None]) -> None:
        """Runs the tasks; an exception is the task's failure."""
        for task in tasks:
            try:
                result, failure = task.run(*task.args, lambda *_: None), ""
            except Exception as error:
                result, failure = None, f"{type(error).__name__}: {error}"
            ended(task, SimpleNamespace(failure=failure, result=result))


def written(name: str, folder: Path, tiny: bool, **changes: Any) -> Path:
    """A suite's file with changes, and in a rehearsal with few models and images."""
    suite = yaml.safe_load((SUITES / f"{name}.yaml").read_text()) | changes
    if tiny:
        suite |= TINY
        suite["models"] = [entry for entry in suite["models"] if entry["name"] in TINY_MODELS]
        suite["metrics"] = [name for name in suite["metrics"] if name not in NEED_LARGER]
    for entry in suite["models"]:
        if tiny and entry["name"] == "ddpm":
            entry["config"] = {"steps": 5}
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(suite, sort_keys=False))
    return path


def run_here(
    suite: Path, store: Path, device: str, around: Callable[[], AbstractContextManager[Any]] = nullcontext
) -> tuple[Values, list[str]]:
    """Runs a suite in this process; its values, and what failed. around: entered for the time of the run."""
    import genbench
    from genbench.runner import executors
    from genbench.screen import Screen

    with (
        patch.dict(os.environ, GENBENCH_CACHE=str(store)),
        patch.dict(executors.LAUNCHERS, local=PoolOfThisProcess),
        around(),
        Screen() as screen,
    ):
        return values_of(genbench.run(suite, out=store / f"out-{suite.stem}", device=device, screen=screen))


def run_as_users_do(suite: Path, store: Path, device: str) -> tuple[Values, list[str]]:
    """Runs a suite in worker processes; its values, and what failed."""
    import genbench

    with patch.dict(os.environ, GENBENCH_CACHE=str(store)):
        return values_of(genbench.run(suite, out=store / f"out-{suite.stem}", device=device))


def values_of(result: Any) -> tuple[Values, list[str]]:
    """The values of a finished run that no clock decides, and its failures in words."""
    kept = [r for r in result.records if r.value is not None and r.metric not in COSTS]
    failed = [f"{r.cell} {r.metric}: {r.reason}" for r in result.failed]
    return {f"{SCALE if r.role == 'scale' else ''}{r.cell} {r.metric}": r.value for r in kept}, failed
