"""A baseline: raw timings of several processes in a file, and the same measured again against it.

Each process gives one time a model, so the spread between them holds all that differs between two runs of the same code
on this machine: it is the noise of A against A. Absolute times mean nothing on another machine, so there it refuses.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import torch

from genbench.errors import CellFailure, GenbenchError, StoreError
from genbench.machine import device_name, processor_name
from genbench.speed.client import Worker
from genbench.speed.judge import FALSE_ALARMS, fastest, noise, unpaired
from genbench.speed.outcome import Outcome
from genbench.speed.slices import Say, calls_in, prepare, time_slice
from genbench.speed.subjects import Subject
from genbench.store import make_folder

SCHEMA = 1
PROCESSES = 5
SLICE_SECONDS = 1.0
HARDWARE = ("processor", "cores", "system", "device", "threads")


@dataclass(frozen=True)
class Timing:
    """One model: the key of what is drawn, images in a call, and of each process the seconds of its calls."""

    key: str
    batch: int
    processes: tuple[tuple[float, ...], ...]

    @property
    def times(self) -> list[float]:
        """One time a process: seconds of a call."""
        return [fastest(seconds) for seconds in self.processes]


@dataclass(frozen=True)
class Baseline:
    """What a file holds: the machine, and a Timing by label."""

    suite: str
    machine: dict[str, Any]
    timings: dict[str, Timing]


def machine(device: str, threads: int) -> dict[str, Any]:
    """What absolute times depend on."""
    return {
        "processor": processor_name(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}",
        "device": device_name(device), "threads": threads, "torch": torch.__version__,
    }  # fmt: skip


def measure(
    subjects: Sequence[Subject], device: str, threads: int, batch: int, say: Say, processes: int = 0
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Timings by label, of fresh processes that each time every subject; and why others could not be timed.

    processes: how many (default PROCESSES).
    """
    processes = processes or PROCESSES
    found: dict[str, list[tuple[float, ...]]] = {s.label: [] for s in subjects}
    failed: dict[str, str] = {}
    for number in range(processes):
        say(f"process {number + 1} of {processes}")
        waiting = [s for s in subjects if s.label not in failed]
        while waiting:
            with Worker(device, threads) as worker:
                _time_each(worker, waiting, batch, found, failed)
    keys = {s.label: s.key for s in subjects}
    return {k: Timing(keys[k], batch, tuple(v)) for k, v in found.items() if k not in failed}, failed


def _time_each(
    worker: Worker,
    waiting: list[Subject],
    batch: int,
    found: dict[str, list[tuple[float, ...]]],
    failed: dict[str, str],
) -> None:
    """Times what waits in this process, up to the first that fails: it may have taken the process with it."""
    while waiting:
        subject = waiting.pop(0)
        try:
            found[subject.label].append(_slice(worker, subject, batch))
        except CellFailure as error:
            failed[subject.label] = str(error)
            return


def _slice(worker: Worker, subject: Subject, batch: int) -> tuple[float, ...]:
    each = prepare(worker, subject, batch)
    return tuple(time_slice(worker, batch, max(3, calls_in(SLICE_SECONDS, each))))


def write(path: Path, baseline: Baseline) -> None:
    """Saves a baseline as JSON, with the noise of each model beside its raw timings."""
    models = {
        label: {**asdict(timing), "noise": noise(timing.times)} for label, timing in sorted(baseline.timings.items())
    }
    whole = {"schema": SCHEMA, "suite": baseline.suite, "machine": baseline.machine, "models": models}
    make_folder(path.absolute().parent)
    path.write_text(json.dumps(_rounded(whole), indent=1) + "\n", encoding="utf-8")


def _rounded(data: Any) -> Any:
    if isinstance(data, float):
        return float(f"{data:.5g}")
    if isinstance(data, dict):
        return {k: _rounded(v) for k, v in data.items()}
    return [_rounded(v) for v in data] if isinstance(data, list | tuple) else data


def read(path: Path) -> Baseline:
    """The baseline in a file. Raises StoreError where it is missing or is none."""
    if not path.is_file():
        raise StoreError(f"{path}: not found; `genbench speed SUITE --save {path}` writes it")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise StoreError(f"{path}: schema: found {data['schema']}, allowed: {SCHEMA}")
        timings = {
            label: Timing(m["key"], m["batch"], tuple(map(tuple, m["processes"])))
            for label, m in data["models"].items()
        }
        return Baseline(data["suite"], data["machine"], timings)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}: no baseline: {type(error).__name__}: {error}") from None


def refuse_other_machine(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raises GenbenchError where the hardware, or the threads, are not those of the baseline."""
    apart = [f"{k}: {there.get(k)!r} there, {here[k]!r} here" for k in HARDWARE if there.get(k) != here[k]]
    if apart:
        raise GenbenchError(
            f"{path}: absolute times of another machine or setting do not compare ({'; '.join(apart)}); `--base REV` "
            "measures both revisions on this machine, `--save FILE` makes a baseline of it"
        )


def judge(baseline: Baseline, now: Mapping[str, Timing], failed: Mapping[str, str]) -> list[Outcome]:
    """An outcome for each model of either side."""
    labels = list(dict.fromkeys([*now, *failed, *baseline.timings]))
    alpha = FALSE_ALARMS / max(1, len([x for x in labels if x in now and x in baseline.timings]))
    return [_outcome(label, baseline.timings.get(label), now.get(label), failed, alpha) for label in labels]


def _outcome(label: str, then: Timing | None, now: Timing | None, failed: Mapping[str, str], alpha: float) -> Outcome:
    batch = (now or then or Timing("", 0, ())).batch
    reason = failed.get(label) or _why_not(then, now)
    if reason or then is None or now is None:
        return Outcome(label, batch, reason=reason, failed=label in failed)
    a, b = (geometric_mean(t.times) for t in (then, now))
    note = f"noise {100 * noise(then.times):.1f} % there, {100 * noise(now.times):.1f} % here"
    return Outcome(label, batch, a, b, unpaired(then.times, now.times, alpha), note=note, raw=(then.times, now.times))


def _why_not(then: Timing | None, now: Timing | None) -> str:
    if then is None:
        return "not in the baseline"
    if now is None:
        return "only in the baseline"
    if then.key != now.key:
        return "what is drawn is not the same: config, sampler, precision, data's shape or kind of weights differ"
    return "" if then.batch == now.batch else f"batch {then.batch} there, {now.batch} here"
