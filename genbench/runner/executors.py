"""The launchers by the names of `genbench run --executor`; one that needs an extra package is imported on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import torch
import yaml

from genbench.errors import GenbenchError
from genbench.machine import choose_gpus, cores_available, threads_allowed, use_threads
from genbench.options import nearest
from genbench.reasons import explain
from genbench.runner.execution import Execution, LaunchRequest
from genbench.runner.launcher import Launcher
from genbench.runner.pool import POOL_MODULES, Pool, worker_count
from genbench.team import Launched, require_processes


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


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    try:
        return key, yaml.safe_load(value) if key and equals else _refuse(text)
    except yaml.YAMLError:
        return _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise GenbenchError(f"--executor-option: found '{text}', allowed: KEY=VALUE")


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


def _ray(request: LaunchRequest) -> Launcher:
    from genbench.runner.ray_cluster import RayCluster

    return RayCluster(request)


def _submitit(request: LaunchRequest) -> Launcher:
    from genbench.runner.submitit_cluster import SubmititCluster

    return SubmititCluster(request)


LAUNCHERS: dict[str, Callable[[LaunchRequest], Launcher]] = {"local": _local, "ray": _ray, "submitit": _submitit}
