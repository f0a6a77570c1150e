"""A process that has traces of a task runs no further one; the next cell of a model starts like in a fresh process."""

from __future__ import annotations

import builtins
import gc
import io
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
import types
import warnings
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import pytest
import torch
from test_runner import genbench, place, toy, write  # noqa: F401 - place is a fixture
from torch import nn

from genbench import returned
from genbench.contract import Model
from genbench.progress import Progress
from genbench.records import read_records
from genbench.runner import process_state
from genbench.runner.launcher import Outcome, Task
from genbench.runner.pool import Pool
from genbench.runner.process_state import ProcessState

TRACES = {
    "a thread": lambda: threading.Thread(target=time.sleep, args=(60,), daemon=True).start(),
    "a child": lambda: subprocess.Popen([sys.executable, "-c", "pass"]),
    "a variable": lambda: os.environ.update(OMP_NUM_THREADS="7", NEW="1"),
    "the folder": lambda: os.chdir("/"),
    "a signal": lambda: signal.signal(signal.SIGALRM, lambda *_: None),
    "a timer": lambda: signal.setitimer(signal.ITIMER_REAL, 1000),
    "the search path": lambda: sys.path.append("elsewhere"),
    "a filter": lambda: warnings.simplefilter("ignore"),
    "the default type": lambda: torch.set_default_dtype(torch.float64),
    "gradients": lambda: torch.set_grad_enabled(False),
    "threads of torch": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "errors of numpy": lambda: np.seterr(all="raise"),
    "output": lambda: setattr(sys, "stdout", io.StringIO()),
    "closed output": lambda: sys.stdout.close(),
    "closed descriptors": lambda: os.close(0),
    "a limit": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)),
    "a mask": lambda: os.umask(0o777),
    "a priority": lambda: os.nice(1),
    "no collection": gc.disable,
    "tracing": lambda: sys.settrace(lambda *_: None),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True),
    "torch.randn": lambda: setattr(torch, "randn", torch.rand),
    "a method of a layer": lambda: setattr(nn.Linear, "forward", lambda self, x: x),
    "a new attribute of Tensor": lambda: setattr(torch.Tensor, "cache", {}),
    "np.mean": lambda: setattr(np, "mean", np.median),
    "a built-in function": lambda: setattr(builtins, "sum", max),
    "genbench": lambda: setattr(returned, "checked_images", lambda model, x, n: x),
    "a method of the contract": lambda: setattr(Model, "settle", lambda self, gen: None),
    "a package": lambda: sys.modules.update(foreign=types.ModuleType("foreign")),
    "memory": lambda: setattr(process_state, "MOST_GROWTH", -(2**40)),
    "many tasks": lambda: setattr(process_state, "MOST_TASKS", 1),
}  # fmt: skip


def in_a_child(check) -> int:
    """The exit code of a forked process: 0 where check() is true."""
    child = os.fork()
    if not child:
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)  # check raised
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def leaves(trace) -> bool:
    """Whether the state of this process notices a trace."""
    state = ProcessState()
    trace()
    return not state.renewed()


@pytest.mark.parametrize("name", TRACES)
def test_traces_are_noticed(name):
    assert in_a_child(lambda: leaves(TRACES[name])) == 0


def test_random_numbers_start_again():
    def check() -> bool:
        state = ProcessState()
        first = random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002
        return state.renewed() and first == (random.random(), np.random.rand(), torch.rand(()).item())  # noqa: NPY002

    assert in_a_child(check) == 0


def process(report) -> int:
    report(Progress("process", 1, 1))
    return os.getpid()


def leave(report) -> int:
    os.environ["LEFT"] = "1"
    return os.getpid()


def fail(report) -> int:
    raise ValueError(os.getpid())


def never(result) -> bool:
    return False


@pytest.fixture(scope="module")
def ended():
    """Runs tasks, one after another, in workers of a server that has imported the state's module."""
    forkserver._forkserver._stop()

    def run(*tasks: Task) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        pool = Pool(1, 1, torch.set_num_threads, str, ("genbench.runner.process_state",))
        pool.run(tasks, lambda *_: None, lambda task, outcome: outcomes.update({task.name: outcome}))
        assert not pool.idle
        return outcomes

    yield run
    forkserver._forkserver._stop()


def test_only_tasks_of_one_group_share_a_process(ended):
    groups = {"a": "x", "b": "x", "c": "y", "d": "", "e": "", "f": "x"}
    found = ended(*(Task(name, process, (), group=group) for name, group in groups.items()))
    pids = {name: outcome.result for name, outcome in found.items()}
    assert pids["a"] == pids["b"] == pids["f"]
    assert len(set(pids.values())) == 4


def test_a_process_with_traces_or_a_failure_is_replaced(ended):
    steps = {"clean": process, "leaves": leave, "after": process, "fails": fail, "last": process}
    found = ended(*(Task(name, step, (), group="x") for name, step in steps.items()))
    assert found["clean"].result == found["leaves"].result != found["after"].result
    assert found["fails"].failure == str(found["after"].result)
    assert found["last"].result not in (found["after"].result, found["clean"].result)
    found = ended(*(Task(name, process, (), group="x", sound=never) for name in "ab"))
    assert found["a"].result != found["b"].result


def test_processes_that_end_a_task_at_the_same_time_are_all_used_again(ended):
    """The command hears of them late, because it is busy with the progress of a task."""
    outcomes: dict[str, Outcome] = {}
    pool = Pool(2, 2, torch.set_num_threads, str, ("genbench.runner.process_state",))
    pool.run(
        [Task(name, process, (), group="x") for name in "abcdefgh"],
        lambda *_: time.sleep(0.2),
        lambda task, outcome: outcomes.update({task.name: outcome}),
    )
    assert len({outcome.result for outcome in outcomes.values()}) == 2


MODEL = """
import os
from pathlib import Path
import torch
from genbench.contract import Draws
import helper

drawn = []

class Leaks(Draws):
    '''Images that depend on everything that an earlier cell may have left.'''
    earlier = 0

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def sample(self, n, gen, condition=None):
        with (Path(__file__).parent / "processes").open("a") as file:
            file.write(f"{os.getpid()} ")
        Leaks.earlier += 1
        drawn.append(n)
        helper.CALLS.append(n)
        left = Leaks.earlier + len(drawn) + len(helper.CALLS)
        return (torch.rand(n, *self.data.shape, generator=gen) * left / 20).clamp(-1, 1)
"""


def test_cells_of_one_model_do_not_depend_on_their_order(place, monkeypatch):  # noqa: F811
    (place / "leaks.py").write_text(MODEL)
    (place / "helper.py").write_text("CALLS = []\n")
    values = []
    for seeds in ([0, 1, 2, 3], [3, 1, 0, 2]):
        monkeypatch.setenv("GENBENCH_CACHE", str(place / f"cache{seeds[0]}"))
        path = write(place, [{"name": "m", "source": "leaks.py:Leaks"}], metrics=["fid"], seeds=seeds, samples=20)
        genbench(path, "--out", str(place / f"out{seeds[0]}"))
        records = read_records(place / f"out{seeds[0]}" / "records.jsonl")
        values.append({r.seed: r.value for r in records if r.model == "m"})
    assert values[0] == values[1]
    assert len(set(values[0].values())) == 4
    processes = Path(place / "processes").read_text().split()
    assert len(set(processes)) < len(processes) == 8
