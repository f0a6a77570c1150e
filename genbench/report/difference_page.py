"""A comparison of two results as one offline page: the verdict, every difference, and the samples of both."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from genbench.errors import StoreError
from genbench.files import refuse_unsafe, write_text
from genbench.records import slug
from genbench.report.difference import CHANGES, Difference, sentence
from genbench.report.html import page_templates, template_text
from genbench.report.pictures import Tiles, fitted, read_tiles, sample_grids
from genbench.report.tables import name_of


def write_difference_page(file: Path, a: Path, b: Path, compared: Sequence[Difference]) -> None:
    """Writes the page of the differences between results a and b, each a folder or its records.jsonl."""
    from markupsafe import Markup

    css = Markup(template_text("plot.css") + template_text("leaderboard.css"))
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    grids = [_grids(path if path.is_dir() else path.parent) for path in (a, b)]
    pictures = [fitted(found) for found in grids]
    models = dict.fromkeys(d.model for d in compared)
    text = page_templates().get_template("difference.html.j2").render(
        css=css, css_hash=f"sha256-{digest}", a=str(a), b=str(b), sentence=sentence(compared), name_of=name_of,
        models=[(model, _of(model, compared), _both(model, grids, pictures)) for model in models],
    )  # fmt: skip
    try:
        write_text(file, text)
    except OSError as error:
        raise StoreError(f"{file}: cannot be written: {error.strerror or error}") from error


def _grids(directory: Path) -> dict[str, Tiles]:
    refuse_unsafe(directory, "figures")
    return {name: read_tiles(path) for name, (_, path) in sample_grids(directory).items()}


def _of(model: str, compared: Sequence[Difference]) -> list[Difference]:
    """A model's differences, changes first."""
    own = [d for d in compared if d.model == model]
    return sorted(own, key=lambda d: CHANGES.index(d.verdict) if d.verdict in CHANGES else len(CHANGES))


def _both(
    model: str, grids: Sequence[Mapping[str, Tiles]], pictures: Sequence[Mapping[str, str]]
) -> list[tuple[str, str, int]]:
    """The samples of a model in A and B, as (A or B, data: address, CSS pixels)."""
    name = slug(model)
    sides = zip("AB", grids, pictures, strict=True)
    return [(side, shown[name], tiles[name].width()) for side, tiles, shown in sides if name in tiles]
