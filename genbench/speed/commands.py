"""`genbench speed`: shows a table of costs, writes a baseline, compares with one, or compares two revisions."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any, NamedTuple

from genbench.errors import CellFailure, GenbenchError
from genbench.interruption import Unwinding
from genbench.machine import choose_device
from genbench.speed import baseline, paired
from genbench.speed.client import Worker
from genbench.speed.comparison import BUSY, Comparison, read_tolerance, shown_rate, summary
from genbench.speed.profile import Profile, read_profile
from genbench.speed.slices import Announce
from genbench.speed.subjects import TimedModel, subjects
from genbench.store import make_folder
from genbench.suite.schema import Suite, read_suite
from genbench.text import aligned

TOLERANCE, TOLERANCE_PAIRED = 0.05, 0.02
PROFILE_SECONDS = 1.0
HEAD = (
    "model", "first image", "compiling", "one image: p50 / p95 / p99", "best batch", "images/s", "evaluations",
    "in networks", "MFLOPs/image", "utilisation", "peak MiB", "J/image", "parameters", "",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """The options of the command line. threads 0: all cores. batch None: the suite's."""

    suite: Path
    save: Path | None = None
    against: Path | None = None
    base: str = ""
    models: Collection[str] | None = None
    device: str = "auto"
    random_weights: bool = False
    batch: int | None = None
    threads: int = 1
    tolerance: str = ""
    max_minutes: float = 10.0
    compile: bool = False
    json_file: Path | None = None


class Output(NamedTuple):
    """Text for the screen, data for --json, and whether the gate is open and no model failed."""

    text: str
    data: Any
    passed: bool


def speed(request: Request, announce: Announce) -> tuple[str, bool]:
    """Runs the command; returns the text to print, and whether the gate is open and no model failed.

    Raises GenbenchError for options that exclude each other and for files that cannot be read or compared.
    """
    modes = {"--save": request.save, "--against": request.against, "--base": request.base}
    chosen = [name for name, value in modes.items() if value]
    if len(chosen) > 1:
        raise GenbenchError(f"speed: found {' and '.join(chosen)}, allowed: one of {', '.join(modes)}")
    suite, device = read_suite(request.suite), choose_device(request.device)
    timed, left_out = subjects(suite, request.models, request.random_weights or bool(request.base))
    act = {"--save": _save, "--against": _against, "--base": _base}.get(chosen[0] if chosen else "", _profile)
    with Unwinding():  # work trees and processes are removed
        output = act(request, suite, timed, device, announce)
    _write_json(request.json_file, output.data)
    lines = [output.text, *(f"left out: {label}: {reason}" for label, reason in left_out.items())]
    return "\n".join(lines), output.passed


def _write_json(path: Path | None, data: Any) -> None:
    if path is not None:
        make_folder(path.absolute().parent)
        path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _tolerance(request: Request, default: float) -> float:
    return read_tolerance(request.tolerance) if request.tolerance else default


def _save(request: Request, suite: Suite, timed: Sequence[TimedModel], device: str, announce: Announce) -> Output:
    assert request.save is not None
    timings, failed = baseline.measure(timed, device, request.threads, request.batch or suite.speed.batch, announce)
    measured = baseline.Baseline(suite.suite, baseline.machine(device, request.threads), timings)
    baseline.write(request.save, measured)
    rows = [
        (k, shown_rate(t.batch / geometric_mean(t.times)), f"{100 * baseline.noise(t.times):.1f} %", _mark(t.busy))
        for k, t in timings.items()
    ]
    rows += [(k, "", "", f"failed: {why}") for k, why in failed.items()]
    text = aligned([("model", "images/s", "noise", ""), *rows])
    quiet = not any(t.busy for t in timings.values())
    return Output(f"{text}\n\nwritten: {request.save}", measured.machine, quiet and not failed)


def _against(request: Request, suite: Suite, timed: Sequence[TimedModel], device: str, announce: Announce) -> Output:
    assert request.against is not None
    stored = baseline.read_baseline(request.against)
    here = baseline.machine(device, request.threads)
    baseline.refuse_other_machine(request.against, stored.machine, here)
    timings, failed = baseline.measure(timed, device, request.threads, request.batch or suite.speed.batch, announce)
    text, data, passed = _judged(baseline.judge(stored, timings, failed), _tolerance(request, TOLERANCE))
    if stored.machine.get("torch") != here["torch"]:
        versions = f"torch {stored.machine.get('torch')} in the baseline, {here['torch']} here"
        text += f"\n{versions}: part of a difference may come from torch"
    return Output(text, data, passed)


def _base(request: Request, suite: Suite, timed: Sequence[TimedModel], device: str, announce: Announce) -> Output:
    tolerance = _tolerance(request, TOLERANCE_PAIRED)
    options = paired.Options(
        device,
        request.threads,
        request.batch or suite.speed.batch,
        tolerance,
        request.max_minutes,
        shorten=request.batch is None,
    )
    with paired.checked_out(request.base, suite.folder.absolute()) as trees:
        comparisons = list(paired.compare(timed, trees, options, announce))
    text, data, passed = _judged(comparisons, tolerance)
    return Output(f"A: {request.base}, B: the work tree; random weights\n{text}", data, passed)


def _judged(comparisons: Sequence[Comparison], tolerance: float) -> Output:
    passed = not any(c.failed or c.busy or c.closes(tolerance) for c in comparisons)
    data = {"tolerance": tolerance, "open": passed, "comparisons": [c.plain() for c in comparisons]}
    return Output(summary(comparisons, tolerance), data, passed)


def _profile(request: Request, suite: Suite, timed: Sequence[TimedModel], device: str, announce: Announce) -> Output:
    profiles: dict[str, Profile] = {}
    failed: dict[str, str] = {}
    for subject in timed:
        announce(subject.label)
        try:
            profiles[subject.label] = _profiled(subject, device, request)
        except CellFailure as error:
            failed[subject.label] = str(error)
    rows = [_row(label, profile) for label, profile in profiles.items()]
    rows += [(label, *[""] * (len(HEAD) - 2), f"failed: {why}") for label, why in failed.items()]
    sweeps = [f"  {label}: {_sweep(profile)}" for label, profile in profiles.items()]
    text = "\n".join([aligned([HEAD, *rows]), "", "images/s by batch", *sweeps])
    data = {
        "machine": baseline.machine(device, request.threads),
        "profiles": {k: _plain(p) for k, p in profiles.items()},
    }
    return Output(text, data, not failed)


def _plain(profile: Profile) -> dict[str, Any]:
    shares = {f"p{p}": profile.percentile(p) for p in (50, 95, 99)}
    rates = {"images_per_second": profile.best.images_per_second, "utilisation": profile.utilisation}
    return {**asdict(profile), "latency_seconds": shares, **rates}


def _profiled(subject: TimedModel, device: str, request: Request) -> Profile:
    with Worker(device, request.threads) as worker:
        first = worker.request("build", subject=vars(subject))["first_seconds"]
        return read_profile(
            worker.request("profile", first_seconds=first, seconds=PROFILE_SECONDS, compile=request.compile)
        )


def _row(label: str, profile: Profile) -> tuple[str, ...]:
    best = profile.best
    shown = [_milliseconds(profile.percentile(p)) for p in (50, 95, 99)]
    compiling = "" if profile.compile_seconds is None else f"{profile.compile_seconds:.1f} s"
    return (
        label, f"{profile.first_seconds:.2f} s", compiling, f"{' / '.join(shown)} ms", str(best.batch),
        shown_rate(best.images_per_second), f"{profile.evaluations:g}", _or_dash(profile.network_share, "{:.1%}"),
        f"{profile.flops / 1e6:,.4g}", f"{profile.utilisation:.0%}",
        _or_dash(best.peak_mib, "{:,.0f}"), _or_dash(profile.joules, "{:.3g}"),
        f"{profile.parameters:,}", _mark(profile.busy),
    )  # fmt: skip


def _mark(busy: str) -> str:
    return f"{BUSY}: {busy}" if busy else ""


def _milliseconds(seconds: float | None) -> str:
    return _or_dash(None if seconds is None else 1e3 * seconds, "{:.3g}")


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _sweep(profile: Profile) -> str:
    points = ", ".join(
        f"{p.batch}: {shown_rate(p.images_per_second)}{f' {BUSY}' if p.busy else ''}" for p in profile.sweep
    )
    return f"{points} ({profile.ended})"
