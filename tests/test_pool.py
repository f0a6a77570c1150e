"""Workers: order, failures, deaths, and what runs alone."""

from __future__ import annotations

import multiprocessing
import os
import platform
import re
import resource
import signal
import sys
import time
from pathlib import Path

import pytest

from genbench.errors import GenbenchError
from genbench.progress import Progress
from genbench.runner.launcher import Outcome, Task
from genbench.runner.pool import Pool


def prepare(threads: int) -> None:
    os.environ["TEST_THREADS"] = str(threads)


def explain(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def echo(value, report):
    report(Progress("echo", 1, 1))
    return value, int(os.environ["TEST_THREADS"])


def fail(report):
    raise ValueError("planted")


def die(how, report):
    os.kill(os.getpid(), how) if how else os._exit(3)


def clock(report):
    start = time.monotonic()
    time.sleep(0.3)
    return start, time.monotonic()


def page_faults(report):
    """Of eight blocks of 16 MiB, one after another, once the first is there."""
    bytearray(b"x") * 2**24
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        bytearray(b"x") * 2**24
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def run(tasks, workers=2, cores=2) -> tuple[dict[str, Outcome], list[str]]:
    ended: dict[str, Outcome] = {}
    seen: list[str] = []
    pool = Pool(workers, cores, prepare, explain)
    pool.run(tasks, lambda task, _: seen.append(task.name), lambda task, outcome: ended.update({task.name: outcome}))
    return ended, seen


def test_results_come_back_with_progress():
    ended, seen = run([Task("a", echo, (1,)), Task("b", echo, (2,))])
    assert {name: o.result[0] for name, o in ended.items()} == {"a": 1, "b": 2}
    assert set(seen) == {"a", "b"}


def test_threads_do_not_depend_on_what_runs_beside_and_what_is_timed_gets_all_cores():
    ended, _ = run([Task("a", echo, (1,)), Task("b", echo, (2,))], cores=4)
    assert [o.result[1] for o in ended.values()] == [1, 1]
    ended, _ = run([Task("a", echo, (1,))], cores=4)
    assert ended["a"].result[1] == 1
    ended, _ = run([Task("a", echo, (1,), alone=True)], cores=4)
    assert ended["a"].result[1] == 4


def test_a_need_comes_first_and_its_failure_is_passed_on():
    tasks = [
        Task("late", echo, (1,), needs=frozenset({"early"})),
        Task("early", echo, (0,)),
        Task("hopeless", echo, (1,), needs=frozenset({"bad"})),
        Task("bad", fail, ()),
    ]
    ended, _ = run(tasks)
    assert list(ended).index("early") < list(ended).index("late")
    assert ended["bad"].failure == ended["hopeless"].failure == "ValueError: planted"
    assert ended["late"].result[0] == 1


@pytest.mark.parametrize(("how", "words"), [(signal.SIGKILL, "out of memory"), (0, "exit code 3")])
def test_a_worker_that_dies_does_not_take_the_run_along(how, words):
    ended, _ = run([Task("dies", die, (how,)), Task("lives", echo, (5,))])
    assert words in ended["dies"].failure
    assert ended["lives"].result[0] == 5


def test_what_runs_alone_overlaps_with_nothing():
    tasks = [Task(f"t{i}", clock, (), alone=i % 2 == 0) for i in range(4)]
    ended, _ = run(tasks)
    spans = {name: outcome.result for name, outcome in ended.items()}
    for alone in ("t0", "t2"):
        for other in set(spans) - {alone}:
            assert spans[alone][1] <= spans[other][0] or spans[other][1] <= spans[alone][0]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_workers_keep_freed_memory_and_their_parent_its_variables():
    before = dict(os.environ)
    ended, _ = run([Task("a", page_faults, ())])
    assert ended["a"].result < 2**24 / resource.getpagesize()  # less than one of the eight blocks
    assert dict(os.environ) == before


def outlive(path, report):
    path.write_text(str(os.getpid()))
    time.sleep(60)


def begin(path):
    run([Task("a", outlive, (path,))])


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_workers_end_when_the_run_is_killed(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=begin, args=(tmp_path / "pid",))
    process.start()
    worker = int(eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
    process.kill()
    process.join()
    assert eventually(lambda: not alive(worker))


def eventually(condition, seconds=30.0):
    """What the condition gives once that is true; False when the time is up."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.05)
    return False


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/status")
    return not status.exists() or "State:\tZ" not in status.read_text()


def hang(report):
    report(Progress("echo", 1, 9))
    time.sleep(600)


def busy(report):
    for _ in range(6000):
        report(Progress("echo", 1, 9))
        time.sleep(0.1)


def test_a_time_limit_ends_what_runs_and_what_hangs():
    ended, named = {}, []
    pool = Pool(3, 3, prepare, explain, limit=12.0, quiet=2.0, on_stall=lambda task, _: named.append(task.name))
    tasks = [Task("hangs", hang, ()), Task("runs", busy, ()), Task("lives", echo, (5,))]
    pool.run(tasks, lambda task, _: None, lambda task, outcome: ended.update({task.name: outcome}))
    assert ended["lives"].result[0] == 5
    assert re.fullmatch(
        r"it ran for longer than --cell-timeout 12 s, the last \d+ s without progress", ended["hangs"].failure
    )
    assert ended["runs"].failure == "it ran for longer than --cell-timeout 12 s"
    assert len(named) > 1
    assert named[-1] == "hangs"


def visible(report):
    start = time.monotonic()
    time.sleep(0.3)
    return os.environ.get("CUDA_VISIBLE_DEVICES"), start, time.monotonic()


def test_tasks_that_run_at_once_see_different_gpus_and_a_timing_the_first():
    ended = {}
    pool = Pool(2, 2, prepare, explain, gpus=("5", "GPU-ab"))
    tasks = [Task(f"t{i}", visible, ()) for i in range(4)] + [Task("timing", visible, (), alone=True)]
    pool.run(tasks, lambda task, _: None, lambda task, outcome: ended.update({task.name: outcome.result}))
    assert ended["timing"][0] == "5"
    assert {gpu for gpu, _, _ in ended.values()} == {"5", "GPU-ab"}
    spans = list(ended.values())
    both = [(a, b) for a in spans for b in spans if a is not b and a[1] < b[2] and b[1] < a[2]]
    assert both
    assert all(a[0] != b[0] for a, b in both)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def in_a_daemon(connection):
    try:
        run([Task("a", echo, (1,))])
    except GenbenchError as error:
        connection.send(str(error))


def test_a_daemonic_process_is_told_what_to_do():
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=in_a_daemon, args=(theirs,), daemon=True)
    process.start()
    process.join()
    assert "call it in the main process, or in a Process with daemon=False" in ours.recv()
