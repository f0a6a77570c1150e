"""From records to leaderboards: one entry per row and metric, means over seeds, ranks with ties."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from genbench.metrics import metric_names
from genbench.metrics.base import cut_interval
from genbench.records import FAILED, NOT_APPLICABLE, OK, Record, unique_records
from genbench.report.guard import comparable, differences, listed
from genbench.report.kinds import weakest, why_unranked
from genbench.report.poor import no_better_than_noise
from genbench.report.ranks import ranks

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.95
# Fields of the branch `model` with the hardware and the version of torch behind a row, and what was done with them.
MADE_WITH = {
    "trained_with": "Rows were trained", "drawn_with": "Rows were drawn",
    "features_with": "Features of the samples were extracted",
    "reference_with": "Features of the reference were extracted", "likelihoods_with": "Likelihoods were computed",
    "measured_with": "Metrics were computed",
}  # fmt: skip
ENDS = ("", "_lo", "_hi", "_kind", "_rank")  # of a metric's columns


@dataclass(frozen=True)
class Entry:
    """One metric of one row, over its seeds.

    value, lo, hi: null unless status is ok; interval says how lo..hi was computed. reason: why there is no value.
    seeds: those of the value. missing: which seeds have no value and why, "" when all have one. busy: which seeds
    were timed on a busy machine, and what kept it busy. record: one of the records of the entry, for its protocol.
    """

    status: str
    record: Record
    value: float | None = None
    lo: float | None = None
    hi: float | None = None
    interval: str = ""
    kind: str = ""
    reason: str = ""
    seeds: tuple[int, ...] = ()
    missing: str = ""
    busy: str = ""

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.status == OK

    @property
    def why_no_rank(self) -> str:
        """Why a value is not ranked, as far as the entry alone decides it; "" when it is.

        A value that depends on the machine (a timing, peak memory) differs from one measurement to the next although
        the model is the same, so it is ranked only with a 95 % interval of repeats.
        """
        if self.missing:
            return f"{self.missing}; the mean is over the other seeds, so it is not ranked."
        if self.busy:
            return f"timed on a busy machine ({self.busy}), so it is not ranked."
        if self.record.protocol.get("machine") and (self.lo is None or "95 %" not in self.interval):
            known = (
                f"its interval is {_count_left_out(self.interval)}" if self.interval else "measured once on the machine"
            )
            return f"{known}; such a cost is ranked only with a 95 % interval of repeats."
        return ""

    @property
    def low(self) -> float:
        """The interval's lower end, or the value where there is no interval."""
        return self.number if self.lo is None else self.lo

    @property
    def high(self) -> float:
        """The interval's upper end, or the value where there is no interval."""
        return self.number if self.hi is None else self.hi

    @property
    def number(self) -> float:
        """The value of an entry that is ok."""
        assert self.value is not None
        return self.value


@dataclass(frozen=True)
class Row:
    """A model (or a scale row) on one dataset; entries by metric. given: as in a record.

    made_with: by field of the protocol's branch `model` (MADE_WITH), each device and torch version that the row's
    weights, samples, features or likelihoods were made with, with the seeds that it holds for.
    """

    model: str
    dataset: str
    role: str
    family: str
    seeds: tuple[int, ...]
    entries: dict[str, Entry]
    given: str = ""
    made_with: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)

    @property
    def is_model(self) -> bool:
        """Whether the row may be ranked."""
        return self.role == "model"

    def model_fact(self, name: str) -> Any:
        """The value of a field of the protocol's branch `model` in the first record that has one, or None."""
        values = (e.record.protocol.get("model", {}).get(name) for e in self.entries.values())
        return next((value for value in values if value is not None), None)


@dataclass(frozen=True)
class Column:
    """One metric of all rows.

    extractor: the feature extractor of all values, "" for none or several. unranked: a sentence with the reason why the
    models are not ranked, "" when they are. notes: further sentences for the reader. ranks: by model, see
    genbench.report.ranks; empty when there is nothing to rank.
    """

    metric: str
    better: str
    unit: str
    extractor: str
    unranked: str
    notes: tuple[str, ...]
    ranks: dict[str, int]

    @property
    def best(self) -> frozenset[str]:
        """The models of rank 1; none where every ranked model has it."""
        first = frozenset(model for model, rank in self.ranks.items() if rank == 1)
        return first if len(first) < len(self.ranks) else frozenset()


@dataclass(frozen=True)
class Board:
    """The leaderboard of one dataset.

    rows: ranked models by the main metric, other models, scale rows; each in order of appearance where nothing else
    decides.
    """

    dataset: str
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]

    @property
    def main(self) -> Column | None:
        """The main metric: the first one in which models are ranked."""
        return next((c for c in self.columns if c.ranks), None)

    @property
    def models(self) -> tuple[Row, ...]:
        """The rows that may be ranked."""
        return tuple(r for r in self.rows if r.is_model)

    @property
    def scale(self) -> tuple[Row, ...]:
        """The rows that show the range of each metric."""
        return tuple(r for r in self.rows if not r.is_model)


def _count_left_out(interval: str) -> str:
    """How an interval was computed, without the number of repeats, which differs between rows."""
    return re.sub(r" of \d+ ", " of the ", interval)


def leaderboard(records: Iterable[Record]) -> pd.DataFrame:
    """A row per model and dataset, in the page's order: models by the main metric, scale rows last.

    Columns: `model`, `dataset`, `role`, `family`, `seeds` (how many), and for each metric `<metric>`, `<metric>_lo`,
    `<metric>_hi` (float, NaN where n/a), `<metric>_kind` ("mass", "density", "bound" or "estimate" of a likelihood, NA
    for other metrics) and `<metric>_rank` (whole, NA where not ranked). `busy`, the last: the metrics that were timed
    on a busy machine, NA where none was.
    """
    return flat(boards(records))


def flat(datasets: Sequence[Board]) -> pd.DataFrame:
    """The boards as one table, see `leaderboard`."""
    import pandas as pd  # late: a finished suite is recognised without tables

    metrics = metric_order(c.metric for board in datasets for c in board.columns)
    data = [_flat(row, metrics, board) for board in datasets for row in board.rows]
    columns = ["model", "dataset", "role", "family", "seeds"]
    columns += [f"{metric}{end}" for metric in metrics for end in ENDS]
    types = {c: _dtype(c) for c in columns[5:]} | dict.fromkeys([*columns[:4], "busy"], "string") | {"seeds": "int64"}
    return pd.DataFrame(data, columns=[*columns, "busy"]).astype(types)


def _dtype(column: str) -> str:
    if column.endswith("_rank"):
        return "Int64"
    return "string" if column.endswith("_kind") else "float64"


def _flat(row: Row, metrics: Sequence[str], board: Board) -> dict[str, Any]:
    ranked = {c.metric: c.ranks.get(row.model) for c in board.columns}
    data: dict[str, Any] = {"model": row.model, "dataset": row.dataset, "role": row.role, "family": row.family}
    data["seeds"] = len(row.seeds)
    data["busy"] = ", ".join(m for m in metrics if m in row.entries and row.entries[m].busy) or None
    for metric in metrics:
        entry = row.entries.get(metric)
        if entry is not None and entry.ok:
            data |= {metric: entry.value, f"{metric}_lo": entry.lo, f"{metric}_hi": entry.hi}
            data |= {f"{metric}_kind": entry.kind or None, f"{metric}_rank": ranked.get(metric)}
    return data


def boards(records: Iterable[Record]) -> list[Board]:
    """One leaderboard per dataset, in order of appearance.

    Raises StoreError for two different records of one cell and metric.
    """
    by_dataset: dict[str, list[Record]] = {}
    for record in unique_records(records):
        by_dataset.setdefault(record.dataset, []).append(record)
    return [_board(dataset, group) for dataset, group in by_dataset.items()]


def _board(dataset: str, records: list[Record]) -> Board:
    by_model: dict[str, list[Record]] = {}
    for record in records:
        by_model.setdefault(record.model, []).append(record)
    rows = sorted((_row(group) for group in by_model.values()), key=lambda r: not r.is_model)
    metrics = metric_order(r.metric for r in records)
    board = Board(dataset, tuple(rows), tuple(_column(metric, rows) for metric in metrics))
    return replace(board, rows=tuple(sorted(rows, key=lambda row: _place(row, board.main))))


def _place(row: Row, main: Column | None) -> tuple[bool, float]:
    """Whether it is a scale row, and the distance from the best possible value of the main metric."""
    if main is None or row.model not in main.ranks:
        return not row.is_model, math.inf
    value = row.entries[main.metric].number
    return not row.is_model, value if main.better == "lower" else -value


def metric_order(metrics: Iterable[str]) -> list[str]:
    """Each metric once: known ones in the order of genbench.metrics, then others in order of appearance."""
    rank = {metric: position for position, metric in enumerate(metric_names())}
    return sorted(dict.fromkeys(metrics), key=lambda m: rank.get(m, len(rank)))


def _row(records: list[Record]) -> Row:
    first = records[0]
    by_metric: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda r: r.seed):
        by_metric.setdefault(record.metric, []).append(record)
    seeds = tuple(sorted({r.seed for r in records}))
    entries = {metric: over_seeds(group) for metric, group in by_metric.items()}
    family = next((r.family for r in records if r.family), "")
    made_with = {name: _made_with(records, name) for name in MADE_WITH}
    return Row(first.model, first.dataset, first.role, family, seeds, entries, first.given, made_with)


def _made_with(records: Sequence[Record], name: str) -> dict[str, tuple[int, ...]]:
    seeds: dict[str, set[int]] = {}
    for record in records:
        made = record.protocol.get("model", {}).get(name)
        if made:
            seeds.setdefault(f"{made['device']} with torch {made['torch']}", set()).add(record.seed)
    return {text: tuple(sorted(numbers)) for text, numbers in seeds.items()}


def over_seeds(records: Sequence[Record]) -> Entry:
    """One metric of one row over its seeds: the mean with a t interval, or a single seed's value with its own.

    There is no value when no seed has one, or when the seeds were measured under different protocols.
    """
    good = [r for r in records if r.status == OK]
    if not good:
        status = FAILED if any(r.status == FAILED for r in records) else NOT_APPLICABLE
        return Entry(status, records[0], reason=_reasons(records))
    if len({comparable(r) for r in good}) > 1:
        fields = "; ".join(differences([(f"seed {r.seed}", r) for r in good]))
        return Entry(NOT_APPLICABLE, good[0], reason=f"its seeds were measured under different protocols: {fields}")
    value, lo, hi, interval = _mean(good)
    kind = weakest(r.kind for r in good)
    seeds = tuple(r.seed for r in good)
    missing = _reasons([r for r in records if r.status != OK], named=True)
    busy = _named([(r.busy, r.seed) for r in good if r.busy])
    return Entry(OK, good[0], value, lo, hi, interval, kind, seeds=seeds, missing=missing, busy=busy)


def _reasons(records: Sequence[Record], named: bool = False) -> str:
    """Every reason once; with its seeds where there are several reasons, or always with `named`."""
    if len({(r.status, r.reason) for r in records}) == 1 and not named:
        return records[0].reason
    return _named([(f"{r.status}: {r.reason}", r.seed) for r in records])


def _named(texts: Sequence[tuple[str, int]]) -> str:
    """Each text once, after the seeds that it holds for."""
    seeds: dict[str, list[str]] = {}
    for text, seed in texts:
        seeds.setdefault(text, []).append(str(seed))
    return "; ".join(f"{_seeds(numbers)} {text}" for text, numbers in seeds.items())


def _seeds(numbers: Sequence[str]) -> str:
    return f"seed {numbers[0]}" if len(numbers) == 1 else f"seeds {', '.join(numbers)}"


def _mean(records: Sequence[Record]) -> tuple[float, float | None, float | None, str]:
    if len(records) == 1:
        only = records[0]
        assert only.value is not None
        return only.value, only.lo, only.hi, only.interval
    values = [r.value for r in records if r.value is not None]
    half = t_half_width(values)
    mean = statistics.fmean(values)
    lo, hi = cut_interval(records[0].unit, mean, mean - half, mean + half)
    return mean, lo, hi, f"t {100 * LEVEL:.0f} % over {len(values)} seeds"


def t_half_width(values: Sequence[float]) -> float:
    """Half the width of Student's 95 % interval for the mean of n >= 2 values: t_(0.975, n-1) s / sqrt(n)."""
    from scipy.special import stdtrit  # late, as above

    quantile = float(stdtrit(len(values) - 1, (1 + LEVEL) / 2))
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


def _column(metric: str, rows: Sequence[Row]) -> Column:
    first = next(r.entries[metric].record for r in rows if metric in r.entries)
    good = [(r, r.entries[metric]) for r in rows if metric in r.entries and r.entries[metric].ok]
    models = [(r.model, e) for r, e in good if r.is_model]
    unranked = _why_unranked(models)
    extractors = {e.record.protocol.get("features", {}).get("extractor", "") for _, e in good}
    extractor = str(extractors.pop()) if len(extractors) == 1 else ""
    record = good[0][1].record if good else first
    candidates = {model: e for model, e in models if not e.why_no_rank}
    ranked = {} if unranked or len(candidates) < 2 else ranks(candidates, record.better)
    return Column(metric, record.better, record.unit, extractor, unranked, _notes(good), ranked)


def _why_unranked(models: Sequence[tuple[str, Entry]]) -> str:
    if len({comparable(e.record) for _, e in models}) > 1:
        fields = "; ".join(differences([(model, e.record) for model, e in models]))
        return f"not ranked, its rows were measured under different protocols: {fields}."
    return why_unranked({e.kind for _, e in models})


def _notes(good: Sequence[tuple[Row, Entry]]) -> tuple[str, ...]:
    alone: dict[str, list[str]] = {}
    for row, e in good:
        if why := e.why_no_rank:
            alone.setdefault(why, []).append(row.model)
    notes = [f"{listed(labels)}: {why}" for why, labels in alone.items()]
    notes += no_better_than_noise([(e.record, e.number) for _, e in good])
    models = {comparable(e.record): e.record for row, e in good if row.is_model}
    if len(models) != 1:
        return tuple(notes)
    (key, reference), *_ = models.items()
    for row, e in good:
        if comparable(e.record) != key:
            fields = "; ".join(differences([("the models", reference), (row.model, e.record)]))
            notes.append(f"the scale row {row.model} was measured under another protocol: {fields}.")
    return tuple(notes)
