"""Prints a result's leaderboard as README and docs show it: `python tools/readme_table.py reports/reference/digits`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pandas as pd

COLUMNS = (
    ("fid", 2), ("kid", 3), ("precision", 2), ("recall", 2), ("bits_per_dim", 3),
    ("images_per_second", 0), ("evaluations", 0),
)  # fmt: skip
HEAD = (
    "| model | family | FID ({extractor}) ↓ | KID ↓ | precision ↑ | recall ↑ | bits/dim ↓ "
    "| images/s ↑ | network evaluations |"
)
KINDS = {"=": "= ", "<=": "≤ ", "~": "~ "}


def cell(row: pd.Series, metric: str, digits: int) -> str:
    """One number with its kind where that matters, or n/a."""
    if pd.isna(row[metric]):
        return "n/a"
    kind = KINDS[row[f"{metric}_kind"]] if metric == "bits_per_dim" else ""
    return f"{kind}{row[metric]:,.{digits}f}"


def extractor(folder: Path) -> str:
    """The extractor of the result's FID."""
    records = map(json.loads, (folder / "records.jsonl").read_text().splitlines())
    return next(r["protocol"]["extractor"] for r in records if r["metric"] == "fid" and r["status"] == "ok")


def main() -> None:
    """Models by FID, then the scale rows as they come."""
    folder = Path(sys.argv[1])
    table = pd.read_csv(folder / "leaderboard.csv", keep_default_na=True)
    models = table[table.role == "model"].sort_values("fid")
    print(HEAD.format(extractor=extractor(folder)))
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for _, row in pd.concat([models, table[table.role != "model"]]).iterrows():
        name = row.model if row.role == "model" else f"*scale: {row.model}*"
        family = "" if pd.isna(row.family) else row.family
        print("| " + " | ".join([name, family, *(cell(row, m, d) for m, d in COLUMNS)]) + " |")


main()
