"""Kinds of likelihood as readers see them: the sign before a value, its legend, and how kinds compare.

Bits/dim of an exact mass is the quantity itself. Of a density or a variational bound it is an upper bound: the discrete
pixels may cost the model less, never more. Of an estimate it can be above or below.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from genbench.records import BOUND, DENSITY, ESTIMATE, LIKELIHOOD_KINDS, MASS


@dataclass(frozen=True)
class Sign:
    """What stands before a value in text and in TeX's math mode, and what it means."""

    text: str
    tex: str
    meaning: str


SIGNS: dict[str, Sign] = {
    MASS: Sign("=", "=", "exact, of the discrete pixels"),
    DENSITY: Sign(
        "≤ᵈ",
        r"\le^{\mathrm{d}}",
        "the exact density of dequantised pixels, an upper bound for the discrete pixels",
    ),
    BOUND: Sign("≤", r"\le", "a variational upper bound"),
    ESTIMATE: Sign("~", r"\approx", "an estimate, above or below the true value"),
}
NO_SIGN = Sign("", "", "")
MIXED = (
    "values of one kind are ranked as they are; between kinds, a model counts as better only than an exact value (=) "
    "above its own, because an upper bound above another value does not show that the model is worse"
)


def sign(kind: str) -> Sign:
    """The sign of a kind; an empty one for "", which is no likelihood."""
    return SIGNS[kind] if kind else NO_SIGN


def weakest(kinds: Iterable[str]) -> str:
    """The kind of a mean over values of these kinds: the last of them in genbench.records.LIKELIHOOD_KINDS."""
    return max(kinds, key=("", *LIKELIHOOD_KINDS).index)


def shows_better(one: str, other: str) -> bool:
    """Whether a value of kind `one` below a value of kind `other` shows that its model is better.

    Within one kind the same quantity is compared. An upper bound below an exact mass shows it too.
    """
    return one == other or other == MASS


def why_unranked(kinds: Collection[str]) -> str:
    """Why values of these kinds cannot be ranked together, "" when they can."""
    if ESTIMATE in kinds and len(kinds) > 1:
        return "not ranked, an estimate (~) can be above or below the true value and does not rank with other kinds."
    return ""


def legend(kinds: Collection[str]) -> str:
    """A sentence with the meaning of each sign in a column, and of ranks where they mix kinds."""
    shown = [kind for kind in LIKELIHOOD_KINDS if kind in kinds]
    parts = [f"{SIGNS[kind].text} is {SIGNS[kind].meaning}" for kind in shown]
    if len(shown) > 1 and not why_unranked(shown):
        parts.append(MIXED)
    return "; ".join(parts) + "."
