"""Sample grids for the page, each with the name of its model and facts about it."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genbench.records import FAILED, slug
from genbench.report.aggregate import Row
from genbench.report.guard import listed

MILLION = 1_000_000
PNG = "image/png"


@dataclass(frozen=True)
class Card:
    """A sample grid with a name and its facts."""

    name: str
    role: str
    facts: list[str]
    image: str
    seed: int
    caveat: str = ""
    failed: str = ""
    warnings: tuple[str, ...] = ()


def sample_grids(directory: Path) -> dict[str, tuple[int, Path]]:
    """The first seed's grid of each figures/samples-<slug>-s<seed>.png: slug to (seed, path)."""
    grids: dict[str, tuple[int, Path]] = {}
    for path in sorted((directory / "figures").glob("samples-*.png")):
        match = re.fullmatch(r"samples-(.+)-s(\d+)", path.stem)
        if match and (match[1] not in grids or int(match[2]) < grids[match[1]][0]):
            grids[match[1]] = (int(match[2]), path)
    return grids


def cards(rows: Sequence[Row], grids: Mapping[str, tuple[int, Path]]) -> list[Card]:
    """Real data first, then models in the table's order, then other scale rows and grids without a row."""
    known = {slug(row.model): row for row in rows}
    shown = [_card(row, grids.get(slug(row.model))) for row in rows if row.is_model or slug(row.model) in grids]
    shown += [Card(name, "scale", [], data_uri(p, PNG), seed) for name, (seed, p) in grids.items() if name not in known]
    return sorted(shown, key=lambda c: (c.role != "model" and "real" not in c.name.lower(), c.role == "model"))


def _card(row: Row, grid: tuple[int, Path] | None) -> Card:
    seed, image = (grid[0], data_uri(grid[1], PNG)) if grid else (0, "")
    failed = next((e.reason for e in row.entries.values() if e.status == FAILED), "")
    caveat = str(row.model_fact("caveat") or "")
    warnings = tuple(dict.fromkeys(w for e in row.entries.values() for w in e.record.warnings))
    return Card(row.model, row.role, list(_facts(row)), image, seed, caveat, failed, warnings)


def _facts(row: Row) -> Iterator[str]:
    """One line about a model: family, cost of a sample, training, size."""
    if row.family not in ("", row.model):
        yield row.family
    evaluations, parameters = _fact(row, "evaluations"), _fact(row, "parameters")
    if evaluations:
        yield f"{evaluations:,.0f} network evaluation{'' if evaluations == 1 else 's'} an image"
    if images := _fact(row, "images_seen"):
        yield f"{images:,.0f} images seen in training"
    if parameters:
        yield (
            f"{parameters / MILLION:.2f} M parameters"
            if parameters >= MILLION / 10
            else f"{parameters:,.0f} parameters"
        )
    if sampler := row.model_fact("sampler"):
        yield f"sampler {value_text(sampler)}"
    if ema := row.model_fact("ema"):
        yield f"EMA {ema}"


def _fact(row: Row, name: str) -> float | None:
    """A number about the model: a field of the protocol, or a metric of that name."""
    entry = row.entries.get(name)
    value = row.model_fact(name) if entry is None or not entry.ok else entry.value
    return float(value) if isinstance(value, int | float) else None


def data_uri(path: Path, kind: str) -> str:
    """A file as a data: address."""
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def value_text(value: Any) -> str:
    """A value of a protocol as text without brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {value_text(v)}" for k, v in value.items())
    return listed([str(v) for v in value]) if isinstance(value, list) and value else str(value)
