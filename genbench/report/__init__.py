"""Renders a result from its records alone: tables, figures and one offline page. No torch, seconds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from genbench.errors import StoreError
from genbench.records import Record, read_records

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["leaderboard", "render"]


def leaderboard(records: Iterable[Record]) -> pd.DataFrame:
    """A row per model and dataset; columns as in leaderboard.csv."""
    from genbench.report.aggregate import leaderboard as frame

    return frame(records)


def render(directory: Path) -> list[Path]:
    """Writes leaderboard.csv, .parquet, .md, .tex, .html and figures/ into DIR; returns the files written.

    Reads DIR/records.jsonl and, where they are there, environment.json, suite.yaml, curves/*.csv and
    figures/samples-*.png. Raises StoreError when there are no records or a file cannot be written.
    """
    from genbench.report.aggregate import boards
    from genbench.report.cards import sample_grids
    from genbench.report.claims import read_claims
    from genbench.report.figures import loss_curves, quality_speed, read_curves
    from genbench.report.html import Pictures, page
    from genbench.report.tables import latex, markdown, write_frame

    records = read_records(directory / "records.jsonl")
    if not records:
        raise StoreError(f"{directory / 'records.jsonl'}: found no records; `genbench run SUITE` writes them")
    found, claims = boards(records), read_claims(directory / "suite.yaml")
    try:
        names = {b.dataset: "quality-speed" if len(found) == 1 else f"quality-speed-{b.dataset}" for b in found}
        speed = {b.dataset: quality_speed(directory, names[b.dataset], b) for b in found}
        pictures = Pictures(sample_grids(directory), loss_curves(directory, read_curves(directory)), speed)
        written = write_frame(directory, leaderboard(records))
        for name, text in (
            ("leaderboard.md", markdown(found, claims)),
            ("leaderboard.tex", latex(found)),
            ("leaderboard.html", page(directory, records, found, pictures, claims)),
        ):
            (directory / name).write_text(text, encoding="utf-8")
            written.append(directory / name)
    except OSError as error:
        raise StoreError(f"{error.filename or directory}: cannot be written: {error.strerror or error}") from error
    return written + pictures.drawn()
