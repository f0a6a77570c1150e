"""Scale rows as sources: real, blurred and repeated images, noise, one Gaussian (genbench.sources.scale)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from genbench.errors import CellFailure
from genbench.keys import samples_key
from genbench.metrics.base import Metric
from genbench.metrics.facts import Capabilities, Images
from genbench.records import DENSITY, MASS
from genbench.sources.base import DataPlan, Drawing, LogProbs, Opened, Samples, Source
from genbench.sources.scale import SCALE_ROWS, SCALE_VERSION


@dataclass(frozen=True)
class ScaleRow(Source):
    """A row that shows the range of every metric; it is not ranked."""

    label: str
    family = ""
    ranked = False

    @property
    def capabilities(self) -> Capabilities:
        """A likelihood where the row has one; no network, no classes."""
        ability = {MASS: "ExactLikelihood", DENSITY: "DequantisedDensity"}.get(SCALE_ROWS[self.label].kind)
        abilities = (ability,) if ability else ()
        return Capabilities(
            self.label, abilities, "a scale row has no network", "a scale row is drawn without requested classes"
        )

    def samples_key(self, plan: DataPlan, drawing: Drawing) -> str:
        """The row, the data, how many images and the seed."""
        return samples_key(scale=SCALE_VERSION, row=self.label, data=plan.fingerprint, n=drawing.n, seed=drawing.seed)

    def count(self, plan: DataPlan, drawing: Drawing) -> int | None:
        """Rows made from the test split have at most as many images as that."""
        if not SCALE_ROWS[self.label].of_test:
            return drawing.n
        return None if plan.sizes is None else min(drawing.n, plan.sizes[1])

    def draw(self, opened: Opened) -> Samples:
        """Images of the row."""
        drawing = opened.drawing
        return Samples(Images(SCALE_ROWS[self.label].samples(opened.dataset, drawing.n, drawing.seed)))

    def log_probs(self, opened: Opened, metric: Metric, pixels: Tensor) -> LogProbs:
        """In closed form, where the row has a likelihood."""
        log_prob = SCALE_ROWS[self.label].log_prob
        if log_prob is None:
            raise CellFailure(f"{self.label} has no likelihood")
        values = np.asarray(log_prob(opened.dataset, pixels, opened.drawing.seed))
        return LogProbs(SCALE_ROWS[self.label].kind, values)
