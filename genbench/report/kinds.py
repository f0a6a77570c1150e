"""Kinds of likelihood in the report: the sign before a value, its legend, and which kinds are compared.

Bits/dim of an exact mass is the quantity itself. Of a density or a variational bound it is an upper bound: the bits/dim
of the discrete pixels are never above it. An estimate can be above or below them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from genbench.records import BOUND, DENSITY, ESTIMATE, LIKELIHOOD_KINDS, MASS


@dataclass(frozen=True)
class Sign:
    """The sign before a value in text and in TeX's math mode, and its meaning."""

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
    "values of one kind are ranked directly; between kinds, a model counts as better only than one with a larger exact "
    "value (=), because a larger upper bound does not show that a model is worse"
)


def sign(kind: str) -> Sign:
    """The sign of a kind; an empty sign for "", which means no likelihood."""
    return SIGNS[kind] if kind else NO_SIGN


def weakest(kinds: Iterable[str]) -> str:
    """The kind of a mean over values of these kinds: the last of them in genbench.records.LIKELIHOOD_KINDS."""
    return max(kinds, key=("", *LIKELIHOOD_KINDS).index)


def shows_better(one: str, other: str) -> bool:
    """Whether a value of kind `one` below a value of kind `other` shows that its model is better.

    True within one kind, where the same quantity is compared, and for an upper bound below an exact mass.
    """
    return one == other or other == MASS


def why_unranked(kinds: Collection[str]) -> str:
    """The reason why values of these kinds cannot be ranked together, "" when they can."""
    if ESTIMATE in kinds and len(kinds) > 1:
        return "not ranked, an estimate (~) can be above or below the true value and does not rank with other kinds."
    return ""


def legend(kinds: Collection[str]) -> str:
    """A sentence with the meaning of each sign in a column, and of its ranks where a column has several kinds."""
    shown = [kind for kind in LIKELIHOOD_KINDS if kind in kinds]
    parts = [f"{SIGNS[kind].text} is {SIGNS[kind].meaning}" for kind in shown]
    if len(shown) > 1 and not why_unranked(shown):
        parts.append(MIXED)
    return "; ".join(parts) + "."
