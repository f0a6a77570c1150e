"""What other processes take: from readings that are known, and beside a planted neighbour."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from types import SimpleNamespace

import psutil
import pytest
import yaml

from genbench import contention
from genbench.contention import Counters, Meter, disturbance, read_counters
from genbench.draw.repeats import Loop, time_loops, time_repeats
from genbench.errors import GenbenchError
from genbench.nvml import Gpu
from genbench.records import read_records
from genbench.runner import executors
from genbench.runner import run as runner
from tools.gpu.suites import PoolOfThisProcess

SPIN = [sys.executable, "-c", "while True: pass"]


@pytest.fixture(autouse=True)
def default_limit(monkeypatch):
    monkeypatch.delenv("GENBENCH_BUSY_CORES", raising=False)


@pytest.fixture
def neighbour():
    """A process that takes a core."""
    process = subprocess.Popen(SPIN)
    yield process
    process.kill()
    process.wait()


class Machine:
    """Two cores on which others take `load(now)` cores, and this process one. Sleeping and reading move the clock."""

    def __init__(self, load):
        self.load, self.now, self.others = load, 0.0, 0.0

    def sleep(self, seconds):
        for _ in range(round(seconds / 0.01)):
            self.others += 0.01 * self.load(self.now)
            self.now += 0.01

    def read(self, cores):
        return Counters(self.now, self.others + self.now, self.now, 0.5 * self.others)

    def meter(self, threads=2, patience=0.0, **more):
        return Meter(threads, patience, (0, 1), read=self.read, clock=lambda: self.now, sleep=self.sleep, **more)


@pytest.mark.parametrize(
    ("taken", "cores", "threads", "busy"),
    [
        (0.05, 2, 2, False),
        (0.2, 2, 2, True),
        (1.0, 2, 1, False),
        (1.2, 2, 1, True),
        (3.0, 64, 32, False),
        (1.0, 1, 8, True),
    ],
)
def test_others_disturb_when_fewer_cores_than_threads_are_left(taken, cores, threads, busy):
    before, after = Counters(10.0, 100.0, 50.0, 7.0), Counters(12.0, 103.0 + 2 * taken, 53.0, 7.5)
    found = disturbance(before, after, cores, threads, 0.1)
    assert bool(found) == busy
    if busy:
        of = f"{cores} core{'s' if cores > 1 else ''}"
        assert found == f"other processes took {taken:.1f} of {of}; tasks waited for a core 25% of the time"


def test_the_limit_is_a_number_of_cores(monkeypatch):
    assert contention.limit() == contention.BUSY_CORES
    monkeypatch.setenv("GENBENCH_BUSY_CORES", "1.5")
    assert contention.limit() == 1.5
    for wrong in ("many", "-1", "nan"):
        monkeypatch.setenv("GENBENCH_BUSY_CORES", wrong)
        with pytest.raises(
            GenbenchError, match=r"GENBENCH_BUSY_CORES: found .* allowed: a number of cores from 0, or inf"
        ):
            contention.limit()


def test_without_a_limit_nothing_is_read(monkeypatch):
    monkeypatch.setenv("GENBENCH_BUSY_CORES", "inf")
    meter = Meter(2, 1.0, read=lambda cores: pytest.fail("it was read"))
    assert (meter.found(), meter.ripe()) == ("", False)


def test_a_short_reading_is_made_longer():
    machine = Machine(lambda now: 1.0)
    meter = machine.meter()
    machine.sleep(0.02)
    assert meter.found().startswith("other processes took 1.0 of 2 cores")
    assert machine.now == pytest.approx(contention.LEAST_SECONDS)


def test_calls_beside_others_are_repeated_when_these_have_ended():
    """A neighbour for two seconds makes calls of 0.1 s take 0.3 s; then the machine is quiet."""
    machine = Machine(lambda now: 1.0 if now < 2.0 else 0.0)

    def call():
        machine.sleep(0.3 if machine.now < 2.0 else 0.1)

    found = time_repeats(call, 1.0, clock=lambda: machine.now, meter=machine.meter(patience=4.0))
    assert found.busy == ""
    assert {round(seconds, 6) for seconds in found.seconds} == {0.1}
    assert sum(found.seconds) >= 1.0 - 1e-9
    assert machine.now < 4.0


def test_a_machine_that_stays_busy_marks_the_times_when_patience_is_used_up():
    machine = Machine(lambda now: 1.0)
    found = time_repeats(lambda: machine.sleep(0.3), 1.0, clock=lambda: machine.now, meter=machine.meter(patience=4.0))
    assert found.busy.startswith("other processes took 1.0 of 2 cores")
    assert found.seconds == pytest.approx([0.3] * 4)
    assert 5.0 < machine.now < 6.5  # patience, and the calls that count


def test_short_loops_share_a_reading():
    machine = Machine(lambda now: 0.0)
    loops = [Loop(lambda: machine.sleep(0.001), 1.0, most=100), Loop(lambda: machine.sleep(0.002), 1.0, most=50)]
    found = time_loops(loops, clock=lambda: machine.now, meter=machine.meter())
    assert [len(each.seconds) for each in found] == [100, 50]
    assert machine.now == pytest.approx(contention.LEAST_SECONDS)


def test_loops_of_a_disturbed_reading_are_repeated_together():
    machine = Machine(lambda now: 1.0 if now < 0.1 else 0.0)
    loops = [Loop(lambda: machine.sleep(0.01), 0.05), Loop(lambda: machine.sleep(0.4), 1.0)]
    first, second = time_loops(loops, clock=lambda: machine.now, meter=machine.meter(patience=4.0))
    assert (first.busy, second.busy) == ("", "")
    assert (len(first.seconds), len(second.seconds)) == (5, 3)


def test_a_pause_of_others_is_not_noticed_where_a_core_is_free():
    machine = Machine(lambda now: 1.0)
    meter = machine.meter(threads=1, patience=4.0)
    assert time_repeats(lambda: machine.sleep(0.1), 1.0, clock=lambda: machine.now, meter=meter).busy == ""


def test_a_neighbour_counts_and_what_this_process_starts_does_not(neighbour, monkeypatch):
    """CPU seconds of a child are this process's own; the same seconds are another's when its children are not known."""
    child = psutil.Process(neighbour.pid)

    def seconds_of_the_child():
        return sum(child.cpu_times()[:2])

    def difference():
        before, spent = (read_counters(()), seconds_of_the_child())
        while seconds_of_the_child() < spent + 0.5:  # however long a busy machine takes for it
            time.sleep(0.02)
        after = read_counters(())
        return after.everyone - before.everyone, after.own - before.own

    everyone, own = difference()
    assert 0.5 <= own <= everyone + 0.1
    monkeypatch.setattr(psutil.Process, "children", lambda self, recursive: [])
    everyone, own = difference()
    assert own < 0.4
    assert everyone >= 0.4


def suite_file(folder):
    path = folder / "s.yaml"
    path.write_text(yaml.safe_dump({
        "suite": "s", "dataset": {"name": "digits"}, "features": "pixels", "samples": 20, "models": [{"name": "gan"}],
        "metrics": ["images_per_second", "latency", "parameters"], "budget": {"images": 64},
        "speed": {"batch": 8, "seconds": 0.01},
    }))  # fmt: skip
    return path


def marks(out):
    return {r.metric: r.busy for r in read_records(out / "records.jsonl") if r.model == "gan"}


def test_a_busy_value_is_measured_again_by_the_next_run_and_the_others_are_not(tmp_path, monkeypatch, capsys):
    suite, out = suite_file(tmp_path), tmp_path / "out"
    monkeypatch.setitem(executors.LAUNCHERS, "local", PoolOfThisProcess)
    monkeypatch.setenv("GENBENCH_BUSY_CORES", "inf")
    monkeypatch.setattr(Meter, "found", lambda meter: "someone computes")
    assert runner.run(suite, out=out, device="cpu").measured == 3
    assert marks(out) == {"images_per_second": "someone computes", "latency": "someone computes", "parameters": ""}
    shown = capsys.readouterr().out
    assert "64 images in 0 s; busy: someone computes" in shown
    assert "(busy)" in shown
    monkeypatch.setattr(Meter, "found", lambda meter: "")
    assert runner.run(suite, out=out, device="cpu").measured == 2
    assert set(marks(out).values()) == {""}
    assert runner.run(suite, out=out, device="cpu").measured == 0


@pytest.mark.slow
def test_a_suite_timed_beside_a_neighbour_is_marked(tmp_path, neighbour):
    """In a process of its own, so that the neighbour is no child of it."""
    suite, out = suite_file(tmp_path), tmp_path / "out"
    variables = {**os.environ, "GENBENCH_BUSY_CORES": "0", "OMP_NUM_THREADS": ""}  # any neighbour is too many
    command = [sys.executable, "-m", "genbench.cli", "run", str(suite), "--out", str(out), "--device", "cpu"]
    subprocess.run(command, env=variables, check=True)
    assert all(marks(out)[m].startswith("other processes took") for m in ("images_per_second", "latency"))
    assert marks(out)["parameters"] == ""


class FakeNvml:
    """A GPU on which `running` processes have contexts and `working` ones compute, with these clock reasons."""

    class NVMLError(Exception):
        pass

    def __init__(self, running, working, reasons=0):
        self.nvmlDeviceGetComputeRunningProcesses = lambda handle: [SimpleNamespace(pid=p) for p in running]
        self.samples = [SimpleNamespace(pid=p, smUtil=u) for p, u in working.items()]
        self.nvmlDeviceGetCurrentClocksThrottleReasons = lambda handle: reasons

    def nvmlDeviceGetProcessUtilization(self, handle, since):
        if not self.samples:
            raise self.NVMLError("not found")
        return self.samples


@pytest.mark.parametrize(
    ("nvml", "text"),
    [
        (FakeNvml([1], {1: 99}), ""),
        (FakeNvml([1, 2], {1: 60, 2: 3}), ""),
        (FakeNvml([1, 2, 3], {1: 60, 2: 30, 3: 9}), "2 other processes computed on the GPU"),
        (FakeNvml([7, 8], {7: 60, 8: 30}), ""),  # ids of another namespace: it is not known which are ours
        (FakeNvml([1], {}, reasons=0x4), ""),
        (FakeNvml([1], {1: 9}, reasons=0x20 | 0x40), "the GPU lowered its clocks (temperature)"),
        (
            FakeNvml([1, 2], {2: 9}, 0x80),
            "1 other process computed on the GPU; the GPU lowered its clocks (power brake)",
        ),
    ],
)
def test_a_gpu_is_disturbed_by_other_work_and_lowered_clocks(nvml, text):
    assert Gpu(nvml, handle=None).disturbance([1]) == text


def test_the_gpu_is_asked_at_every_reading():
    machine = Machine(lambda now: 0.0)
    meter = machine.meter(threads=1, gpu=Gpu(FakeNvml([os.getpid(), 1], {1: 50}), None))
    assert meter.found() == "1 other process computed on the GPU"
