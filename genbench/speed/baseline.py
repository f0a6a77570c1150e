"""A baseline: raw times of several processes stored in a file, and new measurements compared with it.

Each process gives one time for each model. The spread between processes therefore contains everything that differs
between two runs of the same code on this machine. Absolute times do not compare across machines, so a baseline of
another machine is refused.
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

from genbench.contention import Meter
from genbench.draw.repeats import meter_for
from genbench.errors import CellFailure, GenbenchError, StoreError
from genbench.files import read_json_object
from genbench.machine import device_name, processor_name
from genbench.speed.client import Worker
from genbench.speed.comparison import Comparison
from genbench.speed.judge import FALSE_ALARMS, fastest, noise, unpaired
from genbench.speed.slices import Announce, calls_in, prepare, time_slice
from genbench.speed.subjects import TimedModel
from genbench.store import make_folder

SCHEMA = 1
PROCESSES = 5
SLICE_SECONDS = 1.0
PATIENCE = 30.0  # seconds for all models: slices that are repeated, and waiting for other processes
HARDWARE = ("processor", "cores", "system", "device", "threads")


@dataclass(frozen=True)
class Timing:
    """Times of one model.

    key: TimedModel.key of what is drawn. batch: images in a call. processes: the seconds of the calls of each process.
    busy: what disturbed them, "" for nothing.
    """

    key: str
    batch: int
    processes: tuple[tuple[float, ...], ...]
    busy: str = ""

    @property
    def times(self) -> list[float]:
        """Seconds of the fastest call of each process."""
        return [fastest(seconds) for seconds in self.processes]


@dataclass(frozen=True)
class Baseline:
    """The content of a baseline file: the suite's name, the machine, and a Timing by label."""

    suite: str
    machine: dict[str, Any]
    timings: dict[str, Timing]


def machine(device: str, threads: int) -> dict[str, Any]:
    """The facts about this machine that absolute times depend on."""
    return {
        "processor": processor_name(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}",
        "device": device_name(device), "threads": threads, "torch": torch.__version__,
    }  # fmt: skip


def measure(
    subjects: Sequence[TimedModel], device: str, threads: int, batch: int, announce: Announce, processes: int = 0
) -> tuple[dict[str, Timing], dict[str, str]]:
    """Times every subject in each of several fresh processes.

    Returns Timings by label, and by label the reasons of subjects that could not be timed. processes: how many
    (0: PROCESSES).
    """
    processes = processes or PROCESSES
    slices: dict[str, list[tuple[float, ...]]] = {s.label: [] for s in subjects}
    failed: dict[str, str] = {}
    busy: dict[str, str] = {}
    meter = meter_for(torch.device(device), PATIENCE, threads)
    for number in range(processes):
        announce(f"process {number + 1} of {processes}")
        waiting = [s for s in subjects if s.label not in failed]
        while waiting:
            with Worker(device, threads) as worker:
                _time_each(worker, waiting, batch, slices, failed, meter, busy)
    keys = {s.label: s.key for s in subjects}
    timings = {k: Timing(keys[k], batch, tuple(v), busy.get(k, "")) for k, v in slices.items() if k not in failed}
    return timings, failed


def _time_each(
    worker: Worker,
    waiting: list[TimedModel],
    batch: int,
    slices: dict[str, list[tuple[float, ...]]],
    failed: dict[str, str],
    meter: Meter,
    busy: dict[str, str],
) -> None:
    """Times the waiting subjects in this process up to the first failure, which may have ended the process."""
    while waiting:
        subject = waiting.pop(0)
        try:
            seconds, disturbed = _slice(worker, subject, batch, meter)
            slices[subject.label].append(seconds)
            busy.update({subject.label: disturbed} if disturbed else {})
        except CellFailure as error:
            failed[subject.label] = str(error)
            return


def _slice(worker: Worker, subject: TimedModel, batch: int, meter: Meter) -> tuple[tuple[float, ...], str]:
    calls = max(3, calls_in(SLICE_SECONDS, prepare(worker, subject, batch)))
    while True:
        meter.start()
        seconds = tuple(time_slice(worker, batch, calls))
        busy = meter.found()
        if not busy or not meter.again(sum(seconds)):
            return seconds, busy


def write(path: Path, baseline: Baseline) -> None:
    """Writes a baseline as JSON, with the noise of each model beside its raw times."""
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


def read_baseline(path: Path) -> Baseline:
    """Reads a baseline file. Raises StoreError where it is missing or is not a baseline."""
    if not path.is_file():
        raise StoreError(f"{path}: not found; `genbench speed SUITE --save {path}` writes it")
    try:
        data = read_json_object(path, StoreError)
        if data["schema"] != SCHEMA:
            raise StoreError(f"{path}: schema: found {data['schema']}, allowed: {SCHEMA}")
        timings = {
            label: Timing(m["key"], m["batch"], tuple(map(tuple, m["processes"])), m.get("busy", ""))
            for label, m in data["models"].items()
        }
        return Baseline(data["suite"], data["machine"], timings)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{path}: not a baseline: {type(error).__name__}: {error}") from None


def refuse_other_machine(path: Path, there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """Raises GenbenchError where the hardware or the number of threads differ from the baseline's."""
    differences = [
        f"{k}: {there.get(k)!r} in the baseline, {here[k]!r} here" for k in HARDWARE if there.get(k) != here[k]
    ]
    if differences:
        raise GenbenchError(
            f"{path}: absolute times of another machine or setting are not comparable ({'; '.join(differences)}); use "
            "`--base REV` to measure both revisions on this machine, or `--save FILE` to write a baseline of it"
        )


def judge(baseline: Baseline, now: Mapping[str, Timing], failed: Mapping[str, str]) -> list[Comparison]:
    """The comparison of each model that either side has."""
    labels = list(dict.fromkeys([*now, *failed, *baseline.timings]))
    alpha = FALSE_ALARMS / max(1, len([x for x in labels if x in now and x in baseline.timings]))
    return [_compared(label, baseline.timings.get(label), now.get(label), failed, alpha) for label in labels]


def _compared(
    label: str, then: Timing | None, now: Timing | None, failed: Mapping[str, str], alpha: float
) -> Comparison:
    batch = (now or then or Timing("", 0, ())).batch
    reason = failed.get(label) or _why_not(then, now)
    if reason or then is None or now is None:
        return Comparison(label, batch, reason=reason, failed=label in failed)
    a, b = (geometric_mean(t.times) for t in (then, now))
    note = f"noise {100 * noise(then.times):.1f} % in the baseline, {100 * noise(now.times):.1f} % now"
    busy = "; ".join(f"{t.busy} ({when})" for t, when in ((then, "baseline"), (now, "now")) if t.busy)
    ratio = unpaired(then.times, now.times, alpha)
    return Comparison(label, batch, a, b, ratio, busy=busy, note=note, raw=(then.times, now.times))


def _why_not(then: Timing | None, now: Timing | None) -> str:
    if then is None:
        return "not in the baseline"
    if now is None:
        return "only in the baseline"
    if then.key != now.key:
        return "not the same model: config, sampler, precision, the data's shape or the kind of weights differ"
    return "" if then.batch == now.batch else f"batch {then.batch} in the baseline, {now.batch} now"
