"""Scale rows as sources: real, blurred and repeated images, noise, one Gaussian (genbench.sources.scale)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from genbench import data
from genbench.data.prompts import Prompts
from genbench.errors import CellFailure
from genbench.keys import samples_key
from genbench.metrics.base import Metric
from genbench.metrics.facts import Capabilities, Images
from genbench.records import DENSITY, MASS
from genbench.sources.base import DataPlan, Drawing, LogProbs, Opened, Samples, Source
from genbench.sources.scale import SCALE_ROWS, SCALE_VERSION, held_out_numbers

HELD_OUT, WITHOUT_TEXTS = "held-out real", "a scale row is drawn without texts"
OTHER_TEXTS = "held-out images have the captions of the data, not the suite's prompts"


def scale_row(label: str, plan: DataPlan, prompts: Prompts | None) -> ScaleRow:
    """The scale row of a label; held-out images have their captions where no other texts are asked for."""
    if label != HELD_OUT or not data.has_captions(plan.entry, plan.folder):
        return ScaleRow(label)
    return ScaleRow(label, OTHER_TEXTS if prompts else "")


@dataclass(frozen=True)
class ScaleRow(Source):
    """A row that shows the range of every metric; it is not ranked.

    no_texts: why its images have no captions; "" for held-out images with those of the data.
    """

    label: str
    no_texts: str = WITHOUT_TEXTS
    family = ""
    ranked = False

    @property
    def capabilities(self) -> Capabilities:
        """A likelihood where the row has one; no network, no classes."""
        ability = {MASS: "ExactLikelihood", DENSITY: "DequantisedDensity"}.get(SCALE_ROWS[self.label].kind)
        abilities = (ability,) if ability else ()
        return Capabilities(
            self.label, abilities, "a scale row has no network", "a scale row is drawn without requested classes",
            self.no_texts,
        )  # fmt: skip

    def samples_key(self, plan: DataPlan, drawing: Drawing) -> str:
        """The row, the data, how many images and the seed."""
        texts = {} if self.no_texts else {"prompts": "captions of the data"}
        return samples_key(
            scale=SCALE_VERSION, row=self.label, data=plan.fingerprint, n=drawing.n, seed=drawing.seed, **texts
        )

    def count(self, plan: DataPlan, drawing: Drawing) -> int | None:
        """Rows made from the test split have at most as many images as that."""
        if not SCALE_ROWS[self.label].of_test:
            return drawing.n
        return None if plan.sizes is None else min(drawing.n, plan.sizes[1])

    def draw(self, opened: Opened) -> Samples:
        """Images of the row."""
        drawing, dataset = opened.drawing, opened.dataset
        pixels, texts = SCALE_ROWS[self.label].samples(dataset, drawing.n, drawing.seed), None
        if not self.no_texts:
            captions = dataset.texts(dataset.test)
            assert captions is not None
            texts = tuple(captions[i] for i in held_out_numbers(dataset, drawing.n, drawing.seed).tolist())
        return Samples(Images(pixels, None, texts))

    def log_probs(self, opened: Opened, metric: Metric, pixels: Tensor) -> LogProbs:
        """In closed form, where the row has a likelihood."""
        log_prob = SCALE_ROWS[self.label].log_prob
        if log_prob is None:
            raise CellFailure(f"{self.label} has no likelihood")
        values = np.asarray(log_prob(opened.dataset, pixels, opened.drawing.seed))
        return LogProbs(SCALE_ROWS[self.label].kind, values)
