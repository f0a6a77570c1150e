"""Figures of a result: loss curves of each model, and quality against speed. matplotlib is imported when drawing.

Each is drawn twice, for light and for dark pages; the dark file's name ends in `-dark`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from genbench.errors import StoreError
from genbench.files import whole
from genbench.records import slug
from genbench.report.aggregate import Board, Entry, Row
from genbench.report.guard import comparable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

CURVE_COLUMNS = ["step", "images", "seconds", "name", "value"]
LOG_RATIO = 6.0
PANELS = 4
PANEL_WIDTH = 2.9
DPI = 180
CSS_DPI = 100
MARKER = 8


@dataclass(frozen=True)
class Theme:
    """Colours of a figure: page, text, faint lines, and data."""

    suffix: str
    page: str
    ink: str
    faint: str
    data: str


LIGHT = Theme("", "#ffffff", "#2b2f36", "#d9dce1", "#1f5fa8")
DARK = Theme("-dark", "#1b1e24", "#d7dae0", "#3a3f49", "#7db4f0")


@dataclass(frozen=True)
class Picture:
    """A figure's two files, and the width in CSS pixels that shows its text at its own size."""

    light: Path
    dark: Path
    width: int


def read_curves(directory: Path) -> dict[str, dict[int, pd.DataFrame]]:
    """The training curves in DIR/curves/<label>-s<seed>.csv, by label and seed; empty files are left out.

    Raises StoreError for a file without the columns step, images, seconds, name, value.
    """
    curves: dict[str, dict[int, pd.DataFrame]] = {}
    for path in sorted((directory / "curves").glob("*.csv")):
        match = re.fullmatch(r"(.+)-s(\d+)", path.stem)
        if match is None or path.stat().st_size == 0:
            continue
        frame = _read_curve(path)
        if len(frame):
            curves.setdefault(match[1], {})[int(match[2])] = frame
    return curves


def _read_curve(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OSError) as error:
        raise StoreError(f"{path}: not a table of {', '.join(CURVE_COLUMNS)}: {error}") from error
    missing = [c for c in CURVE_COLUMNS if c not in frame.columns]
    if missing:
        raise StoreError(f"{path}: columns: found no {', '.join(missing)}, allowed: {', '.join(CURVE_COLUMNS)}")
    values = pd.to_numeric(frame["value"], errors="coerce").replace([math.inf, -math.inf], math.nan)
    return frame.assign(value=values, name=frame["name"].astype(str).str.removeprefix("'"))


def loss_curves(directory: Path, curves: Mapping[str, Mapping[int, pd.DataFrame]]) -> dict[str, Picture]:
    """Draws figures/loss-<label>.png: a panel for each term, a line for each seed, against images seen."""
    return {label: _save(directory, f"loss-{label}", _LossFigure(seeds)) for label, seeds in curves.items()}


def quality_speed(directory: Path, name: str, board: Board) -> Picture | None:
    """Draws figures/<name>.png: FID against images/s (log), with intervals.

    None when fewer than two models have both numbers, or when either may not be ranked.
    """
    columns = {c.metric: c for c in board.columns}
    if not {"fid", "images_per_second"} <= columns.keys():
        return None
    points = [(r, r.entries["fid"], r.entries["images_per_second"]) for r in board.models if _has_both(r)]
    if len(points) < 2 or columns["fid"].unranked or columns["images_per_second"].unranked:
        return None
    return _save(directory, name, _SpeedFigure(points, _floor(board, points[0][1]), columns["fid"].extractor))


def front(points: Iterable[tuple[str, float, float]]) -> set[str]:
    """The names of the (name, fid, images/s) on the Pareto front: no other is at least as good in both and differs."""
    models = list(points)
    return {
        name
        for name, fid, speed in models
        if not any(f <= fid and s >= speed and (f, s) != (fid, speed) for _, f, s in models)
    }


def _has_both(row: Row) -> bool:
    return all(m in row.entries and row.entries[m].ok and not row.entries[m].busy for m in ("fid", "images_per_second"))


def _floor(board: Board, like: Entry) -> tuple[str, float] | None:
    """The scale row with the lowest FID under the models' protocol."""
    measured = [(r.model, r.entries["fid"]) for r in board.scale if "fid" in r.entries and r.entries["fid"].ok]
    rows = [(model, e.number) for model, e in measured if comparable(e.record) == comparable(like.record)]
    return min(rows, key=lambda row: row[1], default=None)


def _save(directory: Path, name: str, drawing: Any) -> Picture:
    folder = directory / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    for theme in (LIGHT, DARK):
        figure = drawing(theme)
        with whole(folder / f"{slug(name)}{theme.suffix}.png") as partial:
            figure.savefig(partial, dpi=DPI, facecolor=theme.page, format="png")
    light, dark = (folder / f"{slug(name)}{theme.suffix}.png" for theme in (LIGHT, DARK))
    return Picture(light, dark, round(figure.get_figwidth() * CSS_DPI))


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


def _dress(axes: Axes, theme: Theme) -> None:
    axes.set_facecolor(theme.page)
    axes.tick_params(which="both", colors=theme.ink, labelsize=8, length=3, width=0.6)
    axes.grid(color=theme.faint, linewidth=0.6)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(theme.faint)


@dataclass(frozen=True)
class _LossFigure:
    """A panel for each term of the loss."""

    seeds: Mapping[int, pd.DataFrame]

    def __call__(self, theme: Theme) -> Figure:
        terms = list(dict.fromkeys(name for frame in self.seeds.values() for name in frame["name"]))
        columns = min(PANELS, len(terms))
        rows = -(-len(terms) // columns)
        figure = _figure(PANEL_WIDTH * columns, 0.3 + 1.8 * rows)
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, term in zip(grid.flat, terms, strict=False):
            self._panel(axes, str(term), theme)
        for axes in grid.flat[len(terms) :]:
            axes.set_visible(False)
        width, height = figure.get_size_inches()
        figure.subplots_adjust(0.5 / width, 0.46 / height, 1 - 0.12 / width, 1 - 0.28 / height, wspace=0.3, hspace=0.55)
        return figure

    def _panel(self, axes: Axes, term: str, theme: Theme) -> None:
        _dress(axes, theme)
        axes.locator_params(nbins=5)
        axes.set_title(term, fontsize=9, color=theme.ink, loc="left", parse_math=False)
        shown = []
        for frame in self.seeds.values():
            line = frame[frame["name"] == term]
            smooth = line["value"].rolling(max(1, len(line) // 40), min_periods=1, center=True).median()
            axes.plot(line["images"] / 1000, line["value"], color=theme.data, linewidth=0.6, alpha=0.3)
            axes.plot(line["images"] / 1000, smooth, color=theme.data, linewidth=1.4)
            shown.append(line["value"])
        _fit(axes, pd.concat(shown))
        axes.set_xlabel("thousand images seen", fontsize=8, color=theme.ink)


def _fit(axes: Axes, values: pd.Series) -> None:
    """Limits the y axis to the middle 98 % of the values, so that a spike at the start does not hide the rest."""
    lo, hi = float(values.quantile(0.01)), float(values.quantile(0.99))
    if hi > lo:
        axes.set_ylim(lo - 0.06 * (hi - lo), hi + 0.06 * (hi - lo))


@dataclass(frozen=True)
class _SpeedFigure:
    """FID against images/s; filled points are on the front."""

    points: list[tuple[Row, Entry, Entry]]
    floor: tuple[str, float] | None
    extractor: str

    def __call__(self, theme: Theme) -> Figure:
        figure = _figure(7.6, 4.4)
        axes = figure.subplots()
        figure.subplots_adjust(0.1, 0.12, 0.98, 0.97)
        _dress(axes, theme)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,g}")
        self._scale_quality(axes)
        self._draw_floor(axes, theme)
        self._draw_points(axes, theme)
        on = f" ({self.extractor})" if self.extractor else ""
        axes.set_xlabel("images/s, more is faster →", fontsize=9, color=theme.ink)
        axes.set_ylabel(f"FID{on}, lower is better ↓", fontsize=9, color=theme.ink, parse_math=False)
        return figure

    def _scale_quality(self, axes: Axes) -> None:
        from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

        values = [fid.number for _, fid, _ in self.points]
        values += [self.floor[1]] if self.floor else []
        if min(values) <= 0 or max(values) / min(values) < LOG_RATIO:
            return
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())

    def _draw_floor(self, axes: Axes, theme: Theme) -> None:
        if self.floor is None:
            return
        name, value = self.floor
        axes.axhline(value, color=theme.ink, linewidth=0.8, linestyle=(0, (4, 3)))
        position: dict[str, Any] = {
            "xy": (0.995, value),
            "xycoords": axes.get_yaxis_transform(),
            "textcoords": "offset points",
        }
        style: dict[str, Any] = {"fontsize": 8, "color": theme.ink, "ha": "right", "parse_math": False}
        axes.annotate(name, xytext=(0, 4), **position, **style)

    def _draw_points(self, axes: Axes, theme: Theme) -> None:
        best = front((row.model, fid.number, speed.number) for row, fid, speed in self.points)
        for row, fid, speed in self.points:
            fill = theme.data if row.model in best else theme.page
            x, y = speed.number, fid.number
            axes.errorbar(
                x, y, xerr=_arms(speed), yerr=_arms(fid), fmt="o", markersize=MARKER - 1, markeredgewidth=1.4,
                color=theme.data, markerfacecolor=fill, ecolor=theme.data, elinewidth=1, capsize=2.5,
            )  # fmt: skip
        axes.margins(x=0.16, y=0.14)
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
        taken = [_box(axes, speed.number, fid.number) for _, fid, speed in self.points]
        for row, fid, speed in self.points:
            taken.append(_label(axes, row.model, (speed.number, fid.number), taken, theme))


def _arms(entry: Entry) -> list[list[float]]:
    """The interval in matplotlib's form: distances below and above the value."""
    return [[max(0.0, entry.number - entry.low)], [max(0.0, entry.high - entry.number)]]


def _box(axes: Axes, x: float, y: float) -> Bbox:
    """Where a point is drawn, in pixels."""
    from matplotlib.transforms import Bbox

    left, bottom = axes.transData.transform((x, y)) - MARKER / 2
    return Bbox.from_bounds(left, bottom, MARKER, MARKER)


def _label(axes: Axes, name: str, point: tuple[float, float], taken: list[Bbox], theme: Theme) -> Bbox:
    """Writes a name beside its point, at the first of six positions without overlap or the last; returns its box."""
    offsets = [
        (8, 6, "left"),
        (8, -13, "left"),
        (-8, 6, "right"),
        (-8, -13, "right"),
        (8, 18, "left"),
        (8, -25, "left"),
    ]
    style: dict[str, Any] = {"fontsize": 9, "color": theme.ink, "parse_math": False}
    text = axes.annotate(name, point, xytext=offsets[0][:2], textcoords="offset points", **style)
    for x, y, side in offsets:
        text.set(position=(x, y), ha=side)
        box = text.get_window_extent()
        if not any(box.overlaps(other) for other in taken):
            break
    return box
