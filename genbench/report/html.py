"""The leaderboard as one offline HTML page: nothing is fetched, and everything from the records is escaped.

The page's content security policy allows only its own style sheet and script (by hash) and embedded pictures.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from genbench.errors import StoreError
from genbench.protocol import compared, leaves
from genbench.records import FAILED, OK, Record
from genbench.report import tables
from genbench.report.aggregate import Board, Column, Row
from genbench.report.cards import PNG, cards, data_uri, value_text
from genbench.report.claims import NOT_REPRODUCED, REPRODUCED, Claim, Verdict, verdicts
from genbench.report.figures import Picture
from genbench.report.guard import listed, short
from genbench.report.kinds import sign

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class PageImages:
    """The pictures of a page: sample grids by slug, loss curves by label, quality against speed by dataset."""

    samples: Mapping[str, tuple[int, Path]]
    losses: Mapping[str, Picture]
    speed: Mapping[str, Picture | None]

    def drawn(self) -> list[Path]:
        """The files that the report drew."""
        figures = [*self.losses.values(), *(p for p in self.speed.values() if p is not None)]
        return [path for picture in figures for path in (picture.light, picture.dark)]


@dataclass(frozen=True)
class TableCell:
    """One cell of the table: its text, and the number that it is sorted by (None is last)."""

    text: str
    spread: str = ""
    sign: str = ""
    rank: int | None = None
    order: float | None = None
    hint: str = ""
    why: str = ""
    starred: bool = False
    mark: str = ""


@dataclass(frozen=True)
class Absence:
    """Why a row has no value for some metrics."""

    anchor: str
    model: str
    status: str
    reason: str
    metrics: str


@dataclass(frozen=True)
class ProtocolView:
    """How one metric was measured: lines of (field, value), each value with its rows where rows differ."""

    title: str
    lines: list[tuple[str, str]] = field(default_factory=list)


def page(
    directory: Path,
    records: Sequence[Record],
    boards: Sequence[Board],
    pictures: PageImages,
    claims: Sequence[Claim] = (),
    inputs: str = "",
) -> str:
    """The whole page as text. inputs: the hash of its inputs, which the page states."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    jinja = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    css, js = (Markup((_TEMPLATES / f"leaderboard.{end}").read_text(encoding="utf-8")) for end in ("css", "js"))
    environment = _environment(directory / "environment.json")
    suite = directory / "suite.yaml"
    return jinja.get_template("leaderboard.html.j2").render(
        css=css, js=js, css_hash=_source_hash(css), js_hash=_source_hash(js),
        suite=records[0].suite, versions=listed(sorted({str(r.suite_version) for r in records})),
        boards=[_board_view(board, pictures, claims, number) for number, board in enumerate(boards, start=1)],
        failures=len({r.cell for r in records if r.status == FAILED}),
        losses=[(label, _inlined(p)) for label, p in pictures.losses.items()],
        hardware=_hardware(environment, records), when=_when(environment),
        command=str(environment.get("command", "")), environment=list(_flat(environment)),
        suite_text=suite.read_text(encoding="utf-8") if suite.is_file() else "",
        inputs=inputs, csv=data_uri(directory / "leaderboard.csv", "text/csv"),
    )  # fmt: skip


def _source_hash(text: str) -> str:
    """A hash source of a content security policy: sha256-<base64>."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _inlined(picture: Picture) -> dict[str, Any]:
    return {"light": data_uri(picture.light, PNG), "dark": data_uri(picture.dark, PNG), "width": picture.width}


# --- one dataset


def _board_view(board: Board, pictures: PageImages, claims: Sequence[Claim], number: int) -> dict[str, Any]:
    absences = list(_absences(board, number))
    first = _first_column(board)
    models = sorted(board.models, key=lambda row: _sort_value(row, first))
    speed = pictures.speed.get(board.dataset)
    return {
        "number": number,
        "dataset": board.dataset,
        "fingerprint": _fingerprint(board),
        "seeds": listed([str(s) for s in sorted({s for r in board.models for s in r.seeds})] or ["none"]),
        "columns": [_column_view(board, column, first) for column in board.columns],
        "models": [_row_view(board, row, absences) for row in models],
        "scale": [_row_view(board, row, absences) for row in board.scale],
        "notes": list(tables.notes(board)),
        "claims": [_claim_view(verdict) for verdict in verdicts(board, claims)],
        "cards": cards([*models, *board.scale], pictures.samples),
        "speed": _inlined(speed) if speed else None,
        "not_drawn": "" if speed else _why_not_drawn(board),
        "absences": absences,
        "protocols": [_protocol(board, column) for column in board.columns],
    }


def _claim_view(verdict: Verdict) -> dict[str, Any]:
    cells = dict(zip(tables.CLAIM_HEADS, tables.claim_cells(verdict), strict=True))
    kinds = {REPRODUCED: "best", NOT_REPRODUCED: "failed"}
    return cells | {"word": verdict.word, "why": verdict.why, "class": kinds.get(verdict.word, "soft")}


def _first_column(board: Board) -> Column | None:
    """The column that the table is initially sorted by: the first one in which models are ranked."""
    return next((c for c in board.columns if c.ranks), None)


def _sort_value(row: Row, column: Column | None) -> float:
    entry = row.entries.get(column.metric) if column else None
    if column is None or entry is None or not entry.ok:
        return float("inf") if column else 0.0
    return entry.number if column.better == "lower" else -entry.number


def _why_not_drawn(board: Board) -> str:
    axes = [c for c in board.columns if c.metric in ("fid", "images_per_second")]
    unranked = [tables.name_of(c.metric) for c in axes if c.unranked]
    return f"Not drawn: {listed(unranked)} cannot be ranked here." if len(axes) == 2 and unranked else ""


def _fingerprint(board: Board) -> str:
    """The dataset's fingerprint as the protocols state it, "" when none does."""
    protocols = [e.record.protocol for r in board.rows for e in r.entries.values()]
    return next((str(p["data"]["fingerprint"]) for p in protocols if "fingerprint" in p.get("data", {})), "")


def _column_view(board: Board, column: Column, first: Column | None) -> dict[str, Any]:
    name, _, beside = tables.title(column).partition(" (")
    up = "ascending" if column.better == "lower" else "descending"
    return {
        "name": name,
        "beside": f"({beside}" if beside else "",
        "arrow": tables.ARROWS[column.better],
        "better": column.better,
        "unit": column.unit,
        "sortable": not column.unranked,
        "sorted": up if column is first else "none",
    }


def _row_view(board: Board, row: Row, absences: Sequence[Absence]) -> dict[str, Any]:
    cells = [_cell(board, column, row, absences) for column in board.columns]
    return {"name": row.model, "family": row.family if row.family != row.model else "", "cells": cells}


def _cell(board: Board, column: Column, row: Row, absences: Sequence[Absence]) -> TableCell:
    entry = row.entries.get(column.metric)
    if entry is None:
        return TableCell("—", hint="not measured")
    if not entry.ok:
        why = next(
            a.anchor for a in absences if (a.model, a.status, a.reason) == (row.model, entry.status, entry.reason)
        )
        return TableCell(entry.status, hint=entry.reason, why=why)
    text = tables.written(entry)
    hint = f"{entry.value!r}" + (f", {entry.interval}: {entry.lo!r} to {entry.hi!r}" if entry.interval else "")
    value, spread = (t.replace("-", "\N{MINUS SIGN}") for t in (text.value, text.spread))
    rank = column.ranks.get(row.model)
    mark = tables.BUSY if entry.busy else ""
    hint = f"{hint}; {mark}: {entry.busy}" if mark else hint
    shown = TableCell(value, spread, sign(entry.kind).text, rank, entry.value, hint)
    return replace(shown, starred=bool(entry.missing), mark=mark)


def _absences(board: Board, number: int) -> Iterator[Absence]:
    for index, (row, status, reason, metrics) in enumerate(tables.without_value(board), start=1):
        names = listed([tables.name_of(m) for m in metrics])
        yield Absence(f"why-{number}-{index}", row.model, status, reason, names)


# --- protocols and environment


def _protocol(board: Board, column: Column) -> ProtocolView:
    """Every field of the metric's protocol; where rows differ, each value with the rows that have it."""
    entries = [(r.model, r.entries[column.metric]) for r in board.rows if column.metric in r.entries]
    records = [(model, e.record) for model, e in entries if e.record.status == OK]
    units = {"unit": column.unit, "better": column.better}
    lines = [(name, value) for name, value in units.items() if value]
    fields = [(model, _stated(record)) for model, record in records]
    for name in dict.fromkeys(key for _, stated in fields for key in stated):
        holders: dict[str, list[str]] = {}
        for model, stated in fields:
            holders.setdefault(value_text(stated[name]) if name in stated else "not stated", []).append(model)
        lines.append((name, "; ".join(_held(value, who, len(holders)) for value, who in holders.items())))
    return ProtocolView(tables.title(column), lines)


def _stated(record: Record) -> dict[str, Any]:
    shared = dict(leaves(compared(record.protocol)))
    counts = {"n_fake": record.n_fake, "n_real": record.n_real}
    versions = {"metric version": record.metric_version, "protocol hash": record.protocol_hash}
    where = {"measured on": record.device, "interval of one seed": record.interval}
    return {k: v for k, v in (counts | shared | versions | where).items() if v not in (None, "")}


def _held(value: str, who: Sequence[str], groups: int) -> str:
    return value if groups == 1 else f"{short(value)} ({listed(who)})"


def _environment(path: Path) -> dict[str, Any]:
    """environment.json, or nothing when there is no such file. Raises StoreError when it is not a JSON object."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise StoreError(f"{path}:{error.lineno}: not JSON: {error.msg}") from error
    if not isinstance(data, dict):
        raise StoreError(f"{path}: found {type(data).__name__}, allowed: a JSON object")
    return data


def _when(environment: Mapping[str, Any]) -> str:
    when = next((str(environment[k]) for k in ("finished", "when", "started") if environment.get(k)), "")
    seconds = environment.get("seconds")
    return ", ".join(t for t in (when, f"in {seconds:,.0f} s" if isinstance(seconds, int | float) else "") if t)


def _hardware(environment: Mapping[str, Any], records: Sequence[Record]) -> str:
    names = {str(environment.get("processor", "")): None} | {r.device: None for r in records}
    cores = f"{environment['cores']} cores" if environment.get("cores") else ""
    return ", ".join(text for text in (*names, cores) if text)


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", value_text(value)
