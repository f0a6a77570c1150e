"""Renders a result from its records: tables, figures and one offline page. Imports no torch and takes seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genbench.errors import StoreError
from genbench.records import Record

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["leaderboard", "outdated", "render"]

REPORT_FILES = ("leaderboard.csv", "leaderboard.parquet", "leaderboard.md", "leaderboard.tex", "leaderboard.html")


def leaderboard(records: Iterable[Record]) -> pd.DataFrame:
    """A row per model and dataset; columns as in leaderboard.csv."""
    from genbench.report.aggregate import leaderboard as frame

    return frame(records)


def inputs_hash(directory: Path) -> str:
    """SHA-256 (hex) of the inputs of a page: records, suite and sample grids."""
    state = hashlib.sha256()
    for path in (
        directory / "records.jsonl",
        directory / "suite.yaml",
        *sorted(directory.glob("figures/samples-*.png")),
        *sorted(directory.glob("figures/neighbours-*.png")),
        *sorted(directory.glob("curves/*.csv")),
    ):
        state.update(path.name.encode() + (path.read_bytes() if path.is_file() else b""))
    return state.hexdigest()


def outdated(directory: Path) -> bool:
    """Whether a file of the report is missing or cut short, or the page has other inputs."""
    if not all((directory / name).is_file() for name in REPORT_FILES):
        return True
    page = (directory / "leaderboard.html").read_text(encoding="utf-8", errors="replace")
    return inputs_hash(directory) not in page or not page.rstrip().endswith("</html>")


def render(directories: Path | Sequence[Path], out: Path | None = None) -> list[Path]:
    """Writes leaderboard.csv, .parquet, .md, .tex, .html and figures/ into DIR; returns the files written.

    directories: one result, or several that are shown together; out: where to, by default the one result's own folder.
    Reads DIR/records.jsonl and, where they exist, environment.json, suite.yaml, curves/*.csv and figures/*.png. Raises
    StoreError when there are no records, when two runs of one cell are mixed, or when a file cannot be written.
    """
    from genbench.report.aggregate import boards
    from genbench.report.folders import read_folders
    from genbench.report.writing import write_report

    results = [directories] if isinstance(directories, Path) else list(directories)
    target = out or results[0]
    folders = read_folders(results)
    datasets = boards(record for folder in folders for record in folder.measured)
    try:
        return write_report(target, folders, datasets, inputs_hash(target))
    except OSError as error:
        raise StoreError(f"{error.filename or target}: cannot be written: {error.strerror or error}") from error
