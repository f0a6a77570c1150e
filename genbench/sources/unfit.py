"""A row whose model cannot be used on a dataset of the suite: nothing is drawn, and every metric is n/a."""

from __future__ import annotations

from dataclasses import dataclass

from genbench.errors import CellFailure
from genbench.keys import samples_key
from genbench.metrics.facts import Capabilities
from genbench.sources.base import DataPlan, Drawing, Opened, Samples, Source


@dataclass(frozen=True)
class Unfit(Source):
    """reason: why it does not fit the dataset."""

    label: str
    family: str
    reason: str

    @property
    def capabilities(self) -> Capabilities:
        """None."""
        return Capabilities(self.label, (), self.reason, self.reason, self.reason)

    def samples_key(self, plan: DataPlan, drawing: Drawing) -> str:
        """A key under which nothing is kept."""
        return samples_key(unfit=self.label, data=plan.fingerprint)

    def draw(self, opened: Opened) -> Samples:
        """Raises CellFailure."""
        raise CellFailure(self.reason)
