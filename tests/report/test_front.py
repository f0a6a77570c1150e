"""The Pareto front against ranks: hand-made cases, and random ones in which plot and table may not contradict."""

from dataclasses import dataclass

import numpy as np

from genbench.report.front import front
from genbench.report.ranks import ranks


@dataclass(frozen=True)
class Point:
    number: float
    half: float = 0.0
    kind: str = ""

    @property
    def low(self):
        return self.number - self.half

    @property
    def high(self):
        return self.number + self.half


def test_exact_values_keep_what_no_other_beats():
    fid = {"slow-good": Point(20), "fast-fair": Point(30), "beaten": Point(100), "twin": Point(30), "alone": Point(1)}
    speed = {"slow-good": Point(60), "fast-fair": Point(5e4), "beaten": Point(1e4), "twin": Point(5e4)}
    assert front(fid, speed, ("lower", "higher")) == {"slow-good", "fast-fair", "twin"}


def test_a_tie_in_quality_is_decided_by_cost():
    fid, speed = {"a": Point(20, 3), "b": Point(21, 3)}, {"a": Point(60, 1), "b": Point(90, 1)}
    assert front(fid, speed, ("lower", "higher")) == {"b"}
    assert front(fid, {"a": Point(60, 1), "b": Point(60.5, 1)}, ("lower", "higher")) == {"a", "b"}


def test_front_and_ranks_never_contradict_each_other():
    """Who has rank 1 in both metrics is on the front, and the front is never empty."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        one, other = ({f"m{i}": Point(*rng.random(2)) for i in range(6)} for _ in range(2))
        found = front(one, other, ("lower", "higher"))
        first = {m for m, r in ranks(one, "lower").items() if r == 1} & {
            m for m, r in ranks(other, "higher").items() if r == 1
        }
        assert found
        assert first <= found
