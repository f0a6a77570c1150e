"""`genbench diff`: two results compared metric by metric, and the gate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from genbench.report import difference
from genbench.report.difference_text import DiffLine, difference_lines


@dataclass(frozen=True)
class DiffReport:
    """sentence: the verdict. lines: the table. data: the same as JSON. closed: why the gate is closed."""

    sentence: str
    lines: tuple[DiffLine, ...]
    data: str
    closed: tuple[str, ...]


def compare_results(
    a: Path, b: Path, gate: bool, tolerance: list[str], everything: bool = False, html: Path | None = None
) -> DiffReport:
    """Compares result b with a.

    gate: whether b may not be worse beyond the tolerances, each NAME=NUMBER or NUMBER%. everything: shows what does not
    differ too. html: the page to write.
    """
    compared = difference.metric_differences(a, b)
    worse = difference.closed(compared, difference.tolerances(tolerance)) if gate else []
    closed = (f"gate closed: {d.model} {d.metric} is {d.verdict} {d.reason}".rstrip() for d in worse)
    if html is not None:
        from genbench.report.difference_page import write_difference_page

        write_difference_page(html, a, b, compared)
    data = json.dumps(difference.as_plain(compared), indent=1)
    return DiffReport(difference.sentence(compared), tuple(difference_lines(compared, everything)), data, tuple(closed))
