"""Prints a result's leaderboard in the form of README and docs.

python tools/readme_table.py reports/reference/digits
python tools/readme_table.py reports/reference/text_to_image fid precision recall prompt_agreement
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from genbench.registry import METRICS
from genbench.report.kinds import sign

USUAL = ("fid", "kid", "precision", "recall", "bits_per_dim", "images_per_second", "evaluations")
DIGITS = {"kid": 3, "bits_per_dim": 3, "cycle_error": 3, "paired_l1": 3, "images_per_second": 0, "evaluations": 0}
ARROWS = {"higher": " ↑", "lower": " ↓"}


def cell(row: pd.Series, metric: str) -> str:
    """One number, after the sign of its kind if it is a likelihood, or n/a."""
    if pd.isna(row[metric]):
        return "n/a"
    kind = row[f"{metric}_kind"]
    return f"{sign('' if pd.isna(kind) else kind).text} {row[metric]:,.{DIGITS.get(metric, 2)}f}".lstrip()


def title(metric: str, extractor: str) -> str:
    """The head of a column; FID's head names the extractor."""
    about = METRICS[metric]
    name = f"FID ({extractor})" if metric == "fid" else about.title
    return name + ARROWS[about.better]


def extractor(records: list[dict[str, Any]]) -> str:
    """The extractor of the result's FID."""
    return next(r["protocol"]["features"]["extractor"] for r in records if r["metric"] == "fid" and r["status"] == "ok")


def main() -> None:
    """Prints models by FID, or in the suite's order where metrics are given; then the scale rows."""
    folder, chosen = Path(sys.argv[1]), sys.argv[2:]
    table = pd.read_csv(folder / "leaderboard.csv", keep_default_na=True)
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    models, metrics = table[table.role == "model"], chosen or USUAL
    order = list(dict.fromkeys(record["model"] for record in records))
    models = models.sort_values("model", key=lambda names: names.map(order.index)) if chosen else models
    features = extractor(records)
    print("| model | family | " + " | ".join(title(m, features) for m in metrics) + " |")
    print("|---|---|" + "---:|" * len(metrics))
    for _, row in pd.concat([models, table[table.role != "model"]]).iterrows():
        name = row.model if row.role == "model" else f"*scale: {row.model}*"
        family = "" if pd.isna(row.family) else row.family
        print("| " + " | ".join([name, family, *(cell(row, m) for m in metrics)]) + " |")


if __name__ == "__main__":
    main()
