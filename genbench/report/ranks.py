"""Ranks with ties: 1 + the number of models that are better by more than chance.

One model is better than another when the 95 % interval of their difference, for values measured independently, leaves
out 0. It is built from the two values' own intervals (Zou and Donner 2008), which may be uneven: for a < b the
difference b - a reaches down to b - a - sqrt((hi_a - a)^2 + (b - lo_b)^2). Where two models were scored on the same
test images the values move together and this is cautious; records hold no pairs.

Being tied is not transitive, so ties form no groups; the count is well defined all the same, and the best value always
has rank 1. A value with a wide interval may rank before a better one with a narrow interval: less is known against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genbench.report.aggregate import Entry


def ranks(entries: Mapping[str, Entry], better: str) -> dict[str, int]:
    """Each model's rank among entries that are ok; better: "lower" or "higher"."""
    sign = 1 if better == "lower" else -1
    return {
        model: 1 + sum(is_better(other, entry, sign) for name, other in entries.items() if name != model)
        for model, entry in entries.items()
    }


def is_better(one: Entry, other: Entry, sign: int) -> bool:
    """Whether one lies below (sign 1) or above (sign -1) the other by more than the interval of their difference.

    A value without an interval counts as exact.
    """
    gap = sign * (other.number - one.number)
    near, far = (one.high, other.low) if sign > 0 else (one.low, other.high)
    return bool(gap > 0 and gap**2 > (near - one.number) ** 2 + (far - other.number) ** 2)
