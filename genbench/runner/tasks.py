"""The tasks of worker processes: one training, or the metrics of one cell."""

from __future__ import annotations

from pathlib import Path

from genbench.evaluate.cell import evaluate
from genbench.plan.cells import Cell
from genbench.progress import Report
from genbench.records import Record
from genbench.sources.base import DataPlan
from genbench.sources.trained import Fit
from genbench.store import Store
from genbench.text import duration


def train_task(fit: Fit, plan: DataPlan, root: Path, device: str, report: Report) -> str:
    """Trains; returns a line for the screen. root: the store's folder."""
    meta = fit.run(plan, Store(root), device, report)
    time = f"{meta['images']:,} images in {duration(meta['seconds'])}"
    busy = f"busy: {meta['busy']}" if meta.get("busy") else ""
    return "; ".join(filter(None, (time, meta.get("note", ""), busy)))


def evaluate_task(cell: Cell, alone: bool, root: Path, device: str, report: Report) -> list[Record]:
    """Measures the cell's metrics that do (alone) or do not time the machine."""
    return evaluate(cell, alone, Store(root), device, report)
