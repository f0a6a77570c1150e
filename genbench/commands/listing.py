"""What the small commands print: a plan, what there is, what the store holds, a picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from genbench.errors import CellFailure, GenbenchError
from genbench.plan.cells import Cell
from genbench.plan.planner import Plan, make_plan
from genbench.progress import silent
from genbench.registry import model_names, nearest
from genbench.report.grids import save_grid
from genbench.sources.base import Opened
from genbench.sources.trained import Trained
from genbench.store import Kind, Store
from genbench.suite.schema import read_suite

if TYPE_CHECKING:
    from genbench.contract import Model


def plan(suite: Path, device: str, limit_images: int | None) -> str:
    """The cells of a suite: what is in the store, what would run, what does not apply and why."""
    from genbench.machine import choose_device, timing_machine

    found = make_plan(read_suite(suite), limit_images=limit_images, machine=timing_machine(choose_device(device)))
    store = Store()
    lines = [f"{found.suite.suite}: {len(found.cells)} cells on {found.suite.dataset.name}, store {store.root}"]
    lines += [line for cell in found.cells for line in _cell_lines(cell, store)]
    return "\n".join([*lines, "", *_reasons(found)]).rstrip()


def _cell_lines(cell: Cell, store: Store) -> list[str]:
    applies = [m for m in cell.metrics if not m.reason]
    there = sum(store.has(Kind.VALUES, m.key) for m in applies)
    steps = [f"samples {'stored' if store.has(Kind.SAMPLES, cell.samples_key) else 'to draw'}"]
    if isinstance(cell.source, Trained):
        fit = cell.source.fit
        trained = store.has(Kind.WEIGHTS, fit.key)
        of = "" if fit.label == cell.label else f" of {fit.label}"
        steps.insert(0, f"weights{of} {'stored' if trained else f'to train on {fit.images:,} images'}")
    return [f"  {cell.id:32} {', '.join(steps)}, {there} of {len(applies)} values stored"]


def _reasons(found: Plan) -> list[str]:
    rows = [(m.name, m.reason, c.label) for c in found.cells for m in c.metrics if m.reason]
    reasons: dict[tuple[str, str], list[str]] = {}
    for name, reason, label in rows:
        reasons.setdefault((label, reason), []).append(name)
    return [f"  n/a: {label}: {', '.join(names)}: {reason}" for (label, reason), names in reasons.items()]


def ls(what: str) -> str:
    """The names of one kind of thing, each with a line about it."""
    kinds = {"models": _models, "datasets": _datasets, "metrics": _metrics, "features": _features, "suites": _suites}
    if what not in kinds:
        raise GenbenchError(f"ls: unknown '{what}'{nearest(what, kinds) or ';'} allowed: {', '.join(kinds)}")
    rows = kinds[what]()
    return "\n".join(f"{name:20} {text}".rstrip() for name, text in rows)


def _models() -> list[tuple[str, str]]:
    from genbench.contract import abilities
    from genbench.registry import resolve_model

    return [(name, ", ".join(abilities(resolve_model(name))) or "samples only") for name in sorted(model_names())]


def _datasets() -> list[tuple[str, str]]:
    from genbench import data

    return [(name, data.about(name)) for name in data.names()]


def _metrics() -> list[tuple[str, str]]:
    from genbench import metrics

    return [(m.name, f"{m.title} ({m.unit or 'no unit'}, {m.better} is better)") for m in metrics.METRICS.values()]


def _features() -> list[tuple[str, str]]:
    from genbench import features

    return [(name, features.about(name)) for name in features.names()]


def _suites() -> list[tuple[str, str]]:
    folder = Path("suites")
    if not folder.is_dir():
        raise GenbenchError(f"ls suites: no folder 'suites' in {Path.cwd()}; run it where the suites are")
    return [(str(p), ", ".join(e.label for e in read_suite(p).models)) for p in sorted(folder.glob("*.yaml"))]


def cache(prune: bool) -> str:
    """What the store holds by kind, or what was freed."""
    store = Store()
    if prune:
        return f"{store.root}: {size(store.prune())} freed"
    entries = store.entries()
    kinds = sorted({(e.kind, e.finished) for e in entries})
    lines = [f"{store.root}: {size(sum(e.size for e in entries))}"]
    for kind, finished in kinds:
        group = [e for e in entries if (e.kind, e.finished) == (kind, finished)]
        name = kind if finished else f"{kind} (unfinished)"
        lines.append(f"  {name:24} {len(group):6,}  {size(sum(e.size for e in group))}")
    return "\n".join(lines)


def size(count: int) -> str:
    """Bytes as text."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} GiB"


def check(name: str, shape: str, levels: int) -> tuple[str, bool]:
    """A line for each conformance check of a model, and whether all passed."""
    from genbench.check import check_model
    from genbench.contract import DataSpec
    from genbench.registry import resolve_model

    sizes = shape.split("x")
    if len(sizes) != 3 or not all(part.isdigit() and int(part) for part in sizes):
        raise GenbenchError(f"--shape: found '{shape}', allowed: channels x height x width, e.g. 1x8x8")
    channels, height, width = map(int, sizes)
    kind = resolve_model(name, name if ":" in name else None)
    results = check_model(kind, DataSpec(channels, height, width, levels, classes=10))
    lines = [f"{'ok    ' if r.passed else 'FAILED'} {r.name}{': ' + r.message if r.message else ''}" for r in results]
    passed = sum(r.passed for r in results)
    return "\n".join([*lines, f"{name}: {passed} of {len(results)} checks passed"]), passed == len(results)


def sample(name: str, suite: Path | None, n: int, seed: int, out: Path, device: str) -> str:
    """Writes a grid of samples and says what it shows."""
    from genbench.contract import DataSpec, Translates
    from genbench.draw.blocks import draw
    from genbench.machine import choose_device
    from genbench.sources.build import load_model

    place = choose_device(device)
    if suite is None:
        model, text = load_model(name, data=DataSpec(1, 28, 28, 256, 10), seed=seed), "untrained"
    else:
        model, text = _trained(name, suite), "trained"
    if isinstance(model, Translates):
        raise GenbenchError(f"{name} translates images and draws none by itself; `genbench run` shows its translations")
    drawn = draw(model.to(place), n, seed)
    save_grid(drawn.pixels.numpy(), model.data.levels, out)
    return f"{out}: {n} samples of {name} ({text}), seed {seed}, {drawn.evaluations:g} network evaluations an image"


def _trained(name: str, suite: Path) -> Model:
    planned = make_plan(read_suite(suite)).cells
    cells = {key: c for c in planned if not c.source.capabilities.no_network for key in (c.id, c.label)}
    if name not in cells:
        raise GenbenchError(f"{suite}: no cell '{name}'{nearest(name, cells) or ';'} allowed: {', '.join(cells)}")
    cell = cells[name]
    try:
        return Opened(cell.source, cell.data, cell.drawing, Store(), "cpu", silent).model
    except CellFailure as error:
        raise GenbenchError(f"{name}: {error}; `genbench run {suite}` trains it") from None
