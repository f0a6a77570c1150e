"""From times to a verdict, with a bounded share of false alarms however often one looks.

A ratio is the time of B over that of A: above 1, B is slower. Two designs:

paired      Each round times both sides next to each other in an order drawn at random, and gives one log-ratio. Where
            the sides are alike a round's log-ratio is as likely r as -r, whatever the noise, so the signed-rank
            interval (Hodges and Lehmann 1963; Hollander and Wolfe, Nonparametric Statistical Methods, 3.2-3.4) has its
            coverage exactly for independent rounds. Looking again is paid for: look k may err with alpha / (k (k + 1)),
            in sum alpha.
unpaired    Each side is timed by several processes, each giving one number; Welch's t interval of their log times.

A difference within FLOOR is never called one: processes that run the same code differ by as much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

FASTER, SLOWER, UNCLEAR = "faster", "slower", "cannot tell"
FALSE_ALARMS = 0.01  # in a whole comparison, over all models and looks
FLOOR = 0.01
LOOKS = (12, 17, 24, 34, 48, 68, 96, 136, 192, 272, 384)


@dataclass(frozen=True)
class Ratio:
    """Time of B over time of A with its interval, and how many rounds or processes it rests on."""

    value: float
    lo: float
    hi: float
    n: int

    @property
    def verdict(self) -> str:
        """Faster, slower or cannot tell: whether the interval lies beyond 1 by FLOOR."""
        if self.lo > 1 + FLOOR:
            return SLOWER
        return FASTER if self.hi < 1 / (1 + FLOOR) else UNCLEAR

    @property
    def least(self) -> float:
        """The smallest change of time, as a share, that would have been seen: half of the interval, and FLOOR."""
        half = (math.log(self.hi) - math.log(self.lo)) / 2 if self.lo > 0 else math.inf
        return math.expm1(half) + FLOOR

    def beyond(self, tolerance: float) -> bool:
        """Whether B is slower by more than the tolerance, for all that the interval allows."""
        return self.verdict == SLOWER and self.lo > 1 + tolerance

    def answers(self, tolerance: float) -> bool:
        """Whether the interval lies on one side of the tolerance."""
        return self.lo > 1 + max(tolerance, FLOOR) or self.hi < 1 + tolerance


def alpha_of_look(look: int, models: int) -> float:
    """The error that look number `look` (from 1) of one of `models` models may make."""
    return FALSE_ALARMS / models / (look * (look + 1))


def paired(log_ratios: Sequence[float], alpha: float) -> Ratio:
    """The Hodges-Lehmann estimate of the rounds' log-ratios (n,) and its exact interval, as ratios.

    The interval is (0, inf) where so few rounds allow none at alpha.
    """
    n, walsh = len(log_ratios), walsh_averages(log_ratios)
    cut = int(np.searchsorted(np.cumsum(signed_ranks(n)), alpha / 2, side="right"))
    value = math.exp(centre(log_ratios))
    if cut == 0:
        return Ratio(value, 0.0, math.inf, n)
    return Ratio(value, math.exp(walsh[cut - 1]), math.exp(walsh[len(walsh) - cut]), n)


def centre(values: Sequence[float]) -> float:
    """The Hodges-Lehmann estimate of the centre of values (n,): the median of their Walsh averages."""
    return float(np.median(walsh_averages(values)))


def walsh_averages(values: Sequence[float]) -> np.ndarray:
    """(x_i + x_j) / 2 for every i <= j of values (n,), in order: (n (n + 1) / 2,)."""
    x = np.asarray(values, dtype=float)
    i, j = np.triu_indices(len(x))
    return np.sort((x[i] + x[j]) / 2)


def sequential(
    more: Callable[[int], Sequence[float]], tolerance: float, models: int = 1, looks: Sequence[int] = LOOKS
) -> Ratio:
    """Rounds until the interval lies on one side of the tolerance, the looks are used up, or no more rounds come.

    more(n): the log-ratios of up to n further rounds. models: how many share the error.
    """
    logs: list[float] = []
    ratio = Ratio(1.0, 0.0, math.inf, 0)
    for look, count in enumerate(looks, start=1):
        logs += more(count - len(logs))
        if logs:
            ratio = paired(logs, alpha_of_look(look, models))
        if ratio.answers(tolerance) or len(logs) < count:
            break
    return ratio


def signed_ranks(n: int) -> np.ndarray:
    """Probabilities of the signed-rank statistic of n symmetric values being 0, 1, ..., n (n + 1) / 2."""
    found = np.ones(1)
    for rank in range(1, n + 1):
        wider = np.zeros(len(found) + rank)
        wider[: len(found)] += found / 2
        wider[rank:] += found / 2
        found = wider
    return found


def unpaired(a: Sequence[float], b: Sequence[float], alpha: float) -> Ratio:
    """Welch's interval of the ratio of times, from one time a process of either side, at least two each."""
    test = stats.ttest_ind(np.log(b), np.log(a), equal_var=False)
    found = test.confidence_interval(1 - alpha)
    centre = float(np.mean(np.log(b)) - np.mean(np.log(a)))
    return Ratio(math.exp(centre), math.exp(found.low), math.exp(found.high), min(len(a), len(b)))


def fastest(seconds: Sequence[float]) -> float:
    """One number of a slice of calls: the fastest, as a busy neighbour only ever adds time."""
    return min(seconds)


def noise(times: Sequence[float]) -> float:
    """Standard deviation of the log times of several processes: the share by which one differs from another."""
    return float(np.std(np.log(times), ddof=1))
