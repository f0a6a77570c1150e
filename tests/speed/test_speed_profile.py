"""What drawing costs, of models whose cost is known: FLOPs by hand, times by a clock that the model moves."""

from __future__ import annotations

import gc
import time
import weakref
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from genbench.contract import DataSpec, Loss, Model
from genbench.draw import cost, draw_block
from genbench.draw.cost import TimedBatch
from genbench.speed import energy, matmul, profile
from genbench.speed.profile import Profile, batch_sweep, network_share, read_profile
from genbench.speed.worker import Bench, release_memory

DATA = DataSpec(1, 6, 6)
CPU = torch.device("cpu")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Conv(nn.Module):
    """Takes three seconds."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.net, self.clock = nn.Conv2d(2, 1, 3, padding=1), clock

    def forward(self, x):
        self.clock.now += 3.0
        return self.net(x)


class Toy(Model):
    """One second outside its network for every three inside; the first call takes ten more."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(DATA)
        self.net, self.clock, self.calls = Conv(clock), clock, 0

    def loss(self, batch, player, step, gen):
        return Loss(self.net.net.bias.sum())

    def sample(self, n, gen, condition=None):
        self.clock.now += 1.0 + (0.0 if self.calls else 10.0)
        self.calls += 1
        return self.net(torch.zeros(n, 2, 6, 6))


@pytest.fixture
def toy(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(profile, "time", clock)
    monkeypatch.setattr(profile, "time_batch", partial(cost.time_batch, clock=clock.perf_counter))
    model = Toy(clock).eval()
    return model, lambda n: draw_block(model, 0, 0, n)


def test_the_first_image_the_rate_the_share_and_the_arithmetic(toy, monkeypatch):
    model, draw = toy
    monkeypatch.setattr(profile, "BATCHES", (1, 4))
    monkeypatch.setattr(profile, "LONGEST_CALL", 100.0)
    monkeypatch.setattr(profile, "matmul_rate", lambda device: 2592.0)
    draw(1)
    found = read_profile(profile.profile(model, draw, first_seconds=14.0, seconds=20.0))
    assert found.first_seconds == pytest.approx(10.0)
    assert [p.images_per_second for p in found.sweep] == [0.25, 1.0]
    assert len(found.latencies) == 5
    assert found.network_share == pytest.approx(0.75)
    assert found.flops == 2 * (2 * 9) * 36
    assert found.utilisation == pytest.approx(1296 * 1.0 / 2592.0)  # at one image a second
    assert found.parameters == 2 * 9 + 1
    assert (found.evaluations, found.compile_seconds, found.ended) == (1.0, None, "batch 4 is the largest tried")


def test_the_rate_of_matrix_products_counts_two_operations_for_a_multiplication(monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(matmul.time, "perf_counter", lambda: float(next(clock)))
    assert matmul.matmul_rate(CPU, seconds=3, side=10) == 2 * 10**3  # each product takes a second of this clock


def test_percentiles_need_enough_calls():
    def of(n: int) -> Profile:
        return Profile(0, None, (TimedBatch(1, tuple(range(1, n + 1)), None),), "", 1, None, 0, 1.0, None, 0)

    assert of(100).percentile(50) == 50.5
    assert of(100).percentile(99) == pytest.approx(99.01)
    assert of(99).percentile(99) is None
    assert of(19).percentile(95) is None
    assert of(20).percentile(95) is not None


def test_the_sweep_ends_where_memory_or_patience_does(monkeypatch):
    monkeypatch.setattr(profile, "free_mib", lambda device: 100.0)
    monkeypatch.setattr(profile, "time_batch", lambda draw, batch, *_, **__: TimedBatch(batch, (0.1,), 11.0 * batch))
    points, why = batch_sweep(lambda n: None, CPU, 1.0)
    assert [p.batch for p in points] == [1]
    assert why == "batch 4: not tried, as it may need 44 MiB of 100 free"
    monkeypatch.setattr(profile, "time_batch", lambda draw, batch, *_, **__: TimedBatch(batch, (2.0 * batch,), None))
    points, why = batch_sweep(lambda n: None, CPU, 1.0)
    assert [p.batch for p in points] == [1, 4]
    assert why == "batch 16: not tried, as a call of 4 takes 8.0 s"
    rates = {1: 10.0, 4: 30.0, 16: 20.0, 64: 25.0}
    monkeypatch.setattr(
        profile, "time_batch", lambda draw, batch, *_, **__: TimedBatch(batch, (batch / rates[batch],), None)
    )
    points, why = batch_sweep(lambda n: None, CPU, 1.0)
    assert [p.batch for p in points] == [1, 4, 16, 64]
    assert why == "batch 256: not tried, as images/s have fallen twice"


def test_out_of_memory_ends_the_sweep(monkeypatch):
    def timing(draw, batch, *_, **__):
        if batch > 1:
            raise torch.OutOfMemoryError
        return TimedBatch(batch, (0.1,), None)

    monkeypatch.setattr(profile, "time_batch", timing)
    assert batch_sweep(lambda n: None, CPU, 1.0)[1] == "batch 4: out of memory"


def test_a_model_that_calls_no_module_has_no_share():
    assert network_share(lambda n: time.sleep(0), 1, CPU) is None


def test_events_stand_in_for_the_clock_on_cuda(monkeypatch):
    class Event:
        def __init__(self, enable_timing):
            self.at = None

        def record(self):
            Event.now += 250.0
            self.at = Event.now

        def elapsed_time(self, other):
            return other.at - self.at

    Event.now = 0.0
    cuda = SimpleNamespace(Event=Event, synchronize=lambda: None)
    monkeypatch.setattr(profile.torch, "cuda", cuda)
    watch = profile.NetworkWatch(torch.device("cuda"))
    for _ in range(2):
        watch.enter()
        watch.enter()  # a module within the outermost
        watch.leave()
        watch.leave()
    assert watch.seconds() == pytest.approx(0.5)


def test_joules_are_the_growth_of_the_counters(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    counters = [tmp_path / f"intel-rapl:{i}" / "energy_uj" for i in range(2)]
    for path in counters:
        path.parent.mkdir()
        path.write_text("1000000\n")
    with energy.energy(CPU) as spent:
        counters[0].write_text("3500000\n")
    assert spent == [2.5]
    with energy.energy(CPU) as spent:
        counters[1].write_text("0\n")  # went round
    assert spent == [None]


def test_no_counter_no_joules(tmp_path, monkeypatch):
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    with energy.energy(CPU) as spent:
        pass
    assert spent == [None]


def test_a_model_is_freed_before_the_next_one_is_built(monkeypatch):
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append("cuda"))
    subject = {
        "name": "gan",
        "spec": {"channels": 1, "height": 4, "width": 4, "levels": 17},
        "source": None,
        "folder": ".",
        "sampler": {},
        "weights": None,
        "config": {},
        "precision": "fp32",
        "captions": [],
    }
    bench = Bench("cpu")
    bench.build(subject)
    bench.model.cycle, first = [bench.model], weakref.ref(bench.model)
    gc.disable()
    try:
        bench.build(subject)
    finally:
        gc.enable()
    assert first() is None
    assert emptied == []
    release_memory(torch.device("cuda"))
    assert emptied == ["cuda"]
