"""Models that are no better than a scale row that any model should beat."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product

from genbench.records import OK, Record, metric_name
from genbench.report.guard import comparable, listed

NOISE, BLUR = "uniform noise", "blurred real"
# By metric, the rows that a model should beat. Blurred images may be within the real ones, and noise is diverse.
ROWS = {
    **dict.fromkeys(
        ("fid", "fd_infinity", "sfid", "kid", "kid_subsets", "cmmd", "mind", "bits_per_dim", "fld"), (NOISE, BLUR)
    ),
    **dict.fromkeys(("is", "precision", "density", "coverage", "clipped_density", "clipped_coverage"), (NOISE,)),
}  # fmt: skip


NO_BETTER = "no better than the scale row "
TRAINED, LOADED = "its training may not have worked", "its weights or its way of drawing may be wrong"
Measured = tuple[Record, float]


def no_better_than_noise(values: Sequence[Measured]) -> list[str]:
    """A note for each model and scale row of ROWS that it does not beat, of one metric under the same protocol.

    values: of one metric, a record of each row and the row's value.
    """
    return [
        f"{record.model}: {value:.4g}, {NO_BETTER}{other.model} with {its:.4g}: {_doubt(record)}."
        for (record, value), (other, its) in _not_beaten(values)
    ]


def with_doubts(records: Sequence[Record]) -> list[Record]:
    """The records of a result, each with a warning for every scale row that it does not beat and no other such one."""
    doubts: dict[tuple[str, str], list[str]] = {}
    for values in _columns(records):
        for (record, value), (other, its) in _not_beaten(values):
            text = f"{record.metric} {value:.4g}: {NO_BETTER}{other.model} with {its:.4g}: {_doubt(record)}"
            doubts.setdefault((record.cell, record.metric), []).append(text)
    return [
        replace(r, warnings=(*(w for w in r.warnings if NO_BETTER not in w), *doubts.get((r.cell, r.metric), ())))
        for r in records
    ]


def _columns(records: Iterable[Record]) -> list[list[Measured]]:
    """The records with a value, by dataset and metric."""
    columns: dict[tuple[str, str], list[Measured]] = {}
    for record in records:
        if record.status == OK and record.value is not None:
            columns.setdefault((record.dataset, record.metric), []).append((record, record.value))
    return list(columns.values())


def poor_rows(records: Iterable[Record]) -> list[str]:
    """A sentence for each scale row of ROWS that models of a result do not beat, with the models and the metrics."""
    metrics: dict[tuple[str, str, str], dict[str, None]] = {}
    for values in _columns(records):
        for (record, _), (other, _) in _not_beaten(values):
            metrics.setdefault((record.model, other.model, _doubt(record)), {})[record.metric] = None
    models: dict[tuple[str, tuple[str, ...], str], list[str]] = {}
    for (model, row, doubt), names in metrics.items():
        models.setdefault((row, tuple(names), doubt), []).append(model)
    return [
        f"{listed(poor)} {'is' if len(poor) == 1 else 'are'} {NO_BETTER}{row} in {', '.join(names)}: "
        + (doubt if len(poor) == 1 else doubt.replace("its", "their"))
        for (row, names, doubt), poor in models.items()
    ]


def _doubt(record: Record) -> str:
    """What may be the reason: for a row that genbench did not train, not its training."""
    return TRAINED if "images_seen" in record.protocol.get("model", {}) else LOADED


def _not_beaten(values: Sequence[Measured]) -> Iterator[tuple[Measured, Measured]]:
    rows = [(r, its) for r, its in values if r.role == "scale" and r.model in ROWS.get(metric_name(r.metric), ())]
    models = [(record, value) for record, value in values if record.role == "model"]
    for (record, value), (other, its) in product(models, rows):
        poor = value >= its if record.better == "lower" else value <= its
        if poor and comparable(record) == comparable(other):
            yield (record, value), (other, its)
