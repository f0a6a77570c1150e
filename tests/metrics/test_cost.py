"""Cost under a clock that the model itself moves: every number is known."""

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from genbench.contract import DataSpec, Loss, Model, Steps
from genbench.errors import CellFailure
from genbench.machine import KEEPING_MEMORY
from genbench.metrics.cost import MIB, Cost, measure_cost, peak_memory, repeat
from genbench.registry import METRICS

DATA = DataSpec(1, 2, 2)


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
        return x


def cost_of(model, **options):
    return measure_cost(model, **{"seed": 0, "batch": 8, "seconds": 10.0, "clock": model.clock, **options})


def value(name, cost):
    return METRICS[name].compute(cost=cost)


def test_known_throughput_and_latency_without_the_warm_up():
    cost = cost_of(Sleeper(fixed=0.5, each=0.125, first=100.0))
    assert cost.batch_seconds == pytest.approx([1.5] * 7)  # until 10 s are spent
    assert value("images_per_second", cost).value == pytest.approx(8 / 1.5)
    assert value("latency", cost).value == pytest.approx(625)
    assert value("parameters", cost).value == 3
    assert value("evaluations", cost).value == 1


def test_at_least_three_repeats_when_they_fit_the_budget_singly():
    model = Sleeper(each=1.0)
    assert len(cost_of(model, seconds=8.5).batch_seconds) == 3


def test_one_repeat_that_overruns_the_budget_is_enough_and_has_no_interval():
    model = Sleeper(each=1.0)
    cost = cost_of(model, seconds=0.9)
    assert model.calls == [8, 8, 1, 1]
    found = value("images_per_second", cost), value("latency", cost)
    assert [v.value for v in found] == pytest.approx([1.0, 1000.0])
    assert [(v.lo, v.hi, v.interval) for v in found] == [(None, None, "")] * 2


@pytest.mark.parametrize(("each", "longest", "times"), [(2, None, 1), (2, 5, 3), (6, 5, 1), (0.25, 5, 4), (0.01, 5, 7)])
def test_a_repeat_may_overrun_the_budget_up_to_the_longest(each, longest, times):
    now = [0.0]

    def run():
        now[0] += each

    assert repeat(run, 1.0, lambda: now[0], most=7, longest=longest) == pytest.approx([each] * times)


def test_latency_stops_at_a_hundred_images():
    assert len(cost_of(Sleeper(each=1e-3), seconds=0.5).image_seconds) == 100


def test_intervals_are_what_they_say():
    cost = Cost(10, (1.0, 2.0, 4.0), tuple(i / 1000 for i in range(101)), 1, 0, None)
    rate, ms = value("images_per_second", cost), value("latency", cost)
    assert (rate.value, rate.lo, rate.hi, rate.interval) == (5.0, 2.5, 10.0, "slowest to fastest of 3 repeats")
    assert (ms.value, ms.lo, ms.hi) == pytest.approx((50.0, 5.0, 95.0))
    assert ms.interval == "5th to 95th percentile of 101 images, one by one"


def test_network_evaluations_are_counted():
    model = Walker(steps=7, declared=7)
    assert value("evaluations", cost_of(model)).value == 7
    assert not model.net._forward_hooks


def test_a_model_that_declares_another_number_of_evaluations_fails():
    with pytest.raises(CellFailure, match="declares 5 an image, 7 calls were counted"):
        cost_of(Walker(steps=7, declared=5))


def test_protocol_names_what_timings_depend_on():
    protocol = cost_of(Sleeper(each=1.0), seconds=1.0).protocol
    assert protocol["batch"] == 8
    assert protocol["dtype"] == "float32"
    assert protocol["threads"] == torch.get_num_threads()
    assert protocol["device"].startswith("cpu: ")


def test_peak_memory_sees_what_was_allocated_and_freed():
    with peak_memory(torch.device("cpu")) as peak:
        torch.ones(40 * MIB // 4)
    if peak[0] is None:
        pytest.skip("this system does not tell the peak of a block of work")
    assert 39 < peak[0] < 60


def test_peak_memory_counts_what_an_allocator_had_kept():
    code = (
        "import torch\nfrom genbench.metrics.cost import peak_memory\n"
        "for _ in range(2):\n"
        "    with peak_memory(torch.device('cpu')) as peak:\n"
        "        torch.ones(16 * 2**18)\n"
        "print(peak[0])"
    )
    environment = {**os.environ, **KEEPING_MEMORY}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    if done.stdout.strip() == "None":
        pytest.skip("this system does not tell the peak of a block of work")
    assert 15 < float(done.stdout) < 24


def test_unknown_peak_memory_is_no_number():
    with pytest.raises(CellFailure, match="peak_memory"):
        value("peak_memory", Cost(1, (1.0,), (1.0,), 1, 0, None))
