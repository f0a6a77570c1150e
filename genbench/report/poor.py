"""Models that are no better than a scale row that any model should beat."""

from __future__ import annotations

from collections.abc import Sequence

from genbench.records import Record, metric_name
from genbench.report.guard import comparable

ROWS = ("uniform noise", "blurred real")
METRICS = ("fid", "fd_infinity", "sfid", "kid", "kid_subsets", "bits_per_dim")  # lower is better


def no_better_than_noise(values: Sequence[tuple[Record, float]]) -> list[str]:
    """A note for each model and scale row of ROWS that it does not beat, of one metric under the same protocol.

    values: of one metric, a record of each row and the row's value.
    """
    return [
        f"{record.model}: {value:.4g}, no better than the scale row {other.model} with {its:.4g}: its training may not "
        "have worked."
        for record, value in values
        for other, its in values
        if metric_name(record.metric) in METRICS and record.role == "model" and other.model in ROWS and value >= its
        if comparable(record) == comparable(other)
    ]
