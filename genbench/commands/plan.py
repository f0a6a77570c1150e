"""`genbench plan`: the cells of a suite, what is already stored, and what does not apply and why."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

from genbench.machine import choose_device, timing_machine
from genbench.plan.cells import Cell
from genbench.plan.planner import Plan, make_plan
from genbench.registry import REGISTRIES
from genbench.report.metric_help import without_row
from genbench.sources.trained import Fit, Trained
from genbench.store import Kind, Store
from genbench.suite.schema import read_suite
from genbench.text import aligned

COLUMNS, WIDTH = ("cell", "weights", "samples", "values"), 80


def describe_plan(suite: Path, device: str, limit_images: int | None) -> str:
    """The cells of a suite, one line each, and for each reason why metrics do not apply, the metrics and the rows."""
    device = choose_device(device)
    plan = make_plan(
        read_suite(suite), limit_images=limit_images, machine=timing_machine(device), device=device, try_models=True
    )
    store, names = Store(), ", ".join(data.name for data in plan.datasets)
    precision = plan.suite.precision
    lines = [f"{plan.suite.suite}: {len(plan.views)} cells on {names}, {precision}", f"store: {store.location}"]
    lines += _prompt_lines(plan)
    cells = aligned([COLUMNS, *(_cell_row(views, store) for views in plan.views)])
    doubts = [f"warning: {fit.label}: {text}" for fit in _each_label(plan) for text in fit.doubts]
    notes = [line for text in [*_presets(plan), *doubts, *_reasons(plan)] for line in _wrapped(text)]
    return "\n".join([*lines, "", cells, "", *notes]).rstrip()


def _wrapped(text: str) -> list[str]:
    """Lines of a text; names and paths stay whole."""
    return wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _prompt_lines(plan: Plan) -> list[str]:
    """How the suite's prompts belong to images; none without prompts."""
    given, prompts = plan.suite.prompts, plan.cells[0].drawing.prompts
    if given is None or prompts is None:
        return []
    count, used = len(prompts.texts), -(-plan.suite.samples // prompts.each)
    unused = f"; {count - used:,} of them are not used with samples: {plan.suite.samples}" if used < count else ""
    return [f"  prompts: {count:,} of {given.file}, {_images(prompts.each)} in a row for each{unused}"]


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"


def _each_label(plan: Plan) -> list[Fit]:
    """A training of each label; seeds do not differ in their doubts."""
    return list({fit.label: fit for fit in plan.fits}.values())


def describe_without_code(path: Path) -> str:
    """The entries of a suite, and what a plan or run would import, of which nothing is imported."""
    suite = read_suite(path)
    code = [entry.source or entry.name for entry in suite.models if entry.samples is None]
    code += [*(entry.name for _, entry in suite.data_entries), *(name for _, name in suite.extractors), *suite.metrics]
    foreign = sorted({name for name in code if not any(registry.is_built_in(name) for registry in REGISTRIES)})
    seeds = {seed for entry in suite.models for seed in suite.seeds_of(entry)}
    lines = [f"{suite.suite}: {len(suite.models)} models, {len(seeds)} seeds, {len(suite.metrics)} metrics"]
    lines += [f"  {entry.label}: {entry.source or entry.samples or entry.name}" for entry in suite.models]
    return "\n".join([*lines, *(f"  a plan or run imports: {name}" for name in foreign)])


def _cell_row(views: list[Cell], store: Store) -> tuple[str, ...]:
    """COLUMNS of a cell; views: it with each extractor."""
    cell = views[0]
    applicable = [m for view in views for m in view.metrics if not m.reason]
    if not applicable:
        return (cell.id, "", "", "none apply")
    stored = sum(store.has(Kind.VALUES, m.key) for m in applicable)
    weights = _weights_of(cell, cell.source.fit, store) if isinstance(cell.source, Trained) else "none to train"
    samples = "stored" if store.has(Kind.SAMPLES, cell.samples_key) else "to draw"
    return (cell.id, weights, samples, f"{stored}/{len(applicable)} stored")


def _weights_of(cell: Cell, fit: Fit, store: Store) -> str:
    of = "" if fit.label == cell.label else f"of {fit.label}, "
    if store.has(Kind.WEIGHTS, fit.key):
        return f"{of}stored"
    preset = fit.preset.removeprefix("preset ").partition(" (")[0]
    return f"{of}to train" if of else f"train on {_images(fit.images)}, {preset}"


def _presets(plan: Plan) -> list[str]:
    """What presets change in the recipes of the rows."""
    return [f"{fit.label}: {fit.preset}" for fit in _each_label(plan) if "(" in fit.preset]


def _reasons(plan: Plan) -> list[str]:
    """A sentence for each set of metrics that do not apply for the same reason, without the row's name."""
    metrics: dict[tuple[str, str], list[str]] = {}
    for cell in plan.cells:
        for m in cell.metrics:
            if m.reason:
                metrics.setdefault((cell.label, without_row(m.reason, cell.label)), []).append(m.name)
    rows: dict[tuple[str, str], list[str]] = {}
    for (label, reason), names in metrics.items():
        rows.setdefault((", ".join(dict.fromkeys(names)), reason), []).append(label)
    return [f"n/a: {names}: {reason}: {', '.join(labels)}" for (names, reason), labels in rows.items()]
