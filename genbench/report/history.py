"""A suite's values over git revisions: results of several runs in order of time, and the significant steps.

The steps are judged as `genbench diff` judges two results: a step is significant when the 95 % interval of the
difference to the run before does not contain 0. Runs whose protocols differ are not compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genbench.errors import GenbenchError
from genbench.files import real_path
from genbench.records import OK, Record, read_records
from genbench.report.aggregate import Entry, Row, boards
from genbench.report.difference import BETTER, CHANGES, MISSING, REFUSED, WORSE, entry_difference
from genbench.report.finding import value_text
from genbench.report.tables import name_of

WORDS = {BETTER: "better", WORSE: "worse", REFUSED: "another protocol", MISSING: "no value"}


@dataclass(frozen=True)
class Run:
    """One result. name: its revision, or its folder. when: the time of its last value."""

    name: str
    when: str
    rows: dict[tuple[str, str], Row]


@dataclass(frozen=True)
class Point:
    """A metric's value in one run, and the verdict on the step from the last run that has a value ("" for none)."""

    run: Run
    entry: Entry
    step: str


@dataclass(frozen=True)
class Series:
    """One metric of one model over the runs."""

    model: str
    dataset: str
    metric: str
    points: tuple[Point, ...]

    @property
    def steps(self) -> tuple[Point, ...]:
        """The points that differ from the run before."""
        return tuple(p for p in self.points if p.step in CHANGES)


def read_runs(directories: Sequence[Path]) -> list[Run]:
    """The results in order of time. Raises StoreError for a folder without records, GenbenchError for a single one."""
    if len(directories) < 2:
        raise GenbenchError("history needs the folders of at least two runs")
    runs = []
    for directory in directories:
        records = read_records(directory / "records.jsonl" if directory.is_dir() else directory)
        rows = {(row.model, row.dataset): row for board in boards(records) for row in board.models}
        runs.append(Run(_name(directory, records), max((r.time for r in records), default=""), rows))
    return sorted(runs, key=lambda run: run.when)


def _name(directory: Path, records: Sequence[Record]) -> str:
    """The folder, and the revision that most values are from, with * where files were changed."""
    own = real_path(directory).name if directory.is_dir() else real_path(directory).parent.name
    revisions = [f"{r.revision[:8]}{'*' if r.dirty else ''}" for r in records if r.revision and r.status == OK]
    return f"{own} {max(set(revisions), key=revisions.count)}" if revisions else own


def history(runs: Sequence[Run], metrics: Sequence[str] = ()) -> list[Series]:
    """A series for each model and metric with values in at least two runs; metrics: only these."""
    keys = dict.fromkeys(
        (model, dataset, metric) for run in runs for (model, dataset), row in run.rows.items() for metric in row.entries
    )
    found = [_series(runs, *key) for key in keys if not metrics or key[2] in metrics]
    return [series for series in found if len(series.points) > 1]


def _series(runs: Sequence[Run], model: str, dataset: str, metric: str) -> Series:
    points: list[Point] = []
    for run in runs:
        row = run.rows.get((model, dataset))
        entry = row.entries.get(metric) if row else None
        if row is None or entry is None or not entry.ok:
            continue
        step = entry_difference(row, metric, points[-1].entry, entry).verdict if points else ""
        points.append(Point(run, entry, step))
    return Series(model, dataset, metric, tuple(points))


def history_text(runs: Sequence[Run], found: Sequence[Series], everything: bool = False) -> str:
    """The runs, then each series with a step; everything: those without a step too."""
    shown = [s for s in found if everything or s.steps]
    lines = [
        f"{len(runs)} runs, {len(found)} values in at least two of them, {sum(bool(s.steps) for s in found)} changed"
    ]
    lines += [f"  {run.when[:19] or 'time unknown':19}  {run.name}" for run in runs]
    for series in shown:
        lines += ["", f"{series.model} on {series.dataset}: {name_of(series.metric)}"]
        for point in series.points:
            word = WORDS.get(point.step, "")
            lines.append(f"  {point.run.name[:36]:36}  {value_text(point.entry):24}  {word}".rstrip())
    return "\n".join(lines)
