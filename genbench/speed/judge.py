"""From times to a verdict, with a bounded share of false alarms for any number of interim looks.

A ratio is the time of B divided by that of A: above 1, B is slower. Two designs:

paired      Each round times both sides in random order and gives one log-ratio. If the sides are equal, a round's
            log-ratio is as likely r as -r, whatever the noise. The signed-rank interval (Hodges and Lehmann 1963;
            Hollander and Wolfe, Nonparametric Statistical Methods, 3.2-3.4) therefore has exact coverage for
            independent rounds. Look k spends the error alpha / (k (k + 1)); the sum over all looks is alpha.
unpaired    Several processes time each side and give one number each; Welch's t interval of their log times.

A difference below FLOOR is never reported as one, because processes that run the same code differ by that much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

FASTER, SLOWER, UNCLEAR = "faster", "slower", "cannot tell"
FALSE_ALARMS = 0.01  # probability for a whole comparison: all models, all looks
FLOOR = 0.01
LOOKS = (12, 17, 24, 34, 48, 68, 96, 136, 192, 272, 384)


@dataclass(frozen=True)
class Ratio:
    """Time of B divided by time of A with its interval lo..hi; n: number of rounds or processes."""

    value: float
    lo: float
    hi: float
    n: int

    @property
    def verdict(self) -> str:
        """`faster` or `slower` where the whole interval differs from 1 by more than FLOOR, else `cannot tell`."""
        if self.lo > 1 + FLOOR:
            return SLOWER
        return FASTER if self.hi < 1 / (1 + FLOOR) else UNCLEAR

    @property
    def least(self) -> float:
        """Smallest change of time, as a share, that would have been detected: half of the interval plus FLOOR."""
        half = (math.log(self.hi) - math.log(self.lo)) / 2 if self.lo > 0 else math.inf
        return math.expm1(half) + FLOOR

    def beyond(self, tolerance: float) -> bool:
        """Whether the whole interval says that B is slower by more than the tolerance."""
        return self.verdict == SLOWER and self.lo > 1 + tolerance

    def answers(self, tolerance: float) -> bool:
        """Whether the whole interval lies on one side of the tolerance, so that no more rounds are needed."""
        return self.lo > 1 + max(tolerance, FLOOR) or self.hi < 1 + tolerance


def alpha_of_look(look: int, models: int) -> float:
    """The error probability that look number `look` (from 1) may spend on one of `models` models."""
    return FALSE_ALARMS / models / (look * (look + 1))


def paired(log_ratios: Sequence[float], alpha: float) -> Ratio:
    """Hodges-Lehmann estimate of the rounds' log-ratios (n,) with its exact interval, as ratios.

    The interval is (0, inf) where n is too small for an interval at alpha.
    """
    n, walsh = len(log_ratios), walsh_averages(log_ratios)
    cut = int(np.searchsorted(np.cumsum(signed_ranks(n)), alpha / 2, side="right"))
    value = math.exp(centre(log_ratios))
    if cut == 0:
        return Ratio(value, 0.0, math.inf, n)
    return Ratio(value, math.exp(walsh[cut - 1]), math.exp(walsh[len(walsh) - cut]), n)


def centre(values: Sequence[float]) -> float:
    """Hodges-Lehmann estimate of the centre of values (n,): the median of their Walsh averages."""
    return float(np.median(walsh_averages(values)))


def walsh_averages(values: Sequence[float]) -> np.ndarray:
    """(x_i + x_j) / 2 for all i <= j of values (n,), sorted: (n (n + 1) / 2,)."""
    x = np.asarray(values, dtype=float)
    i, j = np.triu_indices(len(x))
    return np.sort((x[i] + x[j]) / 2)


def sequential(
    more: Callable[[int], Sequence[float]], tolerance: float, models: int = 1, looks: Sequence[int] = LOOKS
) -> Ratio:
    """Adds rounds until the interval lies on one side of the tolerance, the looks are used up, or no more rounds come.

    more(n): measures up to n further rounds and returns their log-ratios. models: how many models share the error.
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
    """Probabilities that the signed-rank statistic of n symmetric values is 0, 1, ..., n (n + 1) / 2."""
    probabilities = np.ones(1)
    for rank in range(1, n + 1):
        wider = np.zeros(len(probabilities) + rank)
        wider[: len(probabilities)] += probabilities / 2
        wider[rank:] += probabilities / 2
        probabilities = wider
    return probabilities


def unpaired(a: Sequence[float], b: Sequence[float], alpha: float) -> Ratio:
    """Welch's interval of the ratio of times. a, b: one time for each process, at least two on each side."""
    test = stats.ttest_ind(np.log(b), np.log(a), equal_var=False)
    interval = test.confidence_interval(1 - alpha)
    difference = float(np.mean(np.log(b)) - np.mean(np.log(a)))
    return Ratio(math.exp(difference), math.exp(interval.low), math.exp(interval.high), min(len(a), len(b)))


def fastest(seconds: Sequence[float]) -> float:
    """The fastest call stands for a slice of calls, because other processes can only add time."""
    return min(seconds)


def noise(times: Sequence[float]) -> float:
    """Standard deviation of the log times of several processes, about their relative spread."""
    return float(np.std(np.log(times), ddof=1))
