"""Models that are no better than a scale row that any model should beat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product

from genbench.records import OK, Record, metric_name
from genbench.report.guard import comparable

NOISE, BLUR = "uniform noise", "blurred real"
# By metric, the rows that a model should beat. Blurred images may be within the real ones, and noise is diverse.
ROWS = {
    **dict.fromkeys(
        ("fid", "fd_infinity", "sfid", "kid", "kid_subsets", "cmmd", "mind", "bits_per_dim", "fld"), (NOISE, BLUR)
    ),
    **dict.fromkeys(("is", "precision", "density", "coverage", "clipped_density", "clipped_coverage"), (NOISE,)),
}  # fmt: skip


Measured = tuple[Record, float]


def no_better_than_noise(values: Sequence[Measured]) -> list[str]:
    """A note for each model and scale row of ROWS that it does not beat, of one metric under the same protocol.

    values: of one metric, a record of each row and the row's value.
    """
    return [
        f"{record.model}: {value:.4g}, no better than the scale row {other.model} with {its:.4g}: its training may not "
        "have worked."
        for (record, value), (other, its) in _not_beaten(values)
    ]


def poor_rows(records: Iterable[Record]) -> list[str]:
    """A sentence for each model of a result and each scale row of ROWS that it does not beat, with the metrics."""
    columns: dict[tuple[str, str], list[Measured]] = {}
    for record in records:
        if record.status == OK and record.value is not None:
            columns.setdefault((record.dataset, record.metric), []).append((record, record.value))
    metrics: dict[tuple[str, str], dict[str, None]] = {}
    for values in columns.values():
        for (record, _), (other, _) in _not_beaten(values):
            metrics.setdefault((record.model, other.model), {})[record.metric] = None
    return [
        f"{model} is no better than the scale row {row} in {', '.join(names)}: its training may not have worked"
        for (model, row), names in metrics.items()
    ]


def _not_beaten(values: Sequence[Measured]) -> Iterator[tuple[Measured, Measured]]:
    rows = [(r, its) for r, its in values if r.role == "scale" and r.model in ROWS.get(metric_name(r.metric), ())]
    models = [(record, value) for record, value in values if record.role == "model"]
    for (record, value), (other, its) in product(models, rows):
        poor = value >= its if record.better == "lower" else value <= its
        if poor and comparable(record) == comparable(other):
            yield (record, value), (other, its)
