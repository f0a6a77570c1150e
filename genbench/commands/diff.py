"""`genbench diff`: two results compared metric by metric, and the gate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from genbench.report import difference


@dataclass(frozen=True)
class DiffReport:
    """text: a table or JSON. sentence: the summary. closed: why the gate is closed, one line each."""

    text: str
    sentence: str
    closed: tuple[str, ...]


def compare_results(a: Path, b: Path, gate: bool, tolerance: list[str], as_json: bool) -> DiffReport:
    """Compares result b with a; gate: whether b may not be worse beyond the tolerances, each NAME=NUMBER or NUMBER%."""
    compared = difference.metric_differences(a, b)
    worse = difference.closed(compared, difference.tolerances(tolerance)) if gate else []
    text = json.dumps(difference.as_plain(compared), indent=1) if as_json else difference.difference_table(compared)
    lines = (f"gate closed: {d.model} {d.metric} is {d.verdict} {d.reason}".rstrip() for d in worse)
    return DiffReport(text, difference.sentence(compared), tuple(lines))
