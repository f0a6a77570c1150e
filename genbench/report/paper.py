"""Figures for papers, drawn by matplotlib: quality against cost, as PDF or any other format that it writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genbench.errors import GenbenchError
from genbench.files import whole
from genbench.records import slug
from genbench.report.aggregate import Board, Column, Entry
from genbench.report.plot import default_axes, plots
from genbench.report.tables import title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("pdf", "png", "eps")
INCHES = (4.8, 3.4)  # fits one column of most papers' pages
MARKERS = {"gan": "s", "vae": "D", "flow": "^", "diffusion": "o", "flow matching": "v", "autoregressive": "*"}
STYLE: dict[Any, Any] = {"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "pdf.fonttype": 42}


def paper_figures(target: Path, boards: Sequence[Board], kind: str) -> list[Path]:
    """Writes figures/quality-cost.KIND for each dataset with two models that have both numbers; returns the files.

    kind: one of FORMATS; GenbenchError for another.
    """
    if kind not in FORMATS:
        raise GenbenchError(f"--figures: found '{kind}', allowed: {', '.join(FORMATS)}")
    files = []
    for board in boards:
        name = "quality-cost" if len(boards) == 1 else f"quality-cost-{slug(board.dataset)}"
        path = target / "figures" / f"{name}.{kind}"
        if _quality_cost(board, path, kind):
            files.append(path)
    return files


def _quality_cost(board: Board, path: Path, kind: str) -> bool:
    """Draws one dataset's figure; False where no two models have both numbers."""
    found = plots(board)
    chosen = default_axes(list(found))
    rows = [r for r in board.models if chosen and all(m in r.entries and r.entries[m].ok for m in chosen)]
    if chosen is None or len(rows) < 2:
        return False
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=INCHES, layout="constrained")
        axes = figure.subplots()
        for row in rows:
            _point(axes, row.model, row.family, row.entries[chosen[0]], row.entries[chosen[1]])
        for column, side in ((found[chosen[0]][0], "x"), (found[chosen[1]][0], "y")):
            _scale(axes, side, column, found[column.metric][1].logarithmic)
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as partial:
            figure.savefig(partial, format=kind, dpi=300, metadata={"Title": f"genbench: {board.dataset}"})
    return True


def _point(axes: Axes, model: str, family: str, x: Entry, y: Entry) -> None:
    color = f"C{list(MARKERS).index(family) if family in MARKERS else len(MARKERS)}"
    spread = [[[e.number - e.low], [e.high - e.number]] for e in (x, y)]
    axes.errorbar(
        [x.number], [y.number], xerr=spread[0], yerr=spread[1], marker=MARKERS.get(family, "P"), color=color,
        markersize=4, linewidth=0.6,
    )  # fmt: skip
    label = model.replace("$", r"\$")
    axes.annotate(label, (x.number, y.number), xytext=(5, 3), textcoords="offset points", fontsize=7)


def _scale(axes: Axes, side: str, column: Column, logarithmic: bool) -> None:
    arrow = {"lower": "lower is better", "higher": "higher is better"}[column.better]
    axes.set(**{f"{side}label": f"{title(column)} ({arrow})", f"{side}scale": "log" if logarithmic else "linear"})
