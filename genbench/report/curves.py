"""Loss curves as SVG: for each term of the loss a panel with the running median of each seed and the band around it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from genbench.report.axes import tick_label

WIDTH, HEIGHT = 200, 76  # of a panel's data area, in the SVG's units
BINS = 64
BAND = (0.1, 0.9)


@dataclass(frozen=True)
class Panel:
    """One term of the loss. lines: for each seed (band, median) as path data. low, high: what the panel's ends mean."""

    term: str
    lines: tuple[tuple[str, str], ...]
    low: str
    high: str
    images: str


def panels(seeds: Mapping[int, pd.DataFrame]) -> list[Panel]:
    """A panel for each term, over all seeds. A term without a finite value is left out.

    The vertical scale leaves out the outermost 2 % of the values, so that a spike at the start does not hide the rest.
    """
    terms = list(dict.fromkeys(str(name) for frame in seeds.values() for name in frame["name"]))
    made = (_panel(term, [frame[frame["name"] == term] for frame in seeds.values()]) for term in terms)
    return [panel for panel in made if panel is not None]


def _panel(term: str, frames: Sequence[pd.DataFrame]) -> Panel | None:
    binned = [_binned(frame) for frame in frames]
    binned = [rows for rows in binned if len(rows)]
    if not binned:
        return None
    values = np.concatenate([rows[:, 1:].ravel() for rows in binned])
    low, high = (float(q) for q in np.quantile(values, (0.01, 0.99)))
    high = high if high > low else low + (abs(low) or 1.0)
    last = max(float(rows[-1, 0]) for rows in binned)
    lines = tuple(_paths(rows, low, high, last) for rows in binned)
    return Panel(term, lines, _rounded(low), _rounded(high), tick_label(_two_digits(last)))


def _binned(frame: pd.DataFrame) -> np.ndarray:
    """Rows (images at its end, 10 % quantile, median, 90 % quantile) of at most BINS equal parts of the curve."""
    rows = frame[["images", "value"]].to_numpy(dtype=float)
    rows = rows[np.isfinite(rows).all(1)]
    parts = np.array_split(rows, min(BINS, len(rows))) if len(rows) else []
    return np.array([(part[-1, 0], *_spread(part[:, 1])) for part in parts]).reshape(-1, 4)


def _spread(values: np.ndarray) -> list[float]:
    """The order statistics nearest to the ends of the band and to the middle."""
    ordered = np.sort(values)
    return [float(ordered[round(share * (len(ordered) - 1))]) for share in (BAND[0], 0.5, BAND[1])]


def _paths(rows: np.ndarray, low: float, high: float, last: float) -> tuple[str, str]:
    x = rows[:, 0] / (last or 1.0) * WIDTH
    y = HEIGHT - np.clip((rows[:, 1:] - low) / (high - low), 0, 1) * HEIGHT
    upper, lower = list(zip(x, y[:, 2], strict=True)), list(zip(x, y[:, 0], strict=True))
    return f"{_path(upper + lower[::-1])}Z", _path(list(zip(x, y[:, 1], strict=True)))


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in points)


def _rounded(value: float) -> str:
    return f"{value:.3g}"


def _two_digits(value: float) -> float:
    return float(f"{value:.2g}") if math.isfinite(value) else 0.0
