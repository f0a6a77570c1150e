"""The values of a history as SVG: a panel for each metric and model, a point for each run, filled where it changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genbench.errors import StoreError
from genbench.files import write_text
from genbench.report.difference import CHANGES
from genbench.report.history import Run, Series
from genbench.report.html import page_templates, template_text
from genbench.report.tables import name_of

WIDTH, HEIGHT = 220, 90
ACROSS, GAP_X, GAP_Y = 3, 60, 50


@dataclass(frozen=True)
class Spot:
    """A run's point in a panel."""

    x: float
    y: float
    low: float
    high: float
    changed: bool
    words: str


@dataclass(frozen=True)
class HistoryPanel:
    """One series at a place of the picture."""

    title: str
    left: int
    top: int
    least: str
    most: str
    spots: tuple[Spot, ...]

    @property
    def path(self) -> str:
        """The line through the points."""
        return "M" + "L".join(f"{s.x} {s.y}" for s in self.spots)


def write_history_plot(file: Path, runs: Sequence[Run], found: Sequence[Series]) -> None:
    """Writes the picture of these series. Raises StoreError where it cannot be written."""
    from markupsafe import Markup

    panels = [_panel(series, runs, place) for place, series in enumerate(found)]
    rows = -(-len(panels) // ACROSS)
    size = (ACROSS * (WIDTH + GAP_X) + GAP_X, rows * (HEIGHT + GAP_Y) + GAP_Y)
    text = page_templates().get_template("history.svg.j2").render(
        css=Markup(template_text("plot.css")), panels=panels, size=size, width=WIDTH, height=HEIGHT
    )  # fmt: skip
    try:
        write_text(file, text)
    except OSError as error:
        raise StoreError(f"{file}: cannot be written: {error.strerror or error}") from error


def _panel(series: Series, runs: Sequence[Run], place: int) -> HistoryPanel:
    ends = [end for p in series.points for end in (p.entry.low, p.entry.high)]
    least, most = min(ends), max(ends)
    span = (most - least) or abs(most) or 1.0

    def down(value: float) -> float:
        return round(HEIGHT * (1 - (value - least) / span), 1)

    step = WIDTH / max(1, len(runs) - 1)
    spots = tuple(
        Spot(
            round(step * runs.index(p.run), 1), down(p.entry.number), down(p.entry.low), down(p.entry.high),
            p.step in CHANGES, f"{p.run.name}: {p.entry.number:.4g} {p.step}".strip(),
        )
        for p in series.points
    )  # fmt: skip
    left = GAP_X + place % ACROSS * (WIDTH + GAP_X)
    title = f"{series.model}: {name_of(series.metric)}"
    return HistoryPanel(title, left, GAP_Y + place // ACROSS * (HEIGHT + GAP_Y), f"{least:.3g}", f"{most:.3g}", spots)
