"""The estimated cost of a suite: of each row, and of all of them in workers side by side."""

from __future__ import annotations

from dataclasses import dataclass, field

from genbench.estimate.span import ZERO, TimeRange


@dataclass(frozen=True)
class RowCost:
    """Of all seeds of a row on a dataset; what the store holds costs nothing.

    ranked: whether it is a model. measure: with features and likelihoods. peak: MiB of the largest of its processes.
    disk: bytes in the store. failure: why it would fail, then nothing is known.
    """

    label: str
    dataset: str
    ranked: bool = True
    cells: int = 0
    train: TimeRange = ZERO
    draw: TimeRange = ZERO
    measure: TimeRange = ZERO
    timings: TimeRange = ZERO
    peak: float = 0.0
    disk: int = 0
    failure: str = ""

    @property
    def seconds(self) -> TimeRange:
        """Of one worker."""
        return self.train + self.draw + self.measure + self.timings


@dataclass(frozen=True)
class SuiteCost:
    """rows: models, then scale rows. together: until all but timings has ended in `workers` workers; alone: of timings.

    memory: MiB of the largest processes together. disk: bytes in the store. untried: metrics and why they are not
    included. tried: seconds that the estimate took. busy: what other processes took meanwhile, "" for nothing.
    """

    suite: str
    device: str
    workers: int
    rows: tuple[RowCost, ...]
    together: TimeRange
    alone: TimeRange
    memory: float
    disk: int
    untried: dict[str, str] = field(default_factory=dict)
    tried: float = 0.0
    busy: str = ""

    @property
    def dominant(self) -> RowCost | None:
        """The row that takes longest; None where nothing is missing."""
        return max(self.rows, key=lambda row: row.seconds.likely, default=None)
