"""The queue that launchers share, and the choice of a launcher and of GPUs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from genbench.errors import GenbenchError
from genbench.machine import choose_gpus
from genbench.runner.executors import choose_execution
from genbench.runner.launcher import Outcome, Queue, Task


def task(name, needs=(), alone=False, seconds=0.0):
    return Task(name, print, (), frozenset(needs), alone, seconds=seconds)


def names(tasks):
    return [each.name for each in tasks]


def test_tasks_start_after_what_they_need_and_the_longest_sequence_first():
    queue = Queue([task("short", seconds=5), task("long", ["begin"], seconds=4), task("begin", seconds=2)])
    assert names(queue.start(1)) == ["begin"]  # 6 seconds remain from its start
    queue.end(queue.running["begin"], Outcome(1))
    assert names(queue.start(1)) == ["short"]
    queue = Queue([task("b", ["a"]), task("a"), task("c", seconds=5)])
    assert names(queue.start(1)) == ["c"]
    assert names(queue.start(1)) == []
    assert names(queue.start()) == ["a"]
    queue.end(queue.running["a"], Outcome(1))
    assert names(queue.start()) == ["b"]
    for name in ("b", "c"):
        assert not queue.done
        queue.end(queue.running[name], Outcome(1))
    assert queue.done


def test_the_failure_of_a_need_ends_everything_behind_it():
    queue, ended = Queue([task("a"), task("b", ["a"]), task("c", ["b"]), task("d")]), {}
    queue.start()
    queue.end(queue.running["a"], Outcome(failure="planted"))
    queue.end_hopeless(lambda each, outcome: ended.update({each.name: outcome.failure}))
    assert ended == {"b": "planted", "c": "planted"}
    assert names(queue.running.values()) == ["d"]


@pytest.mark.parametrize("beside", [False, True])
def test_what_runs_alone_waits_where_all_tasks_share_a_machine(beside):
    queue = Queue([task("timing", alone=True, seconds=9), task("a"), task("b", ["a"])], beside=beside)
    assert names(queue.start()) == (["timing", "a"] if beside else ["a"])
    queue.end(queue.running["a"], Outcome(1))
    assert names(queue.start()) == ["b"]
    queue.end(queue.running["b"], Outcome(1))
    assert names(queue.start()) == ([] if beside else ["timing"])


@pytest.fixture
def four_gpus(monkeypatch):
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(is_available=lambda: True, device_count=lambda: 4))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_cuda_means_all_gpus_and_numbers_select(four_gpus, monkeypatch):
    assert choose_gpus("cpu") == ("cpu", ())
    assert choose_gpus("auto") == choose_gpus("cuda") == ("cuda", ("0", "1", "2", "3"))
    assert choose_gpus("cuda:0,2") == ("cuda", ("0", "2"))
    assert choose_gpus("cuda:3") == ("cuda", ("3",))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7, 5,3,GPU-ab")
    assert choose_gpus("cuda:0,3") == ("cuda", ("7", "GPU-ab"))


@pytest.mark.parametrize("name", ["cuda:0,4", "cuda:1,1"])
def test_gpus_that_are_not_there_are_refused(four_gpus, name):
    with pytest.raises(GenbenchError, match=f"found '{name}', allowed: different ones of cuda:0, cuda:1, cuda:2"):
        choose_gpus(name)


@pytest.mark.parametrize("name", ["cuda:", "cuda:a", "cuda:1,", "gpu", "cpu,1"])
def test_another_device_is_refused(four_gpus, name):
    with pytest.raises(GenbenchError, match="allowed: auto, cuda, mps, cpu"):
        choose_gpus(name)


def test_an_unknown_executor_or_option_is_refused():
    with pytest.raises(GenbenchError, match="--executor: unknown 'locl'; did you mean 'local'"):
        choose_execution("locl", "cpu")
    with pytest.raises(GenbenchError, match="--executor-option: the local executor has no options"):
        choose_execution("local", "cpu", ["a=b"])
    with pytest.raises(GenbenchError, match="--executor-option: found 'a', allowed: KEY=VALUE"):
        choose_execution("local", "cpu", ["a"])
