"""From a suite to its cells: what each one trains, draws and measures, its keys, and what does not apply and why.

Keys form a chain; each is the hash of everything that a result depends on:
    weights <- code, config, recipe, budget, seed, data;  samples <- weights, sampler, count;  features <- samples,
    extractor;  value <- features, reference, metric.
A changed metric is therefore measured again, and nothing is trained again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from genbench import data
from genbench.data.prompts import Prompts, named_classes, read_prompts
from genbench.errors import DataError, SuiteError
from genbench.machine import choose_device, computes_bfloat16
from genbench.metrics.facts import Facts
from genbench.options import nearest
from genbench.plan.cells import Cell, SuiteVersion
from genbench.plan.pins import pinned_suite
from genbench.plan.rows import SuiteRows
from genbench.plan.trial import note_impossible_rows
from genbench.plan.views import PlannedView, refuse_unusable, without_empty_columns
from genbench.provenance import Provenance, provenance
from genbench.records import metric_name
from genbench.sources import scale
from genbench.sources.base import DataPlan, Drawing, Source
from genbench.sources.scale_row import ScaleRow, scale_row
from genbench.sources.trained import Fit, Trained
from genbench.sources.unfit import Unfit
from genbench.suite.entries import DatasetEntry
from genbench.suite.schema import Suite, check_suite_options
from genbench.suite.yaml_source import Loc


@dataclass(frozen=True)
class Plan:
    """A suite's cells in order, and the trainings they need.

    datasets: in the suite's order. columns: the names of its metrics in records, in order.
    """

    suite: Suite
    datasets: tuple[DataPlan, ...]
    cells: tuple[Cell, ...]
    columns: tuple[str, ...]
    limit_images: int | None = None

    @property
    def data(self) -> DataPlan:
        """The first dataset."""
        return self.datasets[0]

    @property
    def rows(self) -> list[str]:
        """The ids of all cells of the suite in order, including those that were not chosen."""
        suite, rows = self.suite, list[str]()
        for name in (plan.name for plan in self.datasets):
            rows += [f"{entry.label}/{name}/s{seed}" for entry in suite.models for seed in suite.seeds_of(entry)]
            rows += [f"{label}/{name}/s{suite.seeds[0]}" for label in scale.SCALE_ROWS]
        return rows

    @property
    def views(self) -> list[list[Cell]]:
        """The cells by id: of each row with each seed, one for each extractor."""
        rows: dict[str, list[Cell]] = {}
        for cell in self.cells:
            rows.setdefault(cell.id, []).append(cell)
        return list(rows.values())

    @property
    def fits(self) -> list[Fit]:
        """Every training once."""
        return list({c.source.fit.key: c.source.fit for c in self.cells if isinstance(c.source, Trained)}.values())


def make_plan(
    suite: Suite,
    *,
    models: Collection[str] | None = None,
    seeds: Collection[int] | None = None,
    limit_images: int | None = None,
    machine: str = "",
    device: str = "auto",
    try_models: bool = False,
) -> Plan:
    """The cells of a suite.

    models, seeds: only these labels and seeds. limit_images: cap on every budget and on the number of samples and
    held-out images. machine: the hardware that timings depend on. device: where models compute, which decides a
    precision of "auto". try_models: also computes a loss, images and a
    likelihood with each model, as `genbench plan` does; in a run, each training does so first. Raises SuiteError for a
    suite that cannot be run.
    """
    limited = _precise(_limited(pinned_suite(suite), limit_images), device)
    suite = limited.located()
    labels = [entry.label for entry in suite.models]
    for label in models or ():
        if label not in labels:
            raise SuiteError(f"--models: unknown '{label}'{nearest(label, labels) or ';'} allowed: {', '.join(labels)}")
    wanted = [i for i, label in enumerate(labels) if models is None or label in models]
    chosen = _chosen_seeds(suite, wanted, seeds)
    tables = [_Table(suite, limit_images, machine, at, parts) for at, parts in suite.parts()]
    refuse_unusable(suite, [(table.at, table.views) for table in tables])
    _refuse_misfits(tables, range(len(labels)))
    _refuse_impossible_metrics(suite, tables)
    for table in tables:
        note_impossible_rows(table.rows, wanted, try_models)
    _refuse_misfits(tables, wanted)
    cells: list[Cell] = []
    for table in tables:
        cells += [cell for i in wanted for seed in chosen[i] for cell in table.row(i, seed)]
        cells += [c for label in scale.SCALE_ROWS for c in table.cells(table.scale_row(label), suite.seeds[0])]
    _refuse_nothing(suite, cells)
    columns = dict.fromkeys(metric.name for cell in cells for metric in cell.metrics)
    order = {metric.name: position for position, metric in enumerate(tables[0].views[0].metrics)}
    names = sorted(columns, key=lambda column: order[metric_name(column)])
    return Plan(limited, tuple(t.data for t in tables), tuple(cells), tuple(names), limit_images)


def _chosen_seeds(suite: Suite, wanted: Collection[int], seeds: Collection[int] | None) -> dict[int, list[int]]:
    """Of each wanted row its seeds that were chosen. Raises SuiteError where that leaves none at all."""
    own = {i: suite.seeds_of(suite.models[i]) for i in wanted}
    chosen = {i: [s for s in known if not seeds or s in seeds] for i, known in own.items()}
    if not any(chosen.values()):
        allowed = ", ".join(map(str, dict.fromkeys(s for known in own.values() for s in known)))
        raise SuiteError(f"--seeds: none of them is in the suite; allowed: {allowed}")
    return chosen


def _refuse_misfits(tables: list[_Table], indices: Iterable[int]) -> None:
    """SuiteError for a model that fits none of the datasets."""
    for index in indices:
        errors = [table.rows.misfits.get(index) for table in tables]
        if errors[0] is not None and all(errors):
            raise errors[0]


def _precise(suite: Suite, device: str) -> Suite:
    """The suite with a precision in place of "auto"."""
    if suite.precision != "auto":
        return suite
    native = computes_bfloat16(choose_device(device))
    return suite.model_copy(update={"precision": "bf16" if native else "fp32"})


def _refuse_impossible_metrics(suite: Suite, tables: list[_Table]) -> None:
    """SuiteError for a metric that is listed twice, or that no model has on any dataset with any extractor."""
    views = [view for table in tables for view in table.views]
    names = [metric.name for metric in views[0].metrics]
    for index, name in enumerate(names):
        if name in names[:index]:
            raise suite.error(("metrics", index), f"found a second metric '{name}', allowed: once")
        reasons = [reason for view in views for reason in view.reasons[index]]
        if all(reasons):
            raise suite.error(("metrics", index), f"{name}: not available for any model of this suite; {reasons[0]}")


def _refuse_nothing(suite: Suite, cells: list[Cell]) -> None:
    """SuiteError when no metric can be measured for any row that is ranked."""
    planned = [metric for cell in cells if cell.source.ranked for metric in cell.metrics]
    if planned and all(metric.reason for metric in planned):
        reasons = "; ".join(dict.fromkeys(metric.reason for metric in planned))
        raise suite.error(("metrics",), f"none of them can be measured: {reasons}")


def _limited(suite: Suite, limit: int | None) -> Suite:
    if limit is None:
        return suite
    trial = suite.trial
    samples = min(limit, suite.samples, trial.samples or limit)
    held_out = min(limit, suite.likelihood_images or limit, trial.likelihood_images or limit)
    batch = min(suite.speed.batch, trial.speed_batch or suite.speed.batch)
    speed = suite.speed.model_copy(update={"batch": batch})
    changed = {"samples": samples, "block": min(samples, suite.block), "likelihood_images": held_out, "speed": speed}
    return suite.model_copy(update=changed)


class _Table:
    """One dataset of a suite: its rows, and a view for each extractor."""

    def __init__(self, suite: Suite, limit: int | None, machine: str, at: Loc, parts: list[tuple[Loc, Suite]]) -> None:
        self.suite, self.at, self.machine = parts[0][1], at, machine
        entry = self.suite.dataset
        assert entry is not None
        self.entry = {"name": entry.name, "label": entry.label, **entry.options}
        self.data = self._data(entry)
        self.prompts = self._prompts()
        self.rows = SuiteRows(self.suite, self.data, limit, self.prompts)
        self.provenance: Provenance = provenance(suite.folder)
        able = list(self.rows.able.values())
        views = [PlannedView(part, self.data, place, able, len(parts) > 1) for place, part in parts]
        self.views = without_empty_columns(views)

    def _data(self, entry: DatasetEntry) -> DataPlan:
        suite = self.suite
        try:
            declared = data.dataset_source(self.entry)
            check_suite_options(suite, self.at, entry.options, declared.options, entry.name)
            spec, fingerprint = data.describe(self.entry, suite.folder)
            sizes = data.sizes(self.entry, suite.folder)
        except DataError as error:
            raise suite.error(self.at, str(error)) from None
        return DataPlan(self.entry, suite.folder, spec, fingerprint, suite.reference, sizes)

    def _prompts(self) -> Prompts | None:
        """The suite's prompts, with the classes of this dataset that they name."""
        given = self.suite.prompts
        if given is None:
            return None
        try:
            prompts = read_prompts(self.suite.path(given.file), given.column, given.each)
        except DataError as error:
            raise self.suite.error(("prompts",), str(error)) from None
        classes = data.classes_of(self.entry, self.data.spec.classes, self.suite.folder)
        return replace(prompts, classes=named_classes(prompts.texts, classes))

    def scale_row(self, label: str) -> ScaleRow:
        """The scale row of a label."""
        return scale_row(label, self.data, self.prompts)

    def row(self, index: int, seed: int) -> Iterator[Cell]:
        """The cells of a model's row; where the model does not fit the data, every metric is n/a for that reason."""
        source = self.rows.source(index, seed)
        cells = self.cells(source, seed)
        if not isinstance(source, Unfit):
            yield from cells
            return
        for cell in cells:
            yield replace(cell, metrics=tuple(replace(planned, reason=source.reason) for planned in cell.metrics))

    def cells(self, source: Source, seed: int) -> Iterator[Cell]:
        """The cells of one row: one for each extractor. What reads no features is measured in the first."""
        suite = self.suite
        drawing = Drawing(suite.samples, seed, suite.block, suite.precision, self.prompts)
        counts = self._counts(source, drawing)
        for number, view in enumerate(self.views):
            facts = self._facts(source, drawing, view)
            planned = view.metric_plans(facts, source.capabilities, counts, only_features=number > 0)
            yield Cell(
                SuiteVersion(suite.suite, suite.version), source, self.data, drawing, view.extractor, view.options,
                facts, tuple(planned), self.provenance,
            )  # fmt: skip

    def _facts(self, source: Source, drawing: Drawing, view: PlannedView) -> Facts:
        suite, plan = self.suite, self.data
        return Facts(
            plan.name, plan.fingerprint, plan.spec.levels, plan.spec.dims, plan.reference, view.fields,
            samples=source.samples_key(plan, drawing), weights=source.weights_key, images=suite.likelihood_images,
            machine=self.machine, speed=suite.speed.model_dump(),
        )  # fmt: skip

    def _counts(self, source: Source, drawing: Drawing) -> dict[str, int | None]:
        """How many images a metric of this source is given, by the names of metrics.base.SETS."""
        drawn = source.count(self.data, drawing)
        train, test = self.data.sizes or (None, None)
        real = train if self.data.reference == "train" else test
        classes = self.data.spec.classes
        sets = {"fake": drawn, "probabilities": drawn, "real": real, "train": train, "held_out": test}
        return sets | {"classes": classes}
