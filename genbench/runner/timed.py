"""Timings of machines that are not known before they run: a result's earlier timings name theirs."""

from __future__ import annotations

from collections.abc import Mapping

from genbench.plan.cells import Cell
from genbench.records import Record
from genbench.store import Kind, Store


def on_timed_machine(cell: Cell, earlier: Mapping[tuple[str, str], Record], store: Store) -> Cell:
    """The cell on the machine of its earlier timing, so that this timing is not repeated; else as it is.

    earlier: records by cell and metric.
    """
    records = [earlier.get((cell.id, planned.name)) for planned in cell.metrics if planned.metric.reads.alone]
    for record in records:
        if record is not None and store.has(Kind.VALUES, record.key):
            machine = store.meta(Kind.VALUES, record.key).get("machine", "")
            return cell.on_machine(machine) if machine else cell
    return cell
