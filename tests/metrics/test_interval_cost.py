"""benchmarks/interval_cost.py: what it takes for the value of a metric is the metric's value."""

import sys
from pathlib import Path

import pytest

from genbench import metrics

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import interval_cost

GIVEN = interval_cost.arguments(1_040, 8)
SLOW = {"cas"}  # trains a classifier


def test_every_metric_is_there():
    assert {*interval_cost.VALUES, *interval_cost.WITHOUT_INTERVAL} == set(metrics.BUILT_IN)


@pytest.mark.parametrize("name", [name for name in interval_cost.VALUES if name not in SLOW])
def test_what_is_timed_as_the_value_is_the_value(name):
    reads = GIVEN.get(metrics.get(name).reads.name, GIVEN[""])
    value = metrics.get(name).compute(**reads)
    assert value.hi is not None
    assert interval_cost.VALUES[name](**reads) == pytest.approx(value.value, rel=1e-9, abs=1e-12)
