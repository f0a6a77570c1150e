"""Prints the README's leaderboard from a result: `python tools/readme_table.py reports/reference/digits`."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

COLUMNS = (
    ("fid", 2), ("kid", 3), ("precision", 2), ("recall", 2), ("bits_per_dim", 3),
    ("images_per_second", 0), ("evaluations", 0),
)  # fmt: skip
HEAD = (
    "| model | family | FID (digits-classifier) ↓ | KID ↓ | precision ↑ | recall ↑ | bits/dim ↓ "
    "| images/s ↑ | network evaluations |"
)
KINDS = {"=": "= ", "<=": "≤ ", "~": "~ "}


def cell(row: pd.Series, metric: str, digits: int) -> str:
    """One number with its kind where that matters, or n/a."""
    if pd.isna(row[metric]):
        return "n/a"
    kind = KINDS[row[f"{metric}_kind"]] if metric == "bits_per_dim" else ""
    return f"{kind}{row[metric]:,.{digits}f}"


def main() -> None:
    """Models by FID, then the scale rows as they come."""
    table = pd.read_csv(Path(sys.argv[1]) / "leaderboard.csv", keep_default_na=True)
    models = table[table.role == "model"].sort_values("fid")
    print(HEAD)
    print("|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for _, row in pd.concat([models, table[table.role != "model"]]).iterrows():
        name = row.model if row.role == "model" else f"*scale: {row.model}*"
        family = "" if pd.isna(row.family) else row.family
        print("| " + " | ".join([name, family, *(cell(row, m, d) for m, d in COLUMNS)]) + " |")


main()
