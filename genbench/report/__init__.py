"""Renders a result from its records: tables, figures and one offline page. Imports no torch and takes seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genbench.errors import GenbenchError, StoreError
from genbench.records import Record

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["leaderboard", "outdated", "render"]

REPORT_FILES = (
    "leaderboard.csv", "leaderboard.parquet", "leaderboard.md", "leaderboard.tex", "scores.csv", "scores.parquet",
    "leaderboard.html",
)  # fmt: skip


def leaderboard(records: Iterable[Record]) -> pd.DataFrame:
    """A row per model and dataset; columns as in leaderboard.csv."""
    from genbench.report.aggregate import leaderboard as frame

    return frame(records)


def inputs_hash(directory: Path) -> str:
    """SHA-256 (hex) of the inputs of a page: records, suite and sample grids."""
    from genbench.report.combined import results_in

    state = hashlib.sha256()
    for path in (
        path
        for part in results_in(directory)
        for path in (
            part / "records.jsonl",
            part / "suite.yaml",
            *sorted(part.glob("figures/samples-*.png")),
            *sorted(part.glob("figures/neighbours-*.png")),
            *sorted(part.glob("curves/*.csv")),
        )
    ):
        state.update(path.name.encode() + (path.read_bytes() if path.is_file() else b""))
    return state.hexdigest()


def outdated(directory: Path) -> bool:
    """Whether a file of the report is missing or cut short, or the page has other inputs."""
    if not all((directory / name).is_file() for name in REPORT_FILES):
        return True
    page = (directory / "leaderboard.html").read_text(encoding="utf-8", errors="replace")
    return inputs_hash(directory) not in page or not page.rstrip().endswith("</html>")


def render(
    directories: Path | Sequence[Path], out: Path | None = None, columns: Sequence[str] = (), figures: str = "",
    url: str = "",
) -> tuple[list[Path], list[str]]:  # fmt: skip
    """Writes leaderboard.html, .csv, .parquet, .md, .tex, scores.csv, .parquet and figures/ into DIR.

    directories: one result, or several, which become one result in `out` (genbench.report.combined). out: where to, by
    default the one result's own folder. columns: the metrics of the Markdown and LaTeX tables. figures: "pdf", "png" or
    "eps" for figures that matplotlib draws for papers. url: where the folder will be on the web, for sites that show a
    picture of a page that they link to. Returns the files written, the page first, and the finding of
    each dataset. Reads DIR/records.jsonl and, where they exist, environment.json, suite.yaml, curves/*.csv and
    figures/*.png. Raises StoreError when there are no records, when two runs of one cell are mixed, or when a file
    cannot be written, and GenbenchError for several results without `out` and for an unknown column.
    """
    from genbench.report.aggregate import boards
    from genbench.report.combined import results_in, write_combined
    from genbench.report.finding import finding
    from genbench.report.folders import read_folders
    from genbench.report.paper import paper_figures
    from genbench.report.sharing import check_url
    from genbench.report.writing import write_report

    results = [directories] if isinstance(directories, Path) else list(directories)
    if len(results) > 1 and out is None:
        raise GenbenchError("several results need --out FOLDER, the folder of the combined report")
    target = out or results[0]
    if url:
        check_url(url)
    folders = read_folders([part for result in results for part in results_in(result)])
    datasets = boards(record for folder in folders for record in folder.measured)
    try:
        target.mkdir(parents=True, exist_ok=True)
        combined = write_combined(target, folders) if len(folders) > 1 and results != [target] else []
        written = write_report(target, folders, datasets, inputs_hash(target), columns, url) + combined
        written += paper_figures(target, datasets, figures) if figures else []
    except OSError as error:
        raise StoreError(f"{error.filename or target}: cannot be written: {error.strerror or error}") from error
    return written, [finding(board) for board in datasets]
