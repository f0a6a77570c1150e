"""The Pareto front of two metrics, judged as ranks are: values that chance may part are ties on the plot too."""

from __future__ import annotations

from collections.abc import Mapping

from genbench.report.ranks import Estimated, is_better

SIGNS = {"lower": 1, "higher": -1}


def front(one: Mapping[str, Estimated], other: Mapping[str, Estimated], better: tuple[str, str]) -> set[str]:
    """The models, of those with an entry in both metrics, that no model beats.

    A model beats another when it is better in one metric and not worse in the other; better and worse mean by more than
    the interval of the difference, as for ranks. better: "lower" or "higher" of the two metrics.
    """
    shared = [model for model in one if model in other]
    sides = tuple(zip((one, other), (SIGNS[word] for word in better), strict=True))
    return {a for a in shared if not any(_beats(sides, b, a) for b in shared if b != a)}


def _beats(sides: tuple[tuple[Mapping[str, Estimated], int], ...], b: str, a: str) -> bool:
    gains = [is_better(entries[b], entries[a], sign) for entries, sign in sides]
    losses = [is_better(entries[a], entries[b], sign) for entries, sign in sides]
    return any(gains) and not any(losses)
