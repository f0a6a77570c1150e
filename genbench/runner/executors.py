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
from genbench.team import Launched, require_processes

POOL_MODULES = ("genbench.runner.process_state", "genbench.runner.warm")  # the latter last
Stalled = Callable[[Task, float], None]


@dataclass(frozen=True)
class Execution:
    """Where tasks run: an executor's name, the device of a task, GPUs of this machine (as in Pool), and options.

    processes: that compute each task together. launched: whether torchrun has started them.
    """

    executor: str = "local"
    device: str = "cpu"
    gpus: tuple[str, ...] = ()
    options: dict[str, str] = field(default_factory=dict)
    processes: int = 1
    launched: bool = False

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


def choose_execution(
    executor: str, device: str, options: Iterable[str] = (), processes: int | None = None
) -> Execution:
    """Where a run's tasks run. options: KEY=VALUE of the executor. processes: of a task; None: those that torchrun has
    started, else one. GenbenchError for what is not available.
    """
    if executor not in LAUNCHERS:
        allowed = ", ".join(LAUNCHERS)
        raise GenbenchError(f"--executor: unknown '{executor}'{nearest(executor, LAUNCHERS) or ';'} allowed: {allowed}")
    pairs = dict(_pair(text) for text in options)
    if executor == "local":
        if pairs:
            raise GenbenchError("--executor-option: the local executor has no options")
        return _here(*choose_gpus(device), processes)
    return Execution(executor, device, (), pairs, processes or 1)


def _here(device: str, gpus: tuple[str, ...], processes: int | None) -> Execution:
    launched = Launched.from_environment()
    if launched is None:
        require_processes(processes or 1, device, len(gpus))
        return Execution("local", device, gpus, {}, processes or 1)
    if processes not in (None, launched.size):
        raise GenbenchError(f"--processes: found {processes}, allowed: {launched.size}, which torchrun has started")
    require_processes(launched.size, device)
    return Execution("local", device, (), {}, launched.size, True)


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise GenbenchError(f"--executor-option: found '{text}', allowed: KEY=VALUE")
    return key, value


def make_launcher(request: LaunchRequest) -> Launcher:
    """The launcher of an execution."""
    return LAUNCHERS[request.execution.executor](request)


def _local(request: LaunchRequest) -> Launcher:
    execution, size = request.execution, request.execution.processes
    several = [execution.gpus[i : i + size] for i in range(0, len(execution.gpus) - size + 1, size)]
    gpus = tuple(",".join(names) for names in several)
    workers = worker_count(torch.device(execution.device).type, cores_available(), len(gpus))
    workers = 1 if execution.launched else workers if gpus else max(1, workers // size)
    modules = (*request.modules, *POOL_MODULES)
    pool = Pool(workers, threads_allowed(), use_threads, explain, modules, gpus=gpus)
    pool.limit, pool.on_stall = request.limit, request.on_stall
    return pool


LAUNCHERS: dict[str, Callable[[LaunchRequest], Launcher]] = {"local": _local}
