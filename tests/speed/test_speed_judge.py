"""Verdicts on ratios of times: exact under any symmetric noise, and bounded in false alarms however often one looks."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from genbench.speed.judge import (
    FALSE_ALARMS,
    FASTER,
    FLOOR,
    LOOKS,
    SLOWER,
    UNCLEAR,
    Ratio,
    alpha_of_look,
    fastest,
    paired,
    sequential,
    signed_ranks,
    unpaired,
)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_signed_ranks_are_those_of_every_pattern_of_signs(n):
    sums = [sum(r for r, s in zip(range(1, n + 1), signs, strict=True) if s)
            for signs in itertools.product((0, 1), repeat=n)]  # fmt: skip
    expected = np.bincount(sums, minlength=n * (n + 1) // 2 + 1) / 2**n
    np.testing.assert_allclose(signed_ranks(n), expected, rtol=1e-13)


@pytest.mark.parametrize("n", [12, 17, 24, 40])
def test_the_interval_leaves_out_what_the_signed_rank_test_rejects(n):
    logs = np.random.default_rng(n).standard_t(3, n) * 0.03 + 0.02
    for alpha in (0.2, 0.01, 0.001):
        ratio = paired(logs, alpha)
        for edge, inward in ((ratio.lo, 1), (ratio.hi, -1)):
            for shift, kept in ((math.log(edge) - inward * 1e-9, False), (math.log(edge) + inward * 1e-9, True)):
                p = stats.wilcoxon(logs - shift, method="exact").pvalue
                assert (p > alpha) == kept


def test_the_estimate_is_the_median_of_pairwise_means():
    logs = [0.0, 0.01, 0.05]
    pairs = [(a + b) / 2 for i, a in enumerate(logs) for b in logs[i:]]
    assert paired(logs, 0.5).value == pytest.approx(math.exp(np.median(pairs)))


def test_too_few_rounds_give_no_interval():
    ratio = paired([0.5] * 5, 0.01)
    assert (ratio.lo, ratio.hi, ratio.verdict) == (0.0, math.inf, UNCLEAR)
    assert math.isinf(ratio.least)


def test_looks_share_the_error_that_one_comparison_may_make():
    spent = sum(alpha_of_look(look, models=4) for look in range(1, len(LOOKS) + 1)) * 4
    assert FALSE_ALARMS * 0.9 < spent < FALSE_ALARMS


def test_verdicts_leave_out_the_floor():
    assert Ratio(1.05, 1.0 + 2 * FLOOR, 1.08, 9).verdict == SLOWER
    assert Ratio(1.02, 1.0 + FLOOR / 2, 1.03, 9).verdict == UNCLEAR
    assert Ratio(0.9, 0.85, 0.95, 9).verdict == FASTER
    assert Ratio(0.99, 0.98, 0.995, 9).verdict == UNCLEAR


def test_beyond_a_tolerance_means_the_whole_interval():
    assert Ratio(1.08, 1.06, 1.1, 9).beyond(0.05)
    assert not Ratio(1.08, 1.04, 1.12, 9).beyond(0.05)
    assert not Ratio(1.005, 1.003, 1.007, 9).beyond(0.0)


def noisy(rng: np.random.Generator, shift: float):
    """Rounds of a shared machine: heavy tails, and drift that a round does not quite cancel."""

    def more(n: int) -> list[float]:
        drift = np.sin(np.cumsum(rng.normal(0, 0.3, n))) * 0.01 * rng.choice((-1, 1), n)
        return list(shift + 0.02 * rng.standard_t(2.5, n) + drift)

    return more


def verdicts(shift: float, runs: int) -> list[Ratio]:
    rng = np.random.default_rng(7)
    return [sequential(noisy(rng, shift), tolerance=0.02, looks=LOOKS[:8]) for _ in range(runs)]


def test_false_alarms_stay_below_the_error_and_a_slowdown_is_seen():
    alike = [r for r in verdicts(0.0, 400) if r.verdict != UNCLEAR]
    assert len(alike) <= 400 * FALSE_ALARMS
    assert sum(r.beyond(0.02) for r in verdicts(math.log(1.05), 100)) >= 95


def test_rounds_end_once_the_question_is_answered_or_time_is_up():
    asked: list[int] = []

    def still(n: int) -> list[float]:
        asked.append(n)
        return [0.001 * (-1) ** i for i in range(n)]

    assert sequential(still, tolerance=0.05).n == LOOKS[0]
    assert asked == [LOOKS[0]]
    assert sequential(lambda n: [0.2 * (-1) ** i for i in range(min(n, 13))], tolerance=0.01).n == 12 + 5 + 7 + 10 + 13
    assert sequential(lambda n: [], tolerance=0.01).verdict == UNCLEAR


def test_unpaired_is_the_t_interval_of_log_times():
    a, b = [1.0, 1.02, 0.99, 1.01, 1.0], [1.1, 1.12, 1.09, 1.13, 1.08]
    x, y = np.log(a), np.log(b)
    error = math.sqrt(x.var(ddof=1) / 5 + y.var(ddof=1) / 5)
    freedom = error**4 / ((x.var(ddof=1) / 5) ** 2 / 4 + (y.var(ddof=1) / 5) ** 2 / 4)
    half = stats.t.ppf(0.995, freedom) * error
    found = unpaired(a, b, 0.01)
    assert math.log(found.value) == pytest.approx(y.mean() - x.mean())
    assert (math.log(found.lo), math.log(found.hi)) == pytest.approx(
        (math.log(found.value) - half, math.log(found.value) + half)
    )
    assert found.verdict == SLOWER


def test_disturbed_calls_do_not_move_a_slice():
    assert fastest([1.0] * 8 + [50.0] * 4) == 1.0
