"""The folder of a result: which records it keeps, and how its files are written, each whole or not at all.

A run adds or replaces the rows that it ran. Rows of the suite that it did not run (`--models`, `--seeds`) stay; rows
that are no longer in the suite move to removed.jsonl. A folder of another suite, or of a run with another
--limit-images, is refused.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from genbench import report
from genbench.errors import GenbenchError, StoreError
from genbench.evaluate.cell_sets import TEXTS_FILE
from genbench.evaluate.closest import FILE as CLOSEST_FILE
from genbench.evaluate.closest import closest_key
from genbench.files import read_json_object, refuse_unsafe, remove_partials, whole, write_text
from genbench.plan.cells import Cell
from genbench.plan.planner import Plan
from genbench.records import FAILED, OK, Record, read_records, record_line, row_slug, write_records
from genbench.report.combined import is_combined
from genbench.report.grids import rows_by_class, rows_by_text, save_grid
from genbench.report.poor import with_doubts
from genbench.runner.early import RECORDS
from genbench.sources.trained import CURVES_FILE, Trained
from genbench.store import Kind, Store, make_folder

REMOVED = "removed.jsonl"
SUITE, ENVIRONMENT, PAGE = "suite.yaml", "environment.json", "leaderboard.html"
Key = tuple[str, str]


class ResultFolder:
    """The folder of one run; earlier: the records that it held before, by cell and metric."""

    def __init__(self, directory: Path, plan: Plan, store: Store) -> None:
        """Raises GenbenchError for the folder of another suite or limit, StoreError for records that are damaged."""
        self.directory, self.plan, self.store = make_folder(directory), plan, store
        refuse_unsafe(self.directory, "figures", "curves")
        if is_combined(self.directory):
            raise GenbenchError(f"{self.directory}: holds several results combined; choose another --out")
        remove_partials(self.directory, "figures", "curves")
        self.earlier = self._read()
        self._lines: dict[Key, str] = {}
        self._refuse_another_result()

    @property
    def records_path(self) -> Path:
        """The path of the records."""
        return self.directory / RECORDS

    @property
    def page(self) -> Path:
        """The path of the page."""
        return self.directory / PAGE

    def _read(self) -> dict[Key, Record]:
        path = self.records_path
        return {(r.cell, r.metric): r for r in read_records(path)} if path.exists() else {}

    def _refuse_another_result(self) -> None:
        if not self.earlier:
            return
        self._refuse_another_suite()
        limit, now = self._environment().get("limit_images"), self.plan.limit_images
        if limit != now:
            held, wanted = (f"--limit-images {n}" if n else "no --limit-images" for n in (limit, now))
            raise GenbenchError(f"{self.directory}: holds results with {held}, found {wanted}; choose another --out")

    def _refuse_another_suite(self) -> None:
        names = {(r.suite, r.dataset) for r in self.earlier.values()}
        labels = {r.model for r in self.earlier.values() if r.role == "model"}
        own = {(self.plan.suite.suite, plan.name) for plan in self.plan.datasets}
        rows = {entry.label for entry in self.plan.suite.models}
        if own & names and (not labels or labels & rows):
            return
        suite, dataset = sorted(names)[0]
        raise GenbenchError(
            f"{self.directory}: holds results of another suite: '{suite}' on {dataset} with "
            f"{', '.join(sorted(labels)) or 'no models'}; choose another --out"
        )

    def known(self, cell: Cell, stored: Record | None, metric: str) -> Record | None:
        """The record of a metric that need not be measured; one that agrees with the folder's keeps its provenance."""
        before = self.earlier.get((cell.id, metric))
        if stored is None or before is None:
            return stored
        return before if replace(before, **vars(cell.provenance)) == stored else stored

    def start(self, known: Iterable[Record]) -> None:
        """Before anything runs: what is known, and earlier values until their replacements exist."""
        records = {(r.cell, r.metric): r for r in known}
        if not (self.directory / ENVIRONMENT).is_file():
            self._write_environment({})
        waiting = [r for key, r in self.earlier.items() if key not in records and r.status != FAILED]
        write_records(self.records_path, [*records.values(), *waiting])
        self._lines = {(r.cell, r.metric): record_line(r) for r in (*records.values(), *waiting)}

    def add(self, fresh: list[Record]) -> None:
        """Adds records that were just measured, in place of earlier ones of the same cells and metrics."""
        for record in fresh:
            self._lines.pop((record.cell, record.metric), None)
            self._lines[record.cell, record.metric] = record_line(record)
        write_text(self.records_path, "".join(self._lines.values()))

    def finish(self, new: dict[Key, Record]) -> tuple[Record, ...]:
        """The final records in the suite's order; rows that are no longer in the suite are written to removed.jsonl."""
        rows = {*self.plan.rows}
        kept = [r for key, r in self.earlier.items() if key not in new and r.cell in rows and r.metric in self._metrics]
        removed = [r for r in self.earlier.values() if r.cell not in rows]
        order = {cell: position for position, cell in enumerate(self.plan.rows)}
        metric_order = {name: position for position, name in enumerate(self._metrics)}
        records = with_doubts(sorted([*new.values(), *kept], key=lambda r: (order[r.cell], metric_order[r.metric])))
        write_records(self.records_path, records)
        if removed:
            path = self.directory / REMOVED
            before = {(r.cell, r.metric): r for r in read_records(path)} if path.exists() else {}
            write_records(path, (before | {(r.cell, r.metric): r for r in removed}).values())
        self.removed = sorted({r.model for r in removed})
        pairs = [(self.earlier[key], r) for key, r in new.items() if key in self.earlier]
        self.replaced = sorted({r.model for old, r in pairs if old.status == OK and old.key != r.key})
        return tuple(records)

    @property
    def _metrics(self) -> list[str]:
        return list(self.plan.columns)

    def write(self, facts: dict[str, Any] | None) -> None:
        """Pictures, suite.yaml, environment.json (facts None: as it is) and, where it is older than these, the page."""
        self._write_pictures()
        if facts is not None or not (self.directory / ENVIRONMENT).is_file():
            self._write_environment(facts or {})
        as_run = self.directory / SUITE
        text = yaml.safe_dump(self.plan.suite.model_dump(mode="json", exclude_unset=True), sort_keys=False)
        if not as_run.is_file() or as_run.read_bytes() != text.encode():
            write_text(as_run, text)
        if report.outdated(self.directory):
            report.render(self.directory)

    def _write_environment(self, facts: dict[str, Any]) -> None:
        text = json.dumps(facts | {"limit_images": self.plan.limit_images}, indent=1)
        write_text(self.directory / ENVIRONMENT, text)

    def _environment(self) -> dict[str, Any]:
        path = self.directory / ENVIRONMENT
        return read_json_object(path, StoreError) if path.is_file() else {}

    def _write_pictures(self) -> None:
        several, with_near = len(self.plan.datasets) > 1, set[str]()
        for cell in self.plan.cells:
            name = f"{row_slug(cell.label, cell.data.name, several)}-s{cell.seed}"
            grid = make_folder(self.directory / "figures") / f"samples-{name}.png"
            if self._newer(Kind.SAMPLES, cell.samples_key, grid):
                shown, prompts = images_to_show(self.store.path(Kind.SAMPLES, cell.samples_key))
                columns = len(shown) // len(prompts) if prompts else 10
                save_grid(shown, cell.data.spec.levels, grid, columns, prompts=prompts)
            if name not in with_near and self._write_nearest(cell, grid.with_name(f"neighbours-{name}.png")):
                with_near.add(name)  # by the first extractor that the row has
            curve = make_folder(self.directory / "curves") / f"{name}.csv"
            fit = cell.source.fit if isinstance(cell.source, Trained) else None
            if fit is not None and fit.label == cell.label and self._newer(Kind.WEIGHTS, fit.key, curve):
                with whole(curve) as partial:
                    shutil.copyfile(self.store.path(Kind.WEIGHTS, fit.key) / CURVES_FILE, partial)

    def _write_nearest(self, cell: Cell, path: Path) -> bool:
        """Samples and the train images nearest to them; False where these are not known by the cell's extractor."""
        key = closest_key(cell)
        if not key or not self.store.intact(Kind.NEIGHBOURS, key):
            return False
        if self._stale(Kind.NEIGHBOURS, key, path):
            images = np.load(self.store.path(Kind.NEIGHBOURS, key) / CLOSEST_FILE)
            save_grid(images, cell.data.spec.levels, path, columns=len(images) // 2)
        return True

    def _newer(self, kind: str, key: str, path: Path) -> bool:
        return self.store.intact(kind, key) and self._stale(kind, key, path)

    def _stale(self, kind: str, key: str, path: Path) -> bool:
        made = (self.store.path(kind, key) / "meta.json").stat().st_mtime
        return not path.is_file() or path.stat().st_mtime < made


def images_to_show(folder: Path) -> tuple[np.ndarray, list[str]]:
    """The images of a grid (n, C, H, W), and the text of each of its rows, [] for none.

    Those arranged for it, else a row for each text or for each class, else the first 100.
    """
    if (folder / "shown.npy").is_file():
        laid_out: np.ndarray = np.load(folder / "shown.npy")
        return laid_out, []
    pixels = np.load(folder / "pixels.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy") if (folder / "labels.npy").is_file() else None
    if (folder / TEXTS_FILE).is_file():
        numbers, prompts = rows_by_text(json.loads((folder / TEXTS_FILE).read_text(encoding="utf-8")), labels)
        return np.asarray(pixels[numbers]), prompts
    return np.asarray(pixels[:100] if labels is None else pixels[rows_by_class(labels)]), []
