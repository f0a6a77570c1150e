"""One pass over the distances between generated and reference rows, for every metric that compares them.

The first metric of a row that asks computes all counts; the others read them. What depends on the reference alone is
asked of `kept`, so that a suite computes it once for all rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genbench.metrics.arrays import Array
from genbench.metrics.base import OfReference
from genbench.metrics.nearest import Balls, Counts, Nearest, Others, crossing, others

NEIGHBOURS = (3, 5)  # whose distances are radii: of precision and recall, and of density, coverage and the clipped ones
Kept = Callable[[OfReference], dict[str, Any]]


class NeighbourPass:
    """Counts of points in balls, and nearest rows, of fake (N, D) and real (M, D), each computed when it is asked for.

    ks: the k whose k-th nearest other rows are radii; N and M must be above the largest. kept: returns what is
    stored of the reference; None computes it once.
    """

    def __init__(
        self, fake: NDArray[Any], real: NDArray[Any], ks: Sequence[int] = NEIGHBOURS, kept: Kept | None = None
    ) -> None:
        self.fake, self.real, self.ks = fake, real, tuple(ks)
        self.kept = kept or self._computed_once
        self._parts: dict[str, dict[str, Any]] = {}

    def _computed_once(self, part: OfReference) -> dict[str, Any]:
        if part.name not in self._parts:
            self._parts[part.name] = part.compute(self.real)
        return self._parts[part.name]

    @cached_property
    def real_others(self) -> Others:
        """The nearest other reference rows of each."""
        k = max(self.ks)
        part = OfReference(f"{k} nearest other rows", lambda real: others(real, k)._asdict())
        return Others(**self.kept(part))

    @cached_property
    def fake_others(self) -> Others:
        """The nearest other generated rows of each."""
        return others(self.fake, max(self.ks))

    def radii(self, of: str, k: int) -> Array:
        """Squared distance of each row of "fake" (N,) or "real" (M,) to its k-th nearest other row."""
        found: Others = self.real_others if of == "real" else self.fake_others
        return found.squared[:, k - 1]

    @cached_property
    def crossed(self) -> tuple[dict[str, Counts], Nearest]:
        """The counts by the names of `balls`, and of each fake row the nearest real one."""
        return crossing(self.fake, self.real, self.balls())

    def balls(self) -> dict[str, Balls]:
        """Balls of every k: of "real" and "fake", "open" ones of real, and "clipped" ones, at most of median radius."""
        result: dict[str, Balls] = {}
        for k in self.ks:
            real = self.radii("real", k)
            result |= {
                f"real {k}": Balls("y", real),
                f"open {k}": Balls("y", real, open=True),
                f"clipped {k}": Balls("y", np.minimum(real, np.median(real))),
                f"fake {k}": Balls("x", self.radii("fake", k)),
            }
        return result

    def counts(self, balls: str) -> Counts:
        """Balls around each fake row (N,) and around each real row (M,), or points in each ball."""
        return self.crossed[0][balls]

    @cached_property
    def nearest(self) -> Nearest:
        """Of each fake row the nearest real one."""
        return self.crossed[1] if "crossed" in vars(self) else crossing(self.fake, self.real, {})[1]

    def nearest_to(self, rows: NDArray[Any]) -> Nearest:
        """Of each of these rows (T, D) the nearest real one."""
        digest = hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()
        part = OfReference(f"nearest rows of {digest}", lambda real: crossing(rows, real, {})[1]._asdict())
        return Nearest(**self.kept(part))
