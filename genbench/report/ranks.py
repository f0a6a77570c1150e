"""Ranks with ties: 1 + the number of models that are significantly better.

One model is better than another when the 95 % interval of the difference of their values, taken as independent, does
not contain 0. The interval follows from the two values' own intervals (Zou and Donner 2008), which may be asymmetric:
for a < b, the lower end of the interval of b - a is b - a - sqrt((hi_a - a)^2 + (b - lo_b)^2). Two models scored on the
same test images have dependent values, and the interval is then too wide; records have no values per image.

Likelihoods of different kinds are compared only where the comparison is sound: see genbench.report.kinds.

Ties are not transitive, so they do not form groups; the count is well defined nevertheless. The best value always has
rank 1. A value with a wide interval may rank before a better value with a narrow interval, because fewer models are
significantly better than it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from genbench.report.kinds import shows_better


class Estimated(Protocol):
    """A value with the ends of its interval, both equal to the value where it has none; kind: of a likelihood."""

    @property
    def number(self) -> float:
        """The value."""

    @property
    def low(self) -> float:
        """The lower end."""

    @property
    def high(self) -> float:
        """The upper end."""

    @property
    def kind(self) -> str:
        """The kind of likelihood, "" for other metrics."""


def ranks(entries: Mapping[str, Estimated], better: str) -> dict[str, int]:
    """Each model's rank among entries that are ok; better: "lower" or "higher"."""
    import numpy as np

    sign, found = (1 if better == "lower" else -1), list(entries.values())
    numbers = np.array([entry.number for entry in found])
    near = np.array([entry.high if sign > 0 else entry.low for entry in found]) - numbers
    far = np.array([entry.low if sign > 0 else entry.high for entry in found]) - numbers
    kinds = {kind: np.array([shows_better(one.kind, kind) for one in found]) for kind in {e.kind for e in found}}
    return {
        model: 1 + int((_exceeds(sign * (numbers[i] - numbers), near, far[i]) & kinds[entry.kind]).sum())
        for i, (model, entry) in enumerate(entries.items())
    }


def is_better(one: Estimated, other: Estimated, sign: int) -> bool:
    """Whether `one` is below (sign 1) or above (sign -1) `other` by more than the interval of their difference.

    A value without an interval counts as exact. False for kinds of likelihood that do not compare.
    """
    if not shows_better(one.kind, other.kind):
        return False
    near, far = (one.high, other.low) if sign > 0 else (one.low, other.high)
    return bool(_exceeds(sign * (other.number - one.number), near - one.number, far - other.number))


def _exceeds(gap: Any, near: Any, far: Any) -> Any:
    """Whether gaps are above 0 and above the root of the sum of squares of the distances of the facing ends."""
    return (gap > 0) & (gap**2 > near**2 + far**2)
