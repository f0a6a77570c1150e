"""The tasks of workers: one training, or the metrics of one row with one seed.

A worker may be on another machine than the command: it finds its own device where the command names none, and its own
machine is in the keys of timings.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from genbench.errors import ProcessDied
from genbench.evaluate.cell import evaluate_views
from genbench.machine import choose_device, timing_machine
from genbench.plan.cells import Cell
from genbench.progress import Report
from genbench.records import FAILED, Record
from genbench.sources.base import DataPlan
from genbench.sources.trained import Fit
from genbench.store import Store
from genbench.team import Team
from genbench.text import duration


def train_task(fit: Fit, plan: DataPlan, location: str, device: str, processes: int, report: Report) -> str:
    """Trains; returns a line for the screen. location: of the store. processes: that train together."""
    device = _own(device)
    with _team(processes, device) as team:
        meta = fit.run(plan, Store(location), device, report, team)
    time = f"{meta['images']:,} images in {duration(meta['seconds'])}"
    busy = f"busy: {meta['busy']}" if meta.get("busy") else ""
    warnings = (f"warning: {text}" for text in meta.get("warnings", ()))
    return "; ".join(filter(None, (time, meta.get("note", ""), busy, *warnings)))


def evaluate_task(
    cells: tuple[Cell, ...], alone: bool, location: str, device: str, processes: int, report: Report
) -> list[Record]:
    """Measures those metrics of a row's cells, one for each extractor, that do (alone) or do not time the machine.

    processes: that draw and extract together; timings are of one.
    """
    device = _own(device)
    timed = tuple(cell.on_machine(timing_machine(device)) for cell in cells) if alone else cells
    with _team(1 if alone else processes, device) as team:
        return evaluate_views(timed, alone, Store(location), device, report, team)


def sound(records: list[Record]) -> bool:
    """Whether no metric of an evaluation failed."""
    return all(record.status != FAILED for record in records)


@contextmanager
def _team(processes: int, device: str) -> Iterator[Team]:
    """A team; ProcessDied at the end where a member died, although what failed for this reason may be in records."""
    with Team(processes, device) as team:
        yield team
        if team.died:
            raise ProcessDied(team.died)


def _own(device: str) -> str:
    return choose_device(device) if device == "auto" else device
