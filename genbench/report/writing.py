"""The files of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genbench.files import write_text
from genbench.records import slug
from genbench.report.aggregate import Board, flat
from genbench.report.data_files import scores, write_frame
from genbench.report.effort import effort
from genbench.report.finding import held_out_row
from genbench.report.folders import Folder, all_claims
from genbench.report.html import effort_file, page, plot_file
from genbench.report.latex import latex
from genbench.report.markdown import markdown
from genbench.report.parts import check_columns
from genbench.report.plot import quality_cost
from genbench.report.sharing import open_graph


def write_report(
    target: Path, folders: Sequence[Folder], boards: Sequence[Board], inputs: str, columns: Sequence[str] = (),
    url: str = "",
) -> list[Path]:  # fmt: skip
    """Writes tables, plots and the page into `target`; returns the files, the page first.

    inputs: the hash that the page states. columns: the metrics of the Markdown and LaTeX tables, by default all. url:
    where `target` will be on the web, "" where that is not known.
    """
    check_columns(boards, columns)
    target.mkdir(parents=True, exist_ok=True)
    data = write_frame(target, "leaderboard", flat(boards))
    data += write_frame(target, "scores", scores(r for folder in folders for r in folder.measured))
    texts = {
        "leaderboard.html": page(folders, boards, data[0], inputs, open_graph(url, target, folders, boards)),
        "leaderboard.md": markdown(boards, all_claims(folders), columns),
        "leaderboard.tex": latex(boards, columns),
        **_plots(boards, folders),
    }
    for name, text in texts.items():
        (target / name).parent.mkdir(exist_ok=True)
        write_text(target / name, text)
    page_file, *others = (target / name for name in texts)
    return [page_file, *data, *others]


def _plots(boards: Sequence[Board], folders: Sequence[Folder]) -> dict[str, str]:
    """The plots as SVG files, by name: quality against cost, and curves of the rows that share a training."""
    files = {}
    for board in boards:
        end = f"-{slug(board.dataset)}" if len(boards) > 1 else ""
        if plot := quality_cost(board, held_out_row(board)):
            files[f"figures/quality-cost{end}.svg"] = plot_file(plot)
        if curves := effort(board, folders):
            files[f"figures/effort{end}.svg"] = effort_file(curves)
    return files
