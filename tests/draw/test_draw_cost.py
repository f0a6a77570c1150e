"""Cost under a clock that the model itself moves: every number is known."""

from __future__ import annotations

import time

import psutil
import pytest
import torch
from torch import nn

from genbench.contract import DataSpec, Loss, Model, Steps
from genbench.draw import blocks, cost, draw_block
from genbench.draw.clock import age, clock_of
from genbench.draw.cost import measure_cost
from genbench.draw.repeats import meter_for, time_repeats
from genbench.errors import CellFailure
from genbench.keys import stream_seed
from genbench.metrics import METRICS

DATA, CPU = DataSpec(1, 2, 2), torch.device("cpu")


class Sleeper(Model):
    """Takes `fixed` seconds a call and `each` seconds an image, `first` times longer on its first call."""

    def __init__(self, fixed=0.0, each=0.0, first=1.0):
        super().__init__(DATA)
        self.scale = nn.Parameter(torch.zeros(3))
        self.fixed, self.each, self.first = fixed, each, first
        self.now, self.calls = 0.0, []

    def loss(self, batch, player, step, gen):
        return Loss(self.scale.sum())

    def sample(self, n, gen, condition=None):
        assert not self.training
        assert torch.is_inference_mode_enabled()
        self.now += (self.fixed + self.each * n) * (1 if self.calls else self.first)
        self.calls.append(n)
        return torch.zeros(n, *self.data.shape)

    def clock(self):
        return self.now


class Walker(Sleeper, Steps):
    """Calls its denoiser `steps` times and declares `declared`."""

    def __init__(self, steps, declared):
        super().__init__(each=0.1)
        self.net, self.steps, self.declared = nn.Linear(4, 4), steps, declared

    @property
    def denoiser(self):
        return self.net

    @property
    def evaluations(self):
        return self.declared

    def sample(self, n, gen, condition=None):
        x = super().sample(n, gen).flatten(1)
        for _ in range(self.steps):
            x = self.net(x)
        return x.view(n, *self.data.shape)


def cost_of(model, **options):
    return measure_cost(model, **{"seed": 0, "batch": 8, "seconds": 10.0, "clock": model.clock, **options})


def value(name, cost):
    return METRICS[name].compute(cost=cost)


def test_known_throughput_and_latency_without_the_warm_up():
    cost = cost_of(Sleeper(fixed=0.5, each=0.125, first=100.0))
    assert cost.batched.seconds == pytest.approx([1.5] * 7)  # until 10 s are spent
    assert value("images_per_second", cost).value == pytest.approx(8 / 1.5)
    assert value("latency", cost).value == pytest.approx(625)
    assert value("parameters", cost).value == 3
    assert value("evaluations", cost).value == 1


def test_at_least_three_repeats_when_they_fit_the_budget_singly():
    model = Sleeper(each=1.0)
    assert len(cost_of(model, seconds=8.5).batched.seconds) == 3


def test_at_least_six_single_images_whose_median_has_an_interval():
    cost = cost_of(Sleeper(each=0.5), seconds=0.6)
    assert (len(cost.batched.seconds), len(cost.single.seconds)) == (1, 6)
    assert value("latency", cost).hi is not None


def test_one_repeat_that_overruns_the_budget_is_enough_and_has_no_interval():
    model = Sleeper(each=1.0)
    cost = cost_of(model, seconds=0.9)
    assert model.calls == [8, 1, 8, 1]
    found = value("images_per_second", cost), value("latency", cost)
    assert [v.value for v in found] == pytest.approx([1.0, 1000.0])
    assert [(v.lo, v.hi, v.interval) for v in found] == [(None, None, "")] * 2


@pytest.mark.parametrize(("each", "longest", "times"), [(2, None, 1), (2, 5, 3), (6, 5, 1), (0.25, 5, 4), (0.01, 5, 7)])
def test_a_repeat_may_overrun_the_budget_up_to_the_longest(each, longest, times):
    now = [0.0]

    def run():
        now[0] += each

    found = time_repeats(run, 1.0, clock=lambda: now[0], most=7, longest=longest)
    assert found.seconds == pytest.approx([each] * times)


def test_timings_stop_at_a_hundred_calls():
    cost = cost_of(Sleeper(each=1e-3), seconds=2.0)
    assert len(cost.single.seconds) == len(cost.batched.seconds) == 100


def test_network_evaluations_are_counted():
    model = Walker(steps=7, declared=7)
    assert value("evaluations", cost_of(model)).value == 7
    assert not model.net._forward_hooks


def test_a_model_that_declares_another_number_of_evaluations_fails():
    with pytest.raises(CellFailure, match="declares 5 for each image, 7 were counted"):
        cost_of(Walker(steps=7, declared=5))


def test_the_setting_names_what_measurements_depend_on():
    setting = cost_of(Sleeper(each=1.0), seconds=1.0).setting
    assert (setting["batch"], setting["dtype"], setting["torch"]) == (8, "float32", torch.__version__)
    assert setting["threads"] == torch.get_num_threads()
    assert setting["device"].startswith("cpu: ")


def test_the_setting_of_a_model_without_parameters_has_no_type():
    model = Sleeper(each=1.0)
    del model.scale
    assert cost_of(model, seconds=1.0).setting["dtype"] == "none"


def test_every_call_has_the_random_numbers_of_the_seed():
    model, seeds = Sleeper(each=1.0), set[int]()
    plain = model.sample
    model.sample = lambda n, gen, condition=None: seeds.add(gen.initial_seed()) or plain(n, gen)
    cost_of(model, seed=7, seconds=1.0)
    assert seeds == {stream_seed(7, "draw", 0)}


@pytest.mark.parametrize(("device", "threads", "expected"), [("cpu", 3, 3), ("cpu", 0, 5), ("mps", 3, 1)])
def test_a_meter_waits_for_as_many_cores_as_the_timed_work_uses(monkeypatch, device, threads, expected):
    monkeypatch.setattr("genbench.draw.repeats.cores_available", lambda: 5)
    meter = meter_for(torch.device(device), 2.0, threads)
    assert (meter.threads, meter.patience, meter.gpu) == (expected, 2.0, None)


def test_the_clock_of_a_cpu_is_that_of_this_process():
    assert clock_of("cpu") is time.process_time
    assert clock_of("meta") is time.perf_counter
    started = psutil.Process().create_time()
    for device, clock in (("cpu", time.process_time), ("meta", lambda: time.time() - started)):
        assert clock() - 0.1 <= age(device) <= clock() + 0.1


def test_a_call_ends_when_its_pixels_are_in_the_memory_of_the_cpu(monkeypatch):
    """The conversion to pixels, which ends with the copy, moves the clock: it must be inside every timed call."""
    model, plain = Sleeper(each=1.0), blocks.to_pixels

    def late(x, levels):
        model.now += 2.0
        return plain(x, levels)

    monkeypatch.setattr(blocks, "to_pixels", late)
    measured = cost_of(model, seconds=30.0)
    assert set(measured.batched.seconds) == {10.0}
    assert set(measured.single.seconds) == {3.0}


def test_the_leaderboard_and_speed_time_the_same_call():
    assert cost.draw_block is draw_block
    model = Sleeper(each=0.5)
    swept = cost.time_batch(lambda n: draw_block(model.eval(), 0, 0, n), 8, CPU, 10.0, clock=model.clock)
    assert swept.seconds == cost_of(model).batched.seconds
    assert swept.images_per_second == value("images_per_second", cost_of(model)).value == 2.0
