"""The files of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genbench.files import write_text
from genbench.records import slug
from genbench.report.aggregate import Board, flat
from genbench.report.finding import held_out_row
from genbench.report.folders import Folder, all_claims
from genbench.report.html import page, plot_file
from genbench.report.plot import quality_cost
from genbench.report.tables import latex, markdown, write_frame


def write_report(target: Path, folders: Sequence[Folder], boards: Sequence[Board], inputs: str) -> list[Path]:
    """Writes tables, plots and the page into `target`; returns the files. inputs: the hash that the page states."""
    target.mkdir(parents=True, exist_ok=True)
    written = write_frame(target, flat(boards))
    texts = {
        "leaderboard.md": markdown(boards, all_claims(folders)),
        "leaderboard.tex": latex(boards),
        "leaderboard.html": page(folders, boards, written[0], inputs),
        **_plots(boards),
    }
    for name, text in texts.items():
        (target / name).parent.mkdir(exist_ok=True)
        write_text(target / name, text)
        written.append(target / name)
    return written


def _plots(boards: Sequence[Board]) -> dict[str, str]:
    """The plots of quality against cost as SVG files, by name."""
    drawn = {board.dataset: quality_cost(board, held_out_row(board)) for board in boards}
    several = len(boards) > 1
    return {
        f"figures/quality-cost{f'-{slug(dataset)}' if several else ''}.svg": plot_file(plot)
        for dataset, plot in drawn.items()
        if plot is not None
    }
