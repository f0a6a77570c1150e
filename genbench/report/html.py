"""The leaderboard as one offline HTML page: nothing is fetched, and everything from the records is escaped.

The page's content security policy allows only its own style sheet and script (by hash) and embedded pictures.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genbench.records import FAILED, OK, Record
from genbench.report import tables
from genbench.report.about import about_model
from genbench.report.aggregate import Board, Row
from genbench.report.board_view import anchor, table_view
from genbench.report.cards import SCALE_ROWS_SHOWN, Card, Picture, card, legend, prompted
from genbench.report.citation import bibtex
from genbench.report.claims import NOT_REPRODUCED, REPRODUCED, Verdict, verdicts
from genbench.report.curves import panels
from genbench.report.effort import SHAPES, Effort, effort
from genbench.report.finding import HELD_OUT, champions, finding, held_out_row, strip_heads
from genbench.report.folders import Folder, all_claims, home_of
from genbench.report.groups import grouped
from genbench.report.guard import listed
from genbench.report.metric_help import metric_help, plain
from genbench.report.pictures import Tiles, fitting_rows
from genbench.report.plot import Plot, family_class, family_shape, quality_cost

if TYPE_CHECKING:
    from jinja2 import Environment

SHORT_STRIP = 2  # families at most beside which there is room for the samples of the best model
_TEMPLATES = Path(__file__).parent / "templates"


def page(
    folders: Sequence[Folder], boards: Sequence[Board], csv: Path, inputs: str = "",
    shared: Sequence[tuple[str, str]] = (),
) -> str:  # fmt: skip
    """The whole page as text.

    csv: the table that it offers. inputs: the hash of its inputs, which the page states. shared: properties of Open
    Graph beside title and description.
    """
    from markupsafe import Markup

    plain_css, plot_css, js = (template_text(name) for name in ("leaderboard.css", "plot.css", "leaderboard.js"))
    css = Markup(plot_css + plain_css)
    records = [r for folder in folders for r in folder.records]
    suite, versions = listed(_each(r.suite for r in records)), listed(_each(str(r.suite_version) for r in records))
    views = [_board_view(board, folders, number) for number, board in enumerate(boards, start=1)]
    return page_templates().get_template("leaderboard.html.j2").render(
        css=css, js=Markup(js), css_hash=_source_hash(css), js_hash=_source_hash(js), suite=suite, versions=versions,
        boards=views, failures=len({(r.dataset, r.cell) for r in records if r.status == FAILED}),
        abstract=" ".join(view["finding"] for view in views), facts=list(_facts(folders, records)),
        environments=[(f.name, list(_flat(f.environment))) for f in folders if f.environment],
        suites=[(f.name, f.suite_text) for f in folders if f.suite_text],
        bibtex=bibtex(suite, versions, boards, records), inputs=inputs, shared=shared, csv=_data_uri(csv, "text/csv"),
    )  # fmt: skip


@cache
def page_templates() -> Environment:
    """The templates. Everything that they insert is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip


def plot_file(plot: Plot) -> str:
    """The plot as an SVG file of its own, with light and dark colours."""
    from markupsafe import Markup

    css = Markup(template_text("plot.css"))
    return page_templates().get_template("plot_file.svg.j2").render(plot=plot, css=css, family_class=family_class)


def effort_file(curves: Effort) -> str:
    """The panels of quality against the cost of drawing as one SVG file, with light and dark colours."""
    from markupsafe import Markup

    css = Markup(template_text("plot.css"))
    return page_templates().get_template("effort_file.svg.j2").render(effort=curves, css=css, shapes=SHAPES)


def template_text(name: str) -> str:
    """A file of the templates as it is."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _each(texts: Iterable[str]) -> list[str]:
    return sorted(set(texts))


def _source_hash(text: str) -> str:
    """A hash source of a content security policy: sha256-<base64>."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data_uri(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


# --- one dataset


def _board_view(board: Board, folders: Sequence[Folder], number: int) -> dict[str, Any]:
    homes = {row.model: home_of(folders, row.model, row.dataset) for row in board.rows}
    tiles = {kind: _tiles(board, folders, homes, kind) for kind in ("samples", "neighbours")}
    judged = verdicts(board, all_claims(folders))
    groups = [(column, group) for group, members in grouped(board.columns).items() for column in members]
    thumbnails = {name: grid.thumbnail() for name, grid in tiles["samples"].items()}
    found, plot = champions(board), quality_cost(board, held_out_row(board))
    cards = _cards(board, folders, homes, tiles, judged, number)
    shown = [item for item in cards if item.role == "model" and item.picture and item.picture.source]
    return {
        "number": number,
        "dataset": board.dataset,
        "fingerprint": _fingerprint(board),
        "finding": finding(board),
        "champions": [(c, thumbnails.get(c.row.model, ""), anchor("model", number, c.row.model)) for c in found],
        "strip": strip_heads(found),
        "effort": effort(board, folders),
        "lead": shown[0] if shown and (plot is None or len(found) <= SHORT_STRIP) else None,
        "plot": plot,
        "family_class": family_class,
        "shape": family_shape,
        "links": {row.model: anchor("model", number, row.model) for row in board.models},
        "table": table_view(board, number, thumbnails),
        "notes": list(tables.general_notes(board)),
        "shapes": SHAPES,
        "failed": _failed(board),
        "help": [metric_help(board, column, number, group) for column, group in groups],
        "cards": cards,
        "claims": [(verdict, anchor("model", number, verdict.claim.model)) for verdict in judged],
        "claim_cells": tables.claim_cells,
        "claim_class": claim_class,
    }


Homes = Mapping[str, tuple[Folder, str] | None]


def _tiles(board: Board, folders: Sequence[Folder], homes: Homes, kind: str) -> dict[str, Tiles]:
    """The grids of the rows; of scale rows other than held-out images the first rows."""
    grids = {id(folder): folder.grids(kind) for folder in folders}
    found = {}
    for row in board.rows:
        home = homes[row.model]
        grid = grids[id(home[0])].get(home[0].file_name(home[1], row.dataset)) if home else None
        if grid is not None:
            whole = row.is_model or row.model == HELD_OUT
            found[row.model] = grid if whole else Tiles(grid.images[:SCALE_ROWS_SHOWN])
    return found


def _cards(
    board: Board, folders: Sequence[Folder], homes: Homes, tiles: Mapping[str, Mapping[str, Tiles]],
    judged: Sequence[Verdict], number: int,
) -> list[Card]:  # fmt: skip
    """Held-out images first, then models in the table's order, then other scale rows."""
    pictures = {kind: fitting_rows(grids) for kind, grids in tiles.items()}
    made = []
    for row in sorted(board.rows, key=lambda r: (r.model != HELD_OUT, not r.is_model)):
        home = homes[row.model]
        shown = {
            kind: _picture(row, kind, tiles[kind][row.model], rows[row.model])
            for kind, rows in pictures.items()
            if row.model in rows
        }
        entry = home[0].entries.get(home[1]) if home and row.is_model else None
        about = about_model(str(entry["name"]), home[0].directory) if home and entry and "name" in entry else None
        curves = (
            panels(home[0].curves.get(home[0].file_name(home[0].trained_as(home[1]), row.dataset), {}))
            if home and row.is_model
            else []
        )
        own = [v for v in judged if v.claim.model == row.model]
        if row.is_model or shown:
            made.append(card(row, anchor("model", number, row.model), about, shown, curves, own))
    return made


def _picture(row: Row, kind: str, tiles: Tiles, rows: int) -> Picture:
    if tiles.prompts:
        return prompted(row, tiles, rows)
    source = tiles.picture(rows)
    if kind == "neighbours":
        text = "Samples, and below each the train image with the nearest features."
        return Picture(source, tiles.width(), text, f"samples of {row.model} above their nearest train images")
    words = f"samples of {row.model}" if row.is_model else f"images: {row.model}"
    return Picture(source, tiles.width(), legend(row, len(tiles.images), min(row.seeds, default=0)), words)


def claim_class(verdict: Verdict) -> str:
    """The CSS class of a verdict."""
    return {REPRODUCED: "good", NOT_REPRODUCED: "failed"}.get(verdict.word, "soft")


def _failed(board: Board) -> list[tuple[str, str, str, str]]:
    """What failed, in all or some seeds: (row, metrics, status, reason)."""
    lines = tables.without_value(board)
    return [
        (row.model, listed([tables.name_of(m) for m in metrics]), status, reason)
        for row, status, reason, metrics in lines
        if status in (FAILED, tables.INCOMPLETE)
    ]


def _fingerprint(board: Board) -> str:
    """The dataset's fingerprint as the protocols state it, "" when none does."""
    protocols = [e.record.protocol for r in board.rows for e in r.entries.values()]
    return next((str(p["data"]["fingerprint"]) for p in protocols if "fingerprint" in p.get("data", {})), "")


# --- the run


def _facts(folders: Sequence[Folder], records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    whens = [when for f in folders if (when := _when(f.environment))]
    if whens:
        yield "Measured", "; ".join(whens)
    commands = [str(f.environment["command"]) for f in folders if f.environment.get("command")]
    if commands:
        yield "Command", "; ".join(commands)
    hardware = list(dict.fromkeys(text for f in folders for text in _hardware(f)))
    if hardware:
        yield "Hardware", ", ".join(hardware)
    values = sum(r.status == OK for r in records)
    yield "Values", f"{values:,} of {len({(r.dataset, r.cell) for r in records})} cells"


def _when(environment: Mapping[str, Any]) -> str:
    when = next((str(environment[k]) for k in ("finished", "when", "started") if environment.get(k)), "")
    seconds = environment.get("seconds")
    return ", ".join(t for t in (when, f"in {seconds:,.0f} s" if isinstance(seconds, int | float) else "") if t)


def _hardware(folder: Folder) -> Iterator[str]:
    environment = folder.environment
    names = {str(environment.get("processor", "")): None} | {r.device: None for r in folder.records}
    yield from filter(None, names)
    if environment.get("cores"):
        yield f"{environment['cores']} cores"


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", plain(value)
