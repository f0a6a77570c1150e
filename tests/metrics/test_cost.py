"""Metrics of cost as functions of known measurements, and what each of them depends on."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from genbench.commands.convert import branches
from genbench.contract import DataSpec, Draws
from genbench.draw.cost import Cost, TimedBatch
from genbench.errors import CellFailure, Undefined
from genbench.metrics.cost import BETWEEN_PROCESSES, median_interval, parameters
from genbench.metrics.readings import COST
from genbench.registry import METRICS

SETTING = {"batch": 10, "device": "cpu: P", "threads": 2, "dtype": "float32", "torch": "2.6", "memory": "growth"}
SINGLE = tuple(i / 1000 for i in range(101))
KNOWN = Cost(TimedBatch(10, (1.0, 2.0, 2.0, 2.0, 2.0, 4.0), None), TimedBatch(1, SINGLE, None), 40.0, 7, SETTING)


def value(name, cost):
    return METRICS[name].compute(cost=cost)


def test_values_and_intervals():
    """Printed tables of the binomial: of 101 repeats the 41st and the 61st contain the median with at least 95 %."""
    rate, ms = value("images_per_second", KNOWN), value("latency", KNOWN)
    assert (ms.value, ms.lo, ms.hi) == pytest.approx((50.0, 40 / 1.25, 60 * 1.25))
    assert ms.interval.startswith("95 % of the median of 101 repeats in one process, widened by the factor 1.25")
    assert (rate.value, rate.lo, rate.hi) == pytest.approx((5.0, 10 / 4.0 / 1.25, 10 / 1.0 * 1.25))
    assert (value("evaluations", KNOWN).value, value("parameters", KNOWN).value) == (40.0, 7.0)


def test_fewer_than_six_repeats_have_no_interval():
    """Five repeats all lie on one side of the median with probability 2 / 32, six with 2 / 64."""
    few = replace(KNOWN, batched=TimedBatch(8, (8.0,) * 5, None), single=TimedBatch(1, (1.0,), None))
    measured = value("images_per_second", few), value("latency", few)
    assert [v.value for v in measured] == [1.0, 1000.0]
    assert [(v.lo, v.hi, v.interval) for v in measured] == [(None, None, "")] * 2


def test_one_slow_call_does_not_widen_the_interval():
    quiet = median_interval([1.0] * 20 + [1.1] * 20)
    assert quiet is not None
    assert median_interval([1.0] * 20 + [1.1] * 20 + [30.0]) == pytest.approx(quiet)


@pytest.mark.parametrize("count", [6, 15, 100])
def test_the_interval_contains_the_median_in_at_least_95_of_100_processes(count):
    """Of log-normal times with median 1, before it is widened."""
    rng = np.random.default_rng(count)
    ends = [median_interval(np.sort(np.exp(rng.standard_normal(count)))) for _ in range(2000)]
    hit = sum(lo * BETWEEN_PROCESSES <= 1 <= hi / BETWEEN_PROCESSES for lo, hi in ends)
    assert 0.94 < hit / 2000 < 0.985


def test_unknown_peak_memory_is_no_number():
    with pytest.raises(CellFailure, match="peak_memory"):
        value("peak_memory", KNOWN)
    assert value("peak_memory", replace(KNOWN, batched=TimedBatch(10, (1.0,), 3.5))).value == 3.5


def machine(name, cost):
    return COST.machine(METRICS[name], SimpleNamespace(cost=cost))


def test_threads_and_cores_do_not_change_what_does_not_depend_on_them():
    names = [name for name in METRICS.built_in if METRICS[name].reads is COST]
    more = replace(KNOWN, setting={**SETTING, "threads": 8, "device": "cpu: other"})
    changed = {name for name in names if machine(name, KNOWN) != machine(name, more)}
    assert changed == {"images_per_second", "latency", "peak_memory"}
    assert machine("parameters", KNOWN) == machine("evaluations", KNOWN) == {}
    threads_only = replace(KNOWN, setting={**SETTING, "threads": 8})
    assert machine("peak_memory", KNOWN) == machine("peak_memory", threads_only)


def test_the_batch_is_part_of_what_a_rate_depends_on_and_not_of_what_a_latency_does():
    smaller = replace(KNOWN, setting={**SETTING, "batch": 5})
    assert machine("images_per_second", KNOWN) != machine("images_per_second", smaller)
    assert machine("latency", KNOWN) == machine("latency", smaller)


def test_the_metrics_import_no_torch():
    code = "import sys, genbench.metrics.cost; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


class Wrapped(Draws):
    """A graph in a file, with a number that only stands for the device."""

    def __init__(self, data, config=None, sampler=None):
        super().__init__(data, config, sampler)
        self.place = nn.Parameter(torch.zeros(1))

    def sample(self, n, gen, condition=None):
        return torch.zeros(n, *self.data.shape)


class Declares(Wrapped):
    parameter_count = 5


def test_parameters_of_a_wrapped_graph_are_unknown_unless_declared():
    data = DataSpec(1, 4, 4)
    assert Wrapped(data).parameter_count is None
    with pytest.raises(Undefined, match="does not declare parameter_count"):
        parameters(cost=replace(KNOWN, parameters=Wrapped(data).parameter_count))
    assert parameters(cost=replace(KNOWN, parameters=Declares(data).parameter_count)).value == 5


def test_a_converted_record_keeps_only_what_its_value_depends_on():
    flat = {"dataset": "digits", **SETTING}
    assert branches("parameters", flat)["machine"] == branches("evaluations", flat)["machine"] == {}
    assert branches("latency", flat)["machine"] == machine("latency", KNOWN)
    assert branches("parameters", flat)["metric"] == {}
