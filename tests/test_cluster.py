"""Launchers of other machines: lost workers, order, timings; Ray and submitit give the plain runner's records."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
import yaml
from faults.tiny import TOYS, command, environment, write_suite

from genbench import metrics
from genbench.errors import GenbenchError
from genbench.progress import Progress
from genbench.records import read_records
from genbench.runner.cluster import MOST_LOST
from genbench.runner.execution import LaunchRequest
from genbench.runner.executors import choose_execution, make_launcher
from genbench.runner.launcher import Task
from genbench.runner.run import run
from genbench.runner.submitit_cluster import SubmititOptions, executor_options
from tools.simulated_cluster import SimulatedCluster

SUITES = Path(__file__).parent.parent / "suites"


def double(value, report):
    return 2 * value


def cells(count):
    """A training, an evaluation that needs it, and a timing that runs alone, for each cell."""
    for i in range(count):
        need = frozenset({f"train {i}"})
        yield Task(f"train {i}", double, (i,))
        yield Task(f"evaluate {i}", double, (i,), need)
        yield Task(f"speed {i}", double, (i,), need, alone=True)


def carry_out(cluster, tasks):
    ended, notes = {}, []
    cluster.run(
        tasks,
        lambda task, progress: notes.append((task.name, progress.note)),
        lambda task, outcome: ended.update({task.name: outcome}),
    )
    return ended, notes


def test_every_cell_ends_once_although_nodes_fail():
    cluster = SimulatedCluster(nodes=20, slots=4, failing=0.02)
    ended, notes = carry_out(cluster, cells(300))
    assert {name: outcome.result for name, outcome in ended.items()} == {
        f"{step} {i}": 2 * i for i in range(300) for step in ("train", "evaluate", "speed")
    }
    assert cluster.failures > 10
    assert len(cluster.order) == len(set(cluster.order)) == 900
    assert sum(cluster.attempts.values()) == 900 + len(notes)
    assert all(note == "its worker was lost (its node failed); it is sent again" for _, note in notes)
    place = {name: i for i, name in enumerate(cluster.order)}
    assert all(place[f"train {i}"] < min(place[f"evaluate {i}"], place[f"speed {i}"]) for i in range(300))


def test_a_task_that_loses_every_worker_fails_and_what_needs_it_too():
    cluster = SimulatedCluster(nodes=1, slots=1, failing=1.0)
    ended, _ = carry_out(cluster, cells(1))
    assert {o.failure for o in ended.values()} == {"4 workers were lost, the last one: its node failed"}
    assert cluster.attempts == {"train 0": MOST_LOST + 1}


class Watched(SimulatedCluster):
    """Checks in each step that a timing shares its node with nothing."""

    most_beside = 0

    def messages(self):
        self._assign()
        for node in self.nodes:
            if any(name.startswith("speed") for name in node.running):
                assert len(node.running) == 1
        busy = [n for n in self.nodes if n.running]
        self.most_beside = max(self.most_beside, len(busy) if any(n.alone for n in busy) else 0)
        return super().messages()


def test_a_timing_has_a_machine_of_its_own_while_other_machines_work():
    cluster = Watched(nodes=3, slots=2)
    carry_out(cluster, cells(10))
    assert cluster.most_beside == 3


def slow(report):
    for step in range(600):
        report(Progress("work", step, 600))
        time.sleep(0.1)


def die_once(path, report):
    """The first worker is killed; the second one continues from what the first one left."""
    if not path.exists():
        path.write_text("checkpoint")
        os.kill(os.getpid(), signal.SIGKILL)
    return path.read_text(), os.environ["GENBENCH_PLANTED"]


def threads(report):
    import torch

    report(Progress("count", 1, 1))
    return torch.get_num_threads()


def raises(report):
    raise ValueError("planted")


def request(tmp_path, executor, *options, limit=None):
    execution = choose_execution(executor, "cpu", options)
    return LaunchRequest(execution, (), tmp_path, limit, lambda task, seconds: None)


@pytest.mark.parametrize(("executor", "options"), [("submitit", ["cluster=local"]), ("ray", [])])
def test_an_engine_performs_tasks_in_order_and_again_after_a_lost_worker(tmp_path, monkeypatch, executor, options):
    pytest.importorskip(executor)
    monkeypatch.setenv("GENBENCH_PLANTED", "as in the command")
    tasks = [
        Task("dies", die_once, (tmp_path / "kept",)),
        Task("counts", threads, (), needs=frozenset({"dies"})),
        Task("raises", raises, ()),
        Task("hopeless", threads, (), needs=frozenset({"raises"})),
    ]
    launcher = make_launcher(request(tmp_path, executor, *options))
    ended, notes = carry_out(launcher, tasks)
    assert ended["dies"].result == ("checkpoint", "as in the command")
    assert ended["counts"].result == 1
    assert ended["raises"].failure.startswith("ValueError: planted")
    assert ended["hopeless"].failure == ended["raises"].failure
    assert any(name == "dies" and "it is sent again" in note for name, note in notes)
    assert any(name == "counts" for name, _ in notes)


@pytest.mark.parametrize(
    ("executor", "options"),
    [("submitit", ["cluster=local"]), pytest.param("ray", [], marks=pytest.mark.slow)],
)
def test_the_time_limit_ends_a_task(tmp_path, executor, options):
    pytest.importorskip(executor)
    launcher = make_launcher(request(tmp_path, executor, *options, limit=1.0))
    ended, _ = carry_out(launcher, [Task("slow", slow, ())])
    assert ended["slow"].failure == "it ran for longer than --cell-timeout 1 s"


def test_options_of_an_executor_are_checked(tmp_path):
    with pytest.raises(GenbenchError, match="--executor-option partion: unknown key; did you mean 'partition'"):
        executor_options(SubmititOptions, choose_execution("submitit", "cpu", ["partion=a"]))
    with pytest.raises(GenbenchError, match="--executor-option time_limit: found 0"):
        executor_options(SubmititOptions, choose_execution("submitit", "cpu", ["time_limit=0"]))


@pytest.mark.parametrize(("executor", "name"), [("submitit", "submitit"), ("ray", "Ray")])
def test_an_engine_that_is_missing_is_named(tmp_path, monkeypatch, executor, name):
    monkeypatch.setitem(sys.modules, executor, None)
    with pytest.raises(GenbenchError, match=rf"needs {name}: pip install 'genbench\[{executor}\]'"):
        make_launcher(request(tmp_path, executor))


def plain(path):
    """Records without what a timing or a run decides."""
    kept = [r for r in read_records(path / "records.jsonl") if not metrics.get(r.metric).reads.alone]
    return {(r.cell, r.metric): (r.status, r.value, r.lo, r.hi, r.protocol_hash, r.key) for r in kept}


def into(folder, name):
    """The command, with another folder for its results."""
    return [*command(folder)[:-3], str(folder / name), "--device", "cpu"]


ENGINES = [("submitit", ["--executor-option", "cluster=local"]), ("ray", [])]


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "options"), ENGINES)
def test_an_engine_gives_the_plain_runners_records_and_a_second_run_has_nothing_to_do(tmp_path, executor, options):
    """From a store behind a URL, where the machine of timings is not known before they run."""
    pytest.importorskip(executor)
    folder = write_suite(tmp_path / "a")
    suite = folder / "tiny.yaml"
    suite.write_text(suite.read_text().replace("metrics:\n", "metrics:\n- latency\n"))
    variables = environment(tmp_path / "plain")
    subprocess.run(command(folder), env=variables, check=True, capture_output=True)
    expected = plain(folder / "out")
    other = [*into(folder, "other"), "--executor", executor, *options]
    variables |= {"GENBENCH_CACHE": f"file://{tmp_path}/store", "GENBENCH_COPIES": str(tmp_path / "copies")}
    subprocess.run(other, env=variables, check=True, capture_output=True)
    assert plain(folder / "other") == expected
    assert not (folder / "other" / ".jobs").exists()
    timed = [r for r in read_records(folder / "other" / "records.jsonl") if r.metric == "latency" and r.value]
    again = subprocess.run(other, env=variables, check=True, capture_output=True, text=True)
    assert "nothing to do" in again.stdout or any(r.busy for r in timed)


def watched(folder, dies=-1, of=0):
    """The tiny suite with a single model, whose steps are in folder/steps-0: 160 of 0.05 s."""
    write_suite(folder)
    model = {"name": "toy", "source": f"{TOYS}:Watched", "config": {"sleep": 0.05, "dies": dies, "of": of},
             "budget": {"images": 160 * 32}}  # fmt: skip
    suite = yaml.safe_load((folder / "tiny.yaml").read_text()) | {"models": [model]}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(suite))
    return folder


def steps(folder, rank=0):
    """The steps for which process `rank` of a training computed a loss, in their order."""
    return [int(line) for line in (folder / f"steps-{rank}").read_text().split()]


DEATHS = [("local", ["--processes", "2"], 1), *((name, options, 0) for name, options in ENGINES),
          ("submitit", [*ENGINES[0][1], "--processes", "2"], 1)]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "options", "of"), DEATHS)
def test_a_process_killed_during_a_training_costs_the_steps_since_the_last_checkpoint(tmp_path, executor, options, of):
    """On this machine after the same command again; on others at once."""
    folder = watched(tmp_path / "a", dies=100, of=of)
    variables = environment(tmp_path / "store") | {"GENBENCH_WATCHED": str(folder)}
    ended = [subprocess.run([*command(folder), "--executor", executor, *options], env=variables, capture_output=True,
                            text=True) for _ in range(1 + (executor == "local"))]  # fmt: skip
    assert (folder / "died").exists()
    assert "died" in ended[0].stdout or "it is sent again" in ended[0].stdout
    assert ended[-1].returncode == 0, ended[-1]
    numbers = steps(folder, of)
    again = numbers.index(100) + 1
    assert 0 < numbers[again] <= 100
    assert sorted(set(numbers[again:])) == list(range(numbers[again], 160))
    variables = environment(tmp_path / "undisturbed") | {"GENBENCH_WATCHED": str(folder)}
    subprocess.run(into(folder, "once"), env=variables, capture_output=True, check=True)
    values = [{r[0]: r[1][1] for r in plain(folder / out).items() if r[1][0] == "ok"} for out in ("out", "once")]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "options"), ENGINES)
def test_an_interrupt_leaves_a_line_a_checkpoint_and_no_process(tmp_path, executor, options):
    """SIGINT goes to all processes of the command's group, as a terminal sends it."""
    folder = watched(tmp_path / "a")
    variables = environment(tmp_path / "store") | {"GENBENCH_WATCHED": str(folder)}
    run = subprocess.Popen([*command(folder), "--executor", executor, *options], env=variables, text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)  # fmt: skip
    while not (folder / "steps-0").is_file() or max(steps(folder)) < 5:
        assert run.poll() is None, run.communicate()
        time.sleep(0.05)
    others = psutil.Process(run.pid).children(recursive=True)
    os.killpg(run.pid, signal.SIGINT)
    text, errors = run.communicate(timeout=120)
    assert (run.returncode, errors) == (130, "genbench: interrupted; run the same command to continue\n")
    assert "Traceback" not in text
    assert psutil.wait_procs(others, timeout=60)[1] == []
    assert len(list((tmp_path / "store" / "scratch" / "weights").glob("*/checkpoint.pt"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "options"), [("local", []), *ENGINES])
@pytest.mark.parametrize("where", ["folder", "url"])
def test_two_commands_at_once_on_one_store_train_once(tmp_path, where, executor, options):
    folder = watched(tmp_path / "a")
    store = str(tmp_path / "store") if where == "folder" else f"file://{tmp_path}/store"
    others = {"GENBENCH_WATCHED": str(folder), "GENBENCH_COPIES": str(tmp_path / "copies")}
    runs = [
        subprocess.Popen([*into(folder, name), "--executor", executor, *options],
                         env=environment(tmp_path) | others | {"GENBENCH_CACHE": store})
        for name in ("one", "two")
    ]  # fmt: skip
    assert [run.wait() for run in runs] == [0, 0]
    assert {step: n for step, n in Counter(steps(folder)).items() if step and n != 1} == {}
    assert plain(folder / "one") == plain(folder / "two")


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "options"), ENGINES)
def test_an_engine_gives_the_smoke_suites_records(tmp_path, monkeypatch, executor, options):
    pytest.importorskip(executor)
    for name, more in (("plain", {}), (executor, {"executor": executor, "executor_options": options[1:]})):
        monkeypatch.setenv("GENBENCH_CACHE", str(tmp_path / f"cache-{name}"))
        run(SUITES / "smoke.yaml", out=tmp_path / name, device="cpu", **more)
    assert plain(tmp_path / executor) == plain(tmp_path / "plain")
    assert all(r.status != "failed" for r in read_records(tmp_path / executor / "records.jsonl"))
