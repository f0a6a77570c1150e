"""Results for programs: the wide leaderboard, and the tidy scores with one row for each measurement."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from genbench.files import whole
from genbench.records import Record
from genbench.text import cell_text

SCORES = (
    "suite", "suite_version", "dataset", "model", "role", "family", "given", "seed", "metric", "metric_version",
    "status", "value", "lo", "hi", "interval", "kind", "unit", "better", "reason", "busy", "n_fake", "n_real",
    "protocol_hash", "device", "genbench", "revision", "time", "run",
)  # fmt: skip
WHOLE = ("suite_version", "seed", "metric_version", "n_fake", "n_real")
NUMBERS = ("value", "lo", "hi")


def scores(records: Iterable[Record]) -> pd.DataFrame:
    """A row for each dataset, model, seed and metric; columns as in SCORES.

    `status` is ok, n/a or failed, and `reason` says why there is no value.
    """
    frame = pd.DataFrame([[getattr(r, name) for name in SCORES] for r in records], columns=list(SCORES))
    texts = [name for name in SCORES if name not in (*WHOLE, *NUMBERS)]
    types = dict.fromkeys(WHOLE, "Int64") | dict.fromkeys(NUMBERS, "float64") | dict.fromkeys(texts, "string")
    return frame.astype(types)


def write_frame(directory: Path, name: str, frame: pd.DataFrame) -> list[Path]:
    """NAME.csv and NAME.parquet."""
    csv, parquet = directory / f"{name}.csv", directory / f"{name}.parquet"
    with whole(csv) as partial:
        _as_cells(frame).to_csv(partial, index=False)
    with whole(parquet) as partial:
        frame.to_parquet(partial, index=False)
    return [csv, parquet]


def _as_cells(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with texts, and names of columns, that no spreadsheet takes for a formula."""
    safe = frame.copy()
    names: list[str] = list(frame.select_dtypes("string").columns)
    for name in names:
        texts = {text: cell_text(text) for text in frame[name].dropna().unique()}
        if any(text != shown for text, shown in texts.items()):
            safe[name] = frame[name].map(texts)
    return safe.rename(columns=cell_text)
