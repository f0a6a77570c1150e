"""Tasks as jobs of submitit (`--executor submitit`): Slurm's array jobs, or processes of this machine."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import psutil
from annotated_types import Ge

from genbench.errors import GenbenchError
from genbench.machine import cores_available
from genbench.progress import Progress
from genbench.runner.cluster import Cluster, Message
from genbench.runner.execution import LaunchRequest, executor_options
from genbench.runner.launcher import Outcome, Task
from genbench.runner.pool import without_interrupts
from genbench.runner.remote_work import Lost, Work
from genbench.store import make_folder

GRACE = 10.0  # seconds that jobs have to write checkpoints
POLL = 0.5
STOP = "stop"  # a file: jobs that see it write a checkpoint and end


@dataclass(frozen=True)
class SubmititOptions:
    """cluster: slurm, or local for processes of this machine; default: slurm where there is Slurm. partition, account,
    qos, time_limit (minutes), cpus, gpus, memory_gb: of a job. parallel: jobs of an array at a time. folder: for jobs
    and their logs, on a disk that all machines share; default: .jobs in the folder of the result.
    """

    cluster: Literal["slurm", "local"] | None = None
    partition: str = ""
    account: str = ""
    qos: str = ""
    time_limit: Annotated[int, Ge(1)] = 240
    cpus: Annotated[int, Ge(1)] = 1
    gpus: Annotated[int, Ge(0)] | None = None
    memory_gb: Annotated[float, Ge(0)] = 0.0
    parallel: Annotated[int, Ge(1)] = 256
    folder: str = ""


class Job:
    """What submitit calls: performs the work; progress goes into a file as lines of JSON."""

    def __init__(self, work: Work, told: Path) -> None:
        self.work, self.told = work, told

    def __call__(self) -> Outcome | Lost:
        """Runs in the job."""
        return self.work.perform(self.tell)

    def tell(self, progress: Progress) -> bool:
        """Appends progress; returns whether the run wants to stop."""
        with self.told.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(progress)) + "\n")
        return self.told.with_name(STOP).exists()

    def checkpoint(self) -> Any:
        """Called by submitit before the time limit or preemption: the job is queued again, and continues."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass
class _Submitted:
    job: Any
    told: Path
    read: int = 0


class SubmititCluster(Cluster):
    """Jobs of submitit, one for each task."""

    def __init__(self, request: LaunchRequest) -> None:
        """Raises GenbenchError without submitit, or without Slurm where it is wanted."""
        super().__init__(request)
        self.options = executor_options(SubmititOptions, request.execution)
        try:
            import submitit
        except ImportError:
            raise GenbenchError("--executor submitit: needs submitit: pip install 'genbench[submitit]'") from None
        self.folder = make_folder(Path(self.options.folder or request.folder / ".jobs").absolute())
        (self.folder / STOP).unlink(missing_ok=True)
        try:
            self.executor = submitit.AutoExecutor(self.folder / "%j", cluster=self.options.cluster)
        except RuntimeError as error:
            raise GenbenchError(f"--executor submitit: {error}") from None
        self.slurm = self.executor.cluster == "slurm"
        self.beside, self.most = self.slurm, None if self.slurm else cores_available()
        self.jobs: dict[str, _Submitted] = {}
        self.cancelled: list[_Submitted] = []
        self.number, self.failed = 0, False

    def submit(self, tasks: list[Task]) -> None:
        """As Cluster: those that need the same resources become one array job."""
        for alone in (False, True):
            group = [task for task in tasks if task.alone == alone]
            if not group:
                continue
            self.executor.update_parameters(**self._resources(alone))
            calls = [Job(Work.of(task), self._told()) for task in group]
            with without_interrupts(), self.executor.batch():
                jobs = [self.executor.submit(call) for call in calls]
            for task, call, job in zip(group, calls, jobs, strict=True):
                self.jobs[task.name] = _Submitted(job, call.told)

    def _told(self) -> Path:
        self.number += 1
        return self.folder / f"progress-{self.number}.jsonl"

    def _resources(self, alone: bool) -> dict[str, Any]:
        options, kind = self.options, self.request.execution.device.partition(":")[0]
        gpus, size = options.gpus if options.gpus is not None else int(kind == "cuda"), self.request.execution.processes
        resources: dict[str, Any] = {"timeout_min": options.time_limit, "name": "genbench"}
        resources |= {"gpus_per_node": gpus * size}
        if not self.slurm:
            return resources
        resources |= {"cpus_per_task": options.cpus * size, "slurm_array_parallelism": options.parallel}
        resources |= {"mem_gb": options.memory_gb} if options.memory_gb else {}
        names = {"slurm_partition": options.partition, "slurm_account": options.account, "slurm_qos": options.qos}
        return resources | {name: value for name, value in names.items() if value} | {"slurm_exclusive": alone}

    def messages(self) -> Iterable[Message]:
        """As Cluster."""
        time.sleep(POLL)
        for name, entry in list(self.jobs.items()):
            done = entry.job.done()
            yield from ((name, progress) for progress in _news(entry))
            if done:
                del self.jobs[name]
                yield name, self._result(entry.job)

    def _result(self, job: Any) -> Outcome | Lost:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            outcome: Outcome | Lost = job.result()
        except UncompletedJobError:
            self.failed = True
            return Lost(f"job {job.job_id} ended without a result: see {job.paths.stderr}")
        except FailedJobError as error:  # before the task itself began
            self.failed = True
            return Outcome(failure=f"job {job.job_id} failed: {str(error).strip().splitlines()[-1]}")
        return outcome

    def cancel(self, task: Task) -> None:
        """As Cluster."""
        self.cancelled.append(self.jobs.pop(task.name))
        self._end(self.cancelled[-1].job)

    def _end(self, job: Any) -> None:
        if self.slurm:
            job.cancel(check=False)
            return
        with suppress(psutil.NoSuchProcess):  # submitit would interrupt its own process, which prints a traceback
            for process in psutil.Process(int(job.job_id)).children(recursive=True):
                process.kill()

    def stop(self) -> None:
        """As Cluster. The folder stays when a job was lost: its logs tell why."""
        (self.folder / STOP).touch()
        self._wait()
        for entry in self._running():
            self._end(entry.job)
        self._wait()
        if not self.failed and not self._running():
            shutil.rmtree(self.folder, ignore_errors=True)

    def _wait(self) -> None:
        deadline = time.monotonic() + GRACE
        while self._running() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _running(self) -> list[_Submitted]:
        return [entry for entry in (*self.jobs.values(), *self.cancelled) if not entry.job.done()]


def _news(entry: _Submitted) -> list[Progress]:
    """What a job has told since the last call; a line that is not complete yet stays."""
    if not entry.told.is_file():
        return []
    with entry.told.open("rb") as file:
        file.seek(entry.read)
        content = file.read()
    complete = content[: content.rfind(b"\n") + 1]
    entry.read += len(complete)
    return [Progress(**json.loads(line)) for line in complete.splitlines()]
