"""A comparison of two results as one offline page: the verdict, every difference, and the samples of both."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from genbench.errors import StoreError
from genbench.files import refuse_unsafe, write_text
from genbench.records import read_records
from genbench.report.combined import results_in
from genbench.report.difference import (
    ABSENT,
    BETTER,
    CHANGES,
    MISSING,
    SAME,
    UNDECIDED,
    WORSE,
    Difference,
    sentence,
)
from genbench.report.folders import Folder, read_folders
from genbench.report.html import page_templates, template_text
from genbench.report.pictures import Tiles, fitted
from genbench.report.tables import name_of

SHOWN = (*CHANGES, UNDECIDED, SAME, ABSENT)
CLASSES = {BETTER: "good", WORSE: "failed", MISSING: "failed"}
Rows = Mapping[tuple[str, str], Tiles]


def write_difference_page(file: Path, a: Path, b: Path, compared: Sequence[Difference]) -> None:
    """Writes the page of the differences between results a and b, each a folder or its records.jsonl."""
    from markupsafe import Markup

    css = Markup(template_text("plot.css") + template_text("leaderboard.css"))
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    grids = [_grids(path) for path in (a, b)]
    pictures = [fitted(found) for found in grids]
    keys = list(dict.fromkeys((d.model, d.dataset) for d in compared))
    several = len({dataset for _, dataset in keys}) > 1
    rows = [_row(key, several, compared, grids, pictures) for key in sorted(keys, key=_worst(compared))]
    text = page_templates().get_template("difference.html.j2").render(
        css=css, css_hash=f"sha256-{digest}", a=str(a), b=str(b), sentence=sentence(compared), rows=rows, words=SHOWN,
        classes=CLASSES,
    )  # fmt: skip
    try:
        write_text(file, text)
    except OSError as error:
        raise StoreError(f"{file}: cannot be written: {error.strerror or error}") from error


def _grids(path: Path) -> Rows:
    """The sample grids of a result by model and dataset."""
    folders = (
        read_folders(results_in(path)) if path.is_dir() else [Folder(path.parent, "", tuple(read_records(path)), {})]
    )
    found: dict[tuple[str, str], Tiles] = {}
    for folder in folders:
        refuse_unsafe(folder.directory, "figures")
        grids = folder.grids()
        for row, label in folder.rows.items():
            name = folder.file_name(label, row[1])
            if name in grids:
                found.setdefault(row, grids[name])
    return found


def _worst(compared: Sequence[Difference]) -> Callable[[tuple[str, str]], int]:
    """The order of rows: those with what is worse first."""
    order = {verdict: place for place, verdict in reversed(list(enumerate(SHOWN)))}
    places: dict[tuple[str, str], int] = {}
    for d in compared:
        key = (d.model, d.dataset)
        places[key] = min(places.get(key, len(order)), order[d.verdict])
    return lambda key: places[key]


def _row(
    key: tuple[str, str], several: bool, compared: Sequence[Difference], grids: Sequence[Rows],
    pictures: Sequence[Mapping[tuple[str, str], str]],
) -> dict[str, Any]:  # fmt: skip
    """A model's section: how many metrics have each verdict, the differences, and the samples of both."""
    own = [d for d in compared if (d.model, d.dataset) == key]
    counts = [sum(d.verdict == verdict for d in own) for verdict in SHOWN]
    name = f"{key[0]} on {key[1]}" if several else key[0]
    notes = list(dict.fromkeys(d.note for d in own if d.note))
    thumbnails = [(side, tiles[key].thumbnail(), 0) for side, tiles in zip("AB", grids, strict=True) if key in tiles]
    return {
        "name": name, "counts": counts, "lines": _lines(own), "pictures": _both(key, grids, pictures), "notes": notes,
        "thumbnails": thumbnails,
    }  # fmt: skip


def _lines(own: Sequence[Difference]) -> list[tuple[str, Difference]]:
    """The differences with the names of their metrics, changes first; those with one reason are one line."""
    alike: dict[tuple[object, ...], list[Difference]] = {}
    for d in sorted(own, key=lambda d: SHOWN.index(d.verdict)):
        alike.setdefault((d.verdict, d.reason, d.metric if d.change is not None else ""), []).append(d)
    return [(", ".join(name_of(d.metric) if d.metric else "all" for d in same), same[0]) for same in alike.values()]


def _both(
    row: tuple[str, str], grids: Sequence[Rows], pictures: Sequence[Mapping[tuple[str, str], str]]
) -> list[tuple[str, str, int]]:
    """The samples of a row in A and B, as (A or B, data: address, CSS pixels)."""
    sides = zip("AB", grids, pictures, strict=True)
    return [(side, shown[row], tiles[row].width()) for side, tiles, shown in sides if row in tiles]
