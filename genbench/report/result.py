"""A result in Python: what `genbench.run` returns and `genbench.read_result` reads."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genbench.errors import StoreError
from genbench.files import refuse_unsafe
from genbench.records import FAILED, OK, Record, read_records
from genbench.text import aligned, printable

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = 100  # characters of the table in a repr
_ROWS = 40


@dataclass(frozen=True, repr=False)
class Result:
    """The result of a suite.

    directory: its folder. records: one for each metric of each cell, in the suite's order. measured: how many of them
    this call measured.

        result = genbench.read_result("reports/digits")
        result  # shows a table of the models and the first metrics
        result.leaderboard.sort_values("fid")  # a pandas frame, with intervals and ranks
    """

    directory: Path
    records: tuple[Record, ...]
    measured: int = 0

    @property
    def failed(self) -> list[Record]:
        """Records of what failed."""
        return [r for r in self.records if r.status == FAILED]

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """A row per model and dataset; columns as in leaderboard.csv."""
        from genbench.report.aggregate import leaderboard

        return leaderboard(self.records)

    def __repr__(self) -> str:
        """One line about the result, and a table of as many metrics as 100 characters hold."""
        return printable("\n".join([self._summary(), *_table(self.leaderboard, list(self._metrics()))]))

    def _repr_html_(self) -> str:
        """The table of a notebook."""
        shown = self.leaderboard[["model", *(m for m in self._metrics() if m in self.leaderboard)]]
        return f"<p>{self._summary()}</p>{shown.to_html(index=False, na_rep='', float_format='{:.4g}'.format)}"

    def _summary(self) -> str:
        suites = ", ".join(sorted({r.suite for r in self.records}))
        values, failed = sum(r.status == OK for r in self.records), len(self.failed)
        return f"{suites}: {values} values, {failed} failed; page: {self.directory / 'leaderboard.html'}"

    def _metrics(self) -> Iterator[str]:
        """Names of the metrics that have a value, in the order of the records."""
        return iter(dict.fromkeys(r.metric for r in self.records if r.status == OK))


def read_result(directory: Path | str) -> Result:
    """The result in a folder that `genbench run` wrote, read without torch.

    Raises StoreError for a folder without records and for records that cannot be read.
    """
    folder = Path(directory)
    refuse_unsafe(folder)
    records = read_records(folder / "records.jsonl")
    if not records:
        raise StoreError(f"{folder / 'records.jsonl'}: found no records; `genbench run SUITE` writes them")
    return Result(folder, tuple(records))


def _table(frame: pd.DataFrame, metrics: list[str]) -> Iterator[str]:
    """The frame as lines of text: a row for each model, and as many metrics as fit."""
    columns = [[name, *map(_number, frame[name])] for name in metrics if name in frame]
    cells = [["model", *map(str, frame["model"])]]
    for column in columns:
        if sum(2 + max(map(len, c)) for c in [*cells, column]) > _WIDTH:
            break
        cells.append(column)
    lines = aligned(list(zip(*cells, strict=True))).splitlines()
    yield from lines[: _ROWS + 1]
    if len(lines) > _ROWS + 1:
        yield f"... and {len(lines) - _ROWS - 1} more rows"
    if len(cells) <= len(columns):
        yield f"... and {len(columns) - len(cells) + 1} more metrics: .leaderboard has all"


def _number(value: Any) -> str:
    """Four significant digits; nothing for a value that is absent."""
    return f"{value:.4g}" if isinstance(value, int | float) and math.isfinite(value) else ""
