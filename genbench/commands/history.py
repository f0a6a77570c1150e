"""`genbench history`: a suite's values over several results, with the significant steps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from genbench.report.history import history, history_text, read_runs


def describe_history(directories: Sequence[Path], metrics: Sequence[str], everything: bool, svg: Path | None) -> str:
    """The values that changed from one result to the next, as text; svg: the picture to write."""
    runs = read_runs(directories)
    found = history(runs, metrics)
    if svg is not None:
        from genbench.report.history_plot import write_history_plot

        write_history_plot(svg, runs, [s for s in found if everything or s.steps])
    return history_text(runs, found, everything)
