"""`genbench speed`: a table of costs, a baseline written, or judged against, or two revisions compared."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from genbench.errors import CellFailure, GenbenchError
from genbench.machine import choose_device
from genbench.speed import baseline, paired
from genbench.speed.client import Worker
from genbench.speed.outcome import Outcome, read_tolerance, shown_rate, summary
from genbench.speed.profile import Profile, read_profile
from genbench.speed.slices import Say
from genbench.speed.subjects import Subject, subjects
from genbench.store import make_folder
from genbench.suite.schema import Suite, read_suite
from genbench.text import aligned

TOLERANCE, TOLERANCE_PAIRED = 0.05, 0.02
PROFILE_SECONDS = 1.0
HEAD = (
    "model", "first image", "compiling", "one image: p50 / p95 / p99", "best batch", "images/s", "evaluations",
    "in networks", "MFLOPs/image", "peak MiB", "J/image", "parameters", "",
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What the command line asks for. threads 0: all cores. batch None: the suite's."""

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


def speed(request: Request, say: Say) -> tuple[str, bool]:
    """What to print, and whether the gate is open and nothing failed.

    Raises GenbenchError for what cannot be asked for together, read, or compared.
    """
    modes = {"--save": request.save, "--against": request.against, "--base": request.base}
    given = [name for name, value in modes.items() if value]
    if len(given) > 1:
        raise GenbenchError(f"speed: found {' and '.join(given)}, allowed: one of {', '.join(modes)}")
    suite, device = read_suite(request.suite), choose_device(request.device)
    found, left_out = subjects(suite, request.models, request.random_weights or bool(request.base))
    act = {"--save": _save, "--against": _against, "--base": _base}.get(given[0] if given else "", _profile)
    text, data, passed = act(request, suite, found, device, say)
    _write_json(request.json_file, data)
    return "\n".join([text, *(f"left out: {label}: {why}" for label, why in left_out.items())]), passed


def _write_json(path: Path | None, data: Any) -> None:
    if path is not None:
        make_folder(path.absolute().parent)
        path.write_text(json.dumps(data, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _tolerance(request: Request, default: float) -> float:
    return read_tolerance(request.tolerance) if request.tolerance else default


Said = tuple[str, Any, bool]


def _save(request: Request, suite: Suite, found: Sequence[Subject], device: str, say: Say) -> Said:
    assert request.save is not None
    timings, failed = baseline.measure(found, device, request.threads, request.batch or suite.speed.batch, say)
    kept = baseline.Baseline(suite.suite, baseline.machine(device, request.threads), timings)
    baseline.write(request.save, kept)
    rows = [
        (k, shown_rate(t.batch / geometric_mean(t.times)), f"{100 * baseline.noise(t.times):.1f} %", "")
        for k, t in timings.items()
    ]
    rows += [(k, "", "", f"failed: {why}") for k, why in failed.items()]
    text = aligned([("model", "images/s", "noise", ""), *rows])
    return f"{text}\n\nwritten: {request.save}", kept.machine, not failed


def _against(request: Request, suite: Suite, found: Sequence[Subject], device: str, say: Say) -> Said:
    assert request.against is not None
    kept = baseline.read(request.against)
    here = baseline.machine(device, request.threads)
    baseline.refuse_other_machine(request.against, kept.machine, here)
    timings, failed = baseline.measure(found, device, request.threads, request.batch or suite.speed.batch, say)
    text, data, passed = _judged(baseline.judge(kept, timings, failed), _tolerance(request, TOLERANCE))
    if kept.machine.get("torch") != here["torch"]:
        text += f"\ntorch {kept.machine.get('torch')} there, {here['torch']} here: part of a difference may be theirs"
    return text, data, passed


def _base(request: Request, suite: Suite, found: Sequence[Subject], device: str, say: Say) -> Said:
    tolerance = _tolerance(request, TOLERANCE_PAIRED)
    options = paired.Options(
        device,
        request.threads,
        request.batch or suite.speed.batch,
        tolerance,
        request.max_minutes,
        shorten=request.batch is None,
    )
    with paired.checked_out(request.base, request.suite.absolute().parent) as trees:
        outcomes = list(paired.compare(found, trees, options, say))
    text, data, passed = _judged(outcomes, tolerance)
    return f"A: {request.base}, B: the work tree; random weights\n{text}", data, passed


def _judged(outcomes: Sequence[Outcome], tolerance: float) -> Said:
    open_ = not any(o.failed or o.closes(tolerance) for o in outcomes)
    data = {"tolerance": tolerance, "open": open_, "outcomes": [o.plain() for o in outcomes]}
    return summary(outcomes, tolerance), data, open_


def _profile(request: Request, suite: Suite, found: Sequence[Subject], device: str, say: Say) -> Said:
    profiles: dict[str, Profile] = {}
    failed: dict[str, str] = {}
    for subject in found:
        say(subject.label)
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
    return text, data, not failed


def _plain(profile: Profile) -> dict[str, Any]:
    shares = {f"p{p}": profile.percentile(p) for p in (50, 95, 99)}
    return {**asdict(profile), "latency_seconds": shares, "images_per_second": profile.best.images_per_second}


def _profiled(subject: Subject, device: str, request: Request) -> Profile:
    with Worker(device, request.threads) as worker:
        first = worker.ask("build", subject=vars(subject))["first_seconds"]
        return read_profile(
            worker.ask("profile", first_seconds=first, seconds=PROFILE_SECONDS, compile=request.compile)
        )


def _row(label: str, profile: Profile) -> tuple[str, ...]:
    best = profile.best
    shown = [_milliseconds(profile.percentile(p)) for p in (50, 95, 99)]
    compiling = "" if profile.compile_seconds is None else f"{profile.compile_seconds:.1f} s"
    return (
        label, f"{profile.first_seconds:.2f} s", compiling, f"{' / '.join(shown)} ms", str(best.batch),
        shown_rate(best.images_per_second), f"{profile.evaluations:g}", _or_dash(profile.network_share, "{:.1%}"),
        f"{profile.flops / 1e6:,.4g}", _or_dash(best.peak_mib, "{:,.0f}"), _or_dash(profile.joules, "{:.3g}"),
        f"{profile.parameters:,}", "",
    )  # fmt: skip


def _milliseconds(seconds: float | None) -> str:
    return _or_dash(None if seconds is None else 1e3 * seconds, "{:.3g}")


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _sweep(profile: Profile) -> str:
    points = ", ".join(f"{p.batch}: {shown_rate(p.images_per_second)}" for p in profile.sweep)
    return f"{points} ({profile.ended})"
