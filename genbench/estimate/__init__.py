"""What a suite would cost on this machine, from a moment of each of its parts: `genbench plan --estimate`.

Everything that takes long is begun in worker processes, side by side as in a run: a few steps of each training, a
moment of drawing and of each likelihood, each metric on a part of the images. What the store holds costs nothing.
"""

from __future__ import annotations

from genbench.estimate.cost import RowCost, SuiteCost
from genbench.estimate.suite import estimate

__all__ = ["RowCost", "SuiteCost", "estimate"]
