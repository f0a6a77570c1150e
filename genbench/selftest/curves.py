"""How a curve of metric values must look in the checks of fidelity and diversity metrics (Raisa et al. 2025).

A curve is the metric's value as the samples become worse in one way. A judge returns the verdict: YES or NO; or, where
a diversity metric may define diversity in two ways, LOW (samples that are too wide are not diverse) or HIGH (they are).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from genbench.metrics.arrays import Array

YES, NO, LOW, HIGH, UNDEFINED = "yes", "no", "low", "high", "n/a"
NEAR = 0.05  # of a value that is known, or of a curve that must not move
STEP, SLACK = 0.2, 0.1  # a curve must move by this; its ends may miss its extremes by this
DROP = 0.1  # before the last point, where a fall must have begun


@dataclass(frozen=True)
class Curve:
    """Mean values y (P,) at settings x (P,), increasing; NaN where the metric is not defined."""

    x: Array
    y: Array

    def at(self, x: float) -> float:
        """The value at a setting of the curve."""
        return float(self.y[int(np.abs(self.x - x).argmin())])


Judge = Callable[[Curve], str]


def verdict(passes: bool) -> str:
    """YES or NO."""
    return YES if passes else NO


def close(target: float, at: float) -> Judge:
    """The value at a setting, or at the first or last one (-inf, inf), is the target."""
    return lambda curve: verdict(abs(curve.at(np.clip(at, curve.x[0], curve.x[-1])) - target) <= NEAR)


def stays_flat(curve: Curve) -> str:
    """The value does not move."""
    return verdict(float(np.ptp(curve.y)) <= NEAR)


def settles(curve: Curve) -> str:
    """The value does not move from the middle setting on."""
    return verdict(float(np.ptp(curve.y[len(curve.y) // 2 :])) <= NEAR)


def falls(curve: Curve) -> str:
    """The curve is highest at its first and lowest at its last setting."""
    y = curve.y
    return verdict(bool(y[0] - y[-1] >= STEP and y.max() - y[0] <= SLACK and y[-1] - y.min() <= SLACK))


def rises(curve: Curve) -> str:
    """The curve is lowest at its first and highest at its last setting."""
    return falls(Curve(curve.x, -curve.y))


def falls_before(x: float) -> Judge:
    """It falls, and has begun to at this setting."""
    return lambda curve: verdict(falls(curve) == YES and curve.y[0] - curve.at(x) >= DROP)


def peaks(at: float) -> Judge:
    """The curve is highest at this setting and lower by STEP at both ends, one of which is its lowest value."""

    def judge(curve: Curve) -> str:
        y, top = curve.y, curve.at(at)
        ends = min(y[0], y[-1]) - y.min() <= SLACK
        return verdict(bool(top - max(y[0], y[-1]) >= STEP and y.max() - top <= SLACK and ends))

    return judge


def either(low: Judge, high: Judge) -> Judge:
    """LOW or HIGH, by which of the two passes."""
    return lambda curve: LOW if low(curve) == YES else HIGH if high(curve) == YES else NO


def combined(verdicts: Sequence[str]) -> str:
    """The verdict of several judges of one metric: NO when one fails or when LOW and HIGH contradict each other."""
    if UNDEFINED in verdicts:
        return UNDEFINED
    if NO in verdicts or {LOW, HIGH} <= set(verdicts):
        return NO
    return next((v for v in verdicts if v in (LOW, HIGH)), YES)
