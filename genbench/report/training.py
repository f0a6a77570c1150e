"""Training curves of a result, and the time that each training took, as records of the metric `training_time`."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from genbench.errors import StoreError
from genbench.protocol import Protocol, protocol_hash
from genbench.records import OK, Record, row_slug

if TYPE_CHECKING:
    import pandas as pd

TRAINING_TIME = "training_time"
CURVE_COLUMNS = ["step", "images", "seconds", "name", "value"]
Curves = Mapping[str, Mapping[int, "pd.DataFrame"]]


def read_curves(directory: Path) -> dict[str, dict[int, pd.DataFrame]]:
    """The training curves in DIR/curves/<label>-s<seed>.csv, by label and seed; empty files are left out.

    Raises StoreError for a file without the columns step, images, seconds, name, value.
    """
    curves: dict[str, dict[int, pd.DataFrame]] = {}
    for path in sorted((directory / "curves").glob("*.csv")):
        match = re.fullmatch(r"(.+)-s(\d+)", path.stem)
        if match is None or path.stat().st_size == 0:
            continue
        frame = _read_curve(path)
        if len(frame):
            curves.setdefault(match[1], {})[int(match[2])] = frame
    return curves


def _read_curve(path: Path) -> pd.DataFrame:
    import pandas as pd  # late: a finished suite is recognised without tables

    try:
        frame = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OSError) as error:
        raise StoreError(f"{path}: not a table of {', '.join(CURVE_COLUMNS)}: {error}") from error
    missing = [c for c in CURVE_COLUMNS if c not in frame.columns]
    if missing:
        raise StoreError(f"{path}: columns: found no {', '.join(missing)}, allowed: {', '.join(CURVE_COLUMNS)}")
    numbers = {c: pd.to_numeric(frame[c], errors="coerce") for c in ("images", "seconds", "value")}
    finite = {c: values.replace([math.inf, -math.inf], math.nan) for c, values in numbers.items()}
    return frame.assign(**finite, name=frame["name"].astype(str).str.removeprefix("'"))


def training_records(records: Iterable[Record], curves: Curves, weights_of: Mapping[str, str]) -> list[Record]:
    """A record of `training_time` in seconds for each cell with a curve.

    weights_of: for rows that use another row's weights, the label of that row; they have its time.
    """
    first: dict[tuple[str, str, int], Record] = {}
    records = list(records)
    several = len({record.dataset for record in records}) > 1
    for record in records:
        if record.role == "model":
            first.setdefault((record.model, record.dataset, record.seed), record)
    return [made for record in first.values() for made in _time(record, curves, weights_of, several)]


def _time(record: Record, curves: Curves, weights_of: Mapping[str, str], several: bool) -> Iterator[Record]:
    owner = weights_of.get(record.model, record.model)
    curve = curves.get(row_slug(owner, record.dataset, several), {}).get(record.seed)
    seconds = float(curve["seconds"].max()) if curve is not None else math.nan
    if not math.isfinite(seconds):
        return
    made = record.protocol.get("model", {}).get("trained_with", {})
    protocol: Protocol = {"machine": {"device": str(made.get("device", "")) or record.device or "not stated"}}
    yield replace(
        record, metric=TRAINING_TIME, metric_version=1, status=OK, value=seconds, reason="", unit="s", better="lower",
        kind="", lo=None, hi=None, interval="", n_fake=None, n_real=None, warnings=(), busy="", key="",
        protocol=protocol | {"model": record.protocol.get("model", {})}, protocol_hash=protocol_hash(protocol),
    )  # fmt: skip
