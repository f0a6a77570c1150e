"""`genbench plan --estimate`: what a suite would cost on this machine, before anything is spent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from textwrap import fill

import torch

from genbench import data
from genbench.estimate import RowCost, SuiteCost, estimate
from genbench.estimate.span import TimeRange, total
from genbench.machine import cores_available, device_name, timing_machine
from genbench.plan.planner import make_plan
from genbench.runner.execution import LaunchRequest
from genbench.runner.executors import choose_execution, make_launcher
from genbench.runner.pool import worker_count
from genbench.store import Store
from genbench.suite.schema import read_suite
from genbench.text import duration

MIB, KIB_OF_GIB = 2**20, 1024
WIDTH = 80
HEADS = ("train", "draw", "measure", "timings", "memory", "disk")
NOT_INCLUDED = (
    "Not included: starting Python, planning and writing the page (seconds), and other processes on this machine. "
    "The times are extrapolated from moments; training may speed up or slow down as a processor warms up."
)


def describe_estimate(suite: Path, device: str, limit_images: int | None, say: Callable[[str], None]) -> str:
    """The estimated time, memory and disk of a suite, by row. say: is told what is being tried."""
    execution = choose_execution("local", device)
    plan = make_plan(read_suite(suite), limit_images=limit_images, machine=timing_machine(execution.device))
    preload = (module for dataset in plan.datasets for module in data.imports(dataset.entry))
    request = LaunchRequest(execution, ("genbench.estimate.trials", *preload), Path(), None, lambda task, seconds: None)
    workers = worker_count(torch.device(execution.device).type, cores_available(), len(execution.gpus))
    costs = estimate(plan, Store(), execution.device, make_launcher(request), workers, say)
    return estimate_text(costs, device_name(execution.device))


def estimate_text(costs: SuiteCost, machine: str) -> str:
    """The estimate as text of at most WIDTH columns. machine: the hardware of the device."""
    rows = [row for row in costs.rows if not row.failure]
    if not costs.rows:
        return f"{costs.suite}: everything is in the store; a run only writes the results"
    several = len({row.dataset for row in costs.rows}) > 1
    workers = f"{costs.workers} workers side by side" if costs.workers > 1 else "1 worker"
    lines = [_wrapped(f"{costs.suite} on {machine}, {workers}; tried for {duration(costs.tried)}"), ""]
    lines += _table([row for row in rows if row.ranked], [row for row in rows if not row.ranked], several)
    return "\n".join([*lines, "", *(_wrapped(text) for text in _sentences(costs))])


def _table(models: Sequence[RowCost], scale: Sequence[RowCost], several: bool) -> list[str]:
    """A line for each model, one for all scale rows, and one for all."""
    shown = [(f"{row.label} {row.dataset}" if several else row.label, row.cells, _cells([row])) for row in models]
    if scale:
        shown.append((f"{len(scale)} scale rows", 1, _cells(scale)))
    shown.append(("all", 1, _cells([*models, *scale])))
    cells = [HEADS, *(cells for _, _, cells in shown)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    room = WIDTH - sum(width + 2 for width in widths)
    names = ["", *(_name(label, seeds, room) for label, seeds, _ in shown)]
    wide = max(map(len, names))
    return ["  ".join([name.ljust(wide), *(t.rjust(w) for t, w in zip(row, widths, strict=True))])
            for name, row in zip(names, cells, strict=True)]  # fmt: skip


def _name(label: str, seeds: int, room: int) -> str:
    """A row's name, cut where it does not fit."""
    after = f", {seeds} seeds" if seeds > 1 else ""
    room -= len(after)
    return (label if len(label) <= room else f"{label[: room - 1]}…") + after


def _cells(rows: Sequence[RowCost]) -> tuple[str, ...]:
    spans = [total(getattr(row, name) for row in rows) for name in ("train", "draw", "measure", "timings")]
    peak, disk = max((row.peak for row in rows), default=0.0), sum(row.disk for row in rows)
    return (*(_short(span) for span in spans), _memory(peak), _disk(disk))


def _short(span: TimeRange) -> str:
    if span.likely == 0:
        return "-"
    least = "> " if span.at_least else ""
    return f"{least}{duration(span.likely)}" if span.likely >= 1 else "< 1 s"


def _memory(mib: float) -> str:
    return "-" if mib == 0 else f"{mib:,.0f} MiB" if mib < KIB_OF_GIB else f"{mib / KIB_OF_GIB:.1f} GiB"


def _disk(number: float) -> str:
    return "-" if number == 0 else f"{number / MIB:,.1f} MiB" if number < KIB_OF_GIB * MIB else _memory(number / MIB)


def _sentences(costs: SuiteCost) -> Iterator[str]:
    whole = costs.together + costs.alone
    least = "more than " if whole.at_least else "about "
    between = f"{duration(whole.low)} to {duration(whole.high)}"
    together, alone = duration(costs.together.likely), duration(costs.alone.likely)
    yield (
        f"{costs.suite} takes {least}{duration(whole.likely)} (likely {between}): {together} for training, drawing and "
        f"measuring, then {alone} of timings alone."
    )
    dominant = costs.dominant
    if dominant is not None and dominant.seconds.likely > 0:
        yield _dominant(dominant, total(row.seconds for row in costs.rows))
    together = f"the {costs.workers} largest processes together" if costs.workers > 1 else "the largest process"
    yield f"Memory: about {_memory(costs.memory)} for {together}. Disk: {_disk(costs.disk)} in the store."
    for row in costs.rows:
        if row.failure:
            yield f"{row.label} would fail and is not included: {row.failure}"
    for name, reason in costs.untried.items():
        yield f"{name} is not included: with a part of the images, {reason}"
    if costs.busy:
        yield f"While this was tried, {costs.busy}; the run is slower if they go on."
    yield NOT_INCLUDED


def _dominant(row: RowCost, everything: TimeRange) -> str:
    parts = {"training": row.train, "drawing": row.draw, "measuring": row.measure, "timings": row.timings}
    name = max(parts, key=lambda part: parts[part].likely)
    share = 100 * row.seconds.likely / everything.likely
    return (
        f"Longest: {row.label}, {duration(row.seconds.likely)} of one worker, {share:.0f} % of all work; "
        f"{100 * parts[name].likely / row.seconds.likely:.0f} % of it is {name}."
    )


def _wrapped(text: str) -> str:
    return fill(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
