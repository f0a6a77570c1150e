"""One cell of a suite: its metrics are measured, and each value is kept in the store and becomes a record."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from genbench.evaluate.cell_inputs import CellInputs
from genbench.evaluate.cell_sets import SetInputs
from genbench.evaluate.closest import keep_closest
from genbench.evaluate.measure import Measured, from_plain, measure_metric, to_plain
from genbench.files import UNREADABLE
from genbench.metrics.base import Metric
from genbench.metrics.readings import MEMORY
from genbench.plan.cells import Cell, MetricPlan
from genbench.progress import Progress, Report
from genbench.records import FAILED, NOT_APPLICABLE, OK, Record
from genbench.store import Kind, Store, default_root
from genbench.team import SOLO, Team
from genbench.text import without_folders, without_secrets


def evaluate(cell: Cell, alone: bool, store: Store, device: str, report: Report, team: Team = SOLO) -> list[Record]:
    """Records of the cell's metrics that do (alone) or do not time the machine; a failure is a record too.

    team: the processes that draw, extract features and compute likelihoods together.
    """
    return evaluate_views((cell,), alone, store, device, report, team)


def evaluate_views(
    cells: Sequence[Cell], alone: bool, store: Store, device: str, report: Report, team: Team = SOLO
) -> list[Record]:
    """As evaluate, of the cells of one row with each of several extractors; the images are read once for all."""
    views: list[SetInputs] = []
    inputs = [CellInputs(cell, store, device, report, team, views) for cell in cells]
    return [record for one in inputs for record in _records(one, alone)]


def _records(inputs: CellInputs, alone: bool) -> list[Record]:
    cell = inputs.cell
    planned = [(plan, plan.metric) for plan in cell.metrics]
    chosen = [(plan, metric) for plan, metric in planned if metric.reads.alone == alone]
    records = [_record(inputs, plan, metric) for plan, metric in chosen]
    if any(r.status == OK and metric.reads is MEMORY for r, (_, metric) in zip(records, chosen, strict=True)):
        keep_closest(cell, inputs.store, inputs, lambda: inputs.dataset.train.pixels)
    return records


class _NotKept(Exception):  # noqa: N818 - passes through the store what the next run must measure again
    def __init__(self, measured: Measured) -> None:
        self.measured = measured


def _record(inputs: CellInputs, planned: MetricPlan, metric: Metric) -> Record:
    cell = inputs.cell
    record = stored_record(cell, planned, inputs.store)
    if record is not None:
        return record
    inputs.report(Progress(f"measure {metric.name}", 0, 0))

    def make(_: Path) -> dict[str, Any]:
        measured = measure_metric(metric, inputs, cell.facts_for(planned), inputs.device)
        if measured.status == FAILED or (measured.value is not None and measured.value.busy):
            raise _NotKept(measured)
        value = {"measured": to_plain(measured), "provenance": vars(cell.provenance), "code": cell.source.code}
        return value | ({"machine": cell.facts.machine} if metric.reads.alone else {})

    try:
        return inputs.store.kept_content(
            Kind.VALUES, planned.key, make, lambda _: _kept_record(cell, planned, inputs.store)
        )
    except _NotKept as found:
        return _base(cell, planned, **found.measured.fields())


def stored_record(cell: Cell, planned: MetricPlan, store: Store) -> Record | None:
    """The record of a metric that does not apply or whose value the store holds; None when it must be measured."""
    if planned.reason:
        return _base(cell, planned, status=NOT_APPLICABLE, reason=planned.reason)
    with suppress(*UNREADABLE):
        return _kept_record(cell, planned, store) if store.intact(Kind.VALUES, planned.key) else None
    return None


def _kept_record(cell: Cell, planned: MetricPlan, store: Store) -> Record:
    """The record of a stored value, which is in the meta data; KeyError where an earlier version has stored it."""
    value = store.meta(Kind.VALUES, planned.key)
    origin = {**value["provenance"], "code": value["code"]}
    return _base(cell, planned, **{**origin, **from_plain(value["measured"]).fields()})


def failed_record(cell: Cell, planned: MetricPlan, reason: str) -> Record:
    """The record of a metric that could not be measured."""
    return _base(cell, planned, status=FAILED, reason=reason)


def _base(cell: Cell, planned: MetricPlan, status: str = OK, **more: Any) -> Record:
    metric, suite, source = planned.metric, cell.suite, cell.source
    origin = {**vars(cell.provenance), "code": source.code}
    roots = (cell.data.folder, default_root(), Path("~").expanduser())
    public = lambda text: without_secrets(without_folders(text, *roots), os.environ)  # noqa: E731
    more |= {"reason": public(more.get("reason", "")), "warnings": tuple(map(public, more.get("warnings", ())))}
    return Record(
        suite.name, suite.version, cell.id, cell.label, cell.data.name, cell.seed, planned.name, metric.version,
        status=status, unit=metric.unit, better=metric.better, role=source.role, family=source.family,
        given=source.given, key=planned.key, **{**origin, **more},
    )  # fmt: skip
