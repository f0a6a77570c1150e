"""Renders a result from its records: tables, figures and one offline page. Imports no torch and takes seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from genbench.errors import StoreError
from genbench.files import refuse_links, write_text
from genbench.records import Record, read_records

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
    ):
        state.update(path.name.encode() + (path.read_bytes() if path.is_file() else b""))
    return state.hexdigest()


def outdated(directory: Path) -> bool:
    """Whether a file of the report is missing or cut short, or the page has other inputs."""
    if not all((directory / name).is_file() for name in REPORT_FILES):
        return True
    page = (directory / "leaderboard.html").read_text(encoding="utf-8", errors="replace")
    return inputs_hash(directory) not in page or not page.rstrip().endswith("</html>")


def render(directory: Path) -> list[Path]:
    """Writes leaderboard.csv, .parquet, .md, .tex, .html and figures/ into DIR; returns the files written.

    Reads DIR/records.jsonl and, where they exist, environment.json, suite.yaml, curves/*.csv and
    figures/samples-*.png. Raises StoreError when there are no records, when two runs of one cell are mixed, or when a
    file cannot be written.
    """
    from genbench.report.aggregate import boards
    from genbench.report.cards import sample_grids
    from genbench.report.claims import read_claims
    from genbench.report.figures import loss_curves, quality_speed, read_curves
    from genbench.report.html import PageImages, page
    from genbench.report.tables import latex, markdown, write_frame

    refuse_links(directory, "figures", "curves")
    records = read_records(directory / "records.jsonl")
    if not records:
        raise StoreError(f"{directory / 'records.jsonl'}: found no records; `genbench run SUITE` writes them")
    datasets, claims = boards(records), read_claims(directory / "suite.yaml")
    try:
        names = {b.dataset: "quality-speed" if len(datasets) == 1 else f"quality-speed-{b.dataset}" for b in datasets}
        speed = {b.dataset: quality_speed(directory, names[b.dataset], b) for b in datasets}
        pictures = PageImages(sample_grids(directory), loss_curves(directory, read_curves(directory)), speed)
        written = write_frame(directory, leaderboard(records))
        for name, text in (
            ("leaderboard.md", markdown(datasets, claims)),
            ("leaderboard.tex", latex(datasets)),
            ("leaderboard.html", page(directory, records, datasets, pictures, claims, inputs_hash(directory))),
        ):
            write_text(directory / name, text)
            written.append(directory / name)
    except OSError as error:
        raise StoreError(f"{error.filename or directory}: cannot be written: {error.strerror or error}") from error
    return written + pictures.drawn()
