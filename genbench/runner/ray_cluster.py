"""Tasks as Ray tasks (`--executor ray`), with CPUs, GPUs and memory as Ray's resources."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

from annotated_types import Ge

from genbench.errors import GenbenchError
from genbench.machine import KEEPING_MEMORY, SHORT_SPINS, cores_available
from genbench.progress import Progress
from genbench.runner.cluster import Cluster, Message
from genbench.runner.execution import LaunchRequest, executor_options
from genbench.runner.launcher import Outcome, Task
from genbench.runner.remote_work import Lost, Work

GRACE = 3.0  # seconds that workers have to write checkpoints
# Of a cluster that is started here: no reports to Ray's makers, and workers without Ray's nice 19.
UNUSUAL = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "RAY_worker_niceness": "0"}


@dataclass(frozen=True)
class RayOptions:
    """address: of a cluster that runs, "auto" for that of this machine; "" starts one here. cpus, gpus, memory_gb: of a
    task; a timing reserves all CPUs of a machine. gpus: default 1 where the device needs one.
    """

    address: str = ""
    cpus: Annotated[int, Ge(1)] = 1
    gpus: Annotated[float, Ge(0)] | None = None
    memory_gb: Annotated[float, Ge(0)] = 0.0


class ProgressBoard:
    """An actor between workers and the command: progress in one direction, the wish to stop in the other."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, Progress]] = []
        self.stopping = False

    def tell(self, name: str, progress: Progress) -> bool:
        """A worker's progress; returns whether the run wants to stop."""
        self.messages.append((name, progress))
        return self.stopping

    def take(self) -> list[tuple[str, Progress]]:
        """What was told since the last call."""
        messages, self.messages = self.messages, []
        return messages

    def halt(self) -> None:
        """From now on the run wants to stop."""
        self.stopping = True


def perform_for(board: Any, work: Work) -> Outcome | Lost:
    """The Ray task: performs the work and tells the board."""
    import ray

    return work.perform(lambda progress: bool(ray.get(board.tell.remote(work.name, progress))))


class RayCluster(Cluster):
    """Ray tasks, one process each."""

    def __init__(self, request: LaunchRequest) -> None:
        """Raises GenbenchError without Ray, or where its cluster cannot be reached."""
        super().__init__(request)
        options = executor_options(RayOptions, request.execution)
        try:
            import ray
        except ImportError:
            raise GenbenchError("--executor ray: needs Ray: pip install 'genbench[ray]'") from None
        self.ray, self.options = ray, options
        self.tasks: dict[Any, str] = {}
        with _own_signals():
            self._connect()
        self.board: Any = ray.remote(num_cpus=0)(ProgressBoard).remote()
        self.function = ray.remote(max_calls=1, max_retries=0)(perform_for)
        self.largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
        self.gpus = options.gpus if options.gpus is not None else self._gpus_needed()

    def _connect(self) -> None:
        os.environ.update({name: value for name, value in UNUSUAL.items() if name not in os.environ})
        variables = {**KEEPING_MEMORY, **SHORT_SPINS}
        more: dict[str, Any] = {"address": self.options.address} if self.options.address else {
            "address": "local", "num_cpus": cores_available(), "include_dashboard": False}  # fmt: skip
        try:
            self.ray.init(**more, runtime_env={"env_vars": variables}, logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())[:200]
            raise GenbenchError(f"--executor ray: no cluster at '{self.options.address}': {text}") from None

    def _gpus_needed(self) -> float:
        kind = self.request.execution.device.partition(":")[0]
        there = self.ray.cluster_resources().get("GPU", 0) > 0
        return 1.0 if kind == "cuda" or (kind == "auto" and there) else 0.0

    def submit(self, tasks: list[Task]) -> None:
        """As Cluster."""
        for task in tasks:
            size = self.request.execution.processes
            cpus = max(self.largest, 1) if task.alone else self.options.cpus * size
            resources: dict[str, Any] = {"num_cpus": cpus, "num_gpus": self.gpus * size, "name": task.name}
            resources |= {"memory": int(self.options.memory_gb * 2**30)} if self.options.memory_gb else {}
            self.tasks[self.function.options(**resources).remote(self.board, Work.of(task))] = task.name

    def messages(self) -> Iterable[Message]:
        """As Cluster."""
        ready = self._wait(list(self.tasks), 1, 0.5)
        waiting = [reference for reference in self.tasks if reference not in ready]
        ready += self._wait(waiting, len(waiting), 0.0)
        yield from self.ray.get(self.board.take.remote())
        for reference in ready:
            yield self.tasks.pop(reference), self._result(reference)

    def _wait(self, references: list[Any], count: int, seconds: float) -> list[Any]:
        try:
            return list(self.ray.wait(references, num_returns=count, timeout=seconds)[0]) if references else []
        except SystemError as error:  # of Cython, when the handler of a signal raised
            raise error.__cause__ or error from None

    def _result(self, reference: Any) -> Outcome | Lost:
        try:
            result: Outcome | Lost = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:  # before the task itself began
            return Outcome(failure=f"its worker could not begin: {_last_line(error)}")
        except self.ray.exceptions.RayError as error:
            return Lost(type(error).__name__)
        return result

    def cancel(self, task: Task) -> None:
        """As Cluster."""
        for reference in [r for r, name in self.tasks.items() if name == task.name]:
            del self.tasks[reference]
            self.ray.cancel(reference, force=True)

    def stop(self) -> None:
        """As Cluster."""
        if self.tasks:
            self.board.halt.remote()
            deadline = time.monotonic() + GRACE
            self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=max(0.0, deadline - time.monotonic()))
            for reference in self.tasks:
                self.ray.cancel(reference, force=True)
        self.ray.shutdown()


def _last_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[-1]


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray replaces the handlers of a command's signals."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
