"""The launchers by the names of `genbench run --executor`; one that needs an extra package is imported on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from genbench.errors import GenbenchError
from genbench.machine import choose_gpus, cores_available, explain, threads_allowed, use_threads
from genbench.options import nearest
from genbench.runner.launcher import Launcher, Task
from genbench.runner.pool import Pool, worker_count

Stalled = Callable[[Task, float], None]


@dataclass(frozen=True)
class Execution:
    """Where tasks run: an executor's name, the device of a task, GPUs of this machine (as in Pool), and options."""

    executor: str = "local"
    device: str = "cpu"
    gpus: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)

    @property
    def here(self) -> bool:
        """Whether it is this machine, so that the machine of timings is known before they run."""
        return self.executor == "local"


@dataclass(frozen=True)
class LaunchRequest:
    """What a launcher is told about a run.

    modules: what every worker needs. folder: for files of the launcher's own, on a disk that the workers share. limit:
    seconds after which a task fails. on_stall: is told of a task without progress, and for how many seconds.
    """

    execution: Execution
    modules: tuple[str, ...]
    folder: Path
    limit: float | None
    on_stall: Stalled


def choose_execution(executor: str, device: str, options: Iterable[str] = ()) -> Execution:
    """Where a run's tasks run. options: KEY=VALUE of the executor. GenbenchError for what is not available."""
    if executor not in LAUNCHERS:
        allowed = ", ".join(LAUNCHERS)
        raise GenbenchError(f"--executor: unknown '{executor}'{nearest(executor, LAUNCHERS) or ';'} allowed: {allowed}")
    pairs = dict(_pair(text) for text in options)
    if executor == "local":
        if pairs:
            raise GenbenchError("--executor-option: the local executor has no options")
        return Execution("local", *choose_gpus(device))
    return Execution(executor, device, (), pairs)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise GenbenchError(f"--executor-option: found '{text}', allowed: KEY=VALUE")
    return key, value


def make_launcher(request: LaunchRequest) -> Launcher:
    """The launcher of an execution."""
    return LAUNCHERS[request.execution.executor](request)


def _local(request: LaunchRequest) -> Launcher:
    cores, execution = cores_available(), request.execution
    workers = worker_count(torch.device(execution.device).type, cores, len(execution.gpus))
    pool = Pool(workers, threads_allowed(), use_threads, explain, request.modules, gpus=execution.gpus)
    pool.limit, pool.on_stall = request.limit, request.on_stall
    return pool


LAUNCHERS: dict[str, Callable[[LaunchRequest], Launcher]] = {"local": _local}
