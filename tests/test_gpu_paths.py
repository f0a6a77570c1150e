"""What runs only on CUDA, with torch.cuda, NVML and nvidia-smi replaced by objects whose answers are known."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from genbench.draw import memory
from genbench.nvml import open_gpu
from genbench.speed import energy, profile, worker
from tools.gpu import devices, facts
from tools.gpu.common import Setting

CUDA = torch.device("cuda", 0)
SETTING = Setting("cuda", False, "out", "work", 0.0)


class Cuda:
    """A GPU whose clock moves by 10 ms at each call; calls: what was asked of it, in order."""

    OutOfMemoryError = torch.OutOfMemoryError

    def __init__(self):
        self.now, self.calls = 0.0, []
        properties = SimpleNamespace(
            name="Example GPU", uuid="ab-cd", multi_processor_count=132, total_memory=80 * 2**30
        )
        self.get_device_properties = lambda device: properties
        self.mem_get_info = lambda device: (3 * 2**30, 80 * 2**30)
        self.max_memory_allocated = lambda device=None: 5 * 2**20

    def __getattr__(self, name):
        return lambda *_: self.calls.append(name)

    def work(self):
        self.now += 10.0

    def Event(self, enable_timing):  # as torch.cuda's
        assert enable_timing
        event = SimpleNamespace(at=None)
        event.record = lambda: setattr(event, "at", self.now)
        event.elapsed_time = lambda later: later.at - event.at
        return event


class Nvml:
    """Counts millijoules; knows the GPU by its UUID only."""

    class NVMLError(Exception):
        pass

    def __init__(self, counts=True):
        self.used, self.counts = 1000, counts

    def nvmlInit(self):
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):
        assert uuid == "GPU-ab-cd"
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        assert handle == "handle"
        if not self.counts:
            raise self.NVMLError("not supported")
        return self.used


@pytest.fixture
def cuda(monkeypatch):
    fake = Cuda()
    monkeypatch.setattr(torch, "cuda", fake)
    return fake


def test_calls_are_timed_by_events_and_waited_for(cuda):
    assert devices.seconds_of(cuda.work, CUDA, calls=4) == pytest.approx(0.01)
    assert cuda.calls == ["synchronize"]
    low, typical, high = devices.typical_seconds(cuda.work, CUDA, 0.0)
    assert (low, typical, high) == pytest.approx((0.01, 0.01, 0.01))


def test_the_card_is_described_by_nvidia_smi(cuda, tmp_path, monkeypatch):
    answers = {name: f"<{name}>" for name in facts.QUERY}
    script = tmp_path / "nvidia-smi"
    script.write_text(
        f"#!/bin/sh\ncase $1 in --query-gpu={','.join(facts.QUERY)}) echo '{', '.join(answers.values())}';; esac\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    more = {"multiprocessors": 132, "memory_bytes": 80 * 2**30}
    assert facts.card(SETTING) == answers | more
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert facts.card(SETTING) == {"name": "Example GPU", "driver_version": "nvidia-smi is missing"} | more


def test_energy_is_read_from_the_card_that_computes(cuda, monkeypatch):
    nvml = Nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with energy.energy(CUDA) as spent:
        nvml.used += 2500
    assert spent == [2.5]
    monkeypatch.setitem(sys.modules, "pynvml", Nvml(counts=False))
    with energy.energy(CUDA) as spent:
        pass
    assert spent == [None]


def test_without_its_package_nothing_is_known_of_the_gpu(cuda, monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert open_gpu(CUDA) is None
    assert open_gpu(torch.device("cpu")) is None


def test_memory_is_what_was_allocated_since_the_block_began(cuda):
    with memory.peak_memory(CUDA) as peak:
        assert cuda.calls == ["reset_peak_memory_stats"]
    assert peak == [5.0]
    assert profile.free_mib(CUDA) == 3 * 2**10
    worker.release_memory(CUDA)
    assert cuda.calls[-1] == "empty_cache"
    memory.synchronise(CUDA)
    assert cuda.calls[-1] == "synchronize"
