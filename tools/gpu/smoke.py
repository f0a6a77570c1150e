"""Step `smoke`: both smoke suites on the device, every value beside the CPU's.

A GPU's generator gives other random numbers than the CPU's for the same seed, so a plain run on either differs as two
seeds differ, which tells nothing about bugs. Therefore three comparisons, from the sharpest to the roughest:

    weights   the CPU's trained weights, drawn from and scored on the device with the CPU's random numbers: what is left
              is rounding (TF32 in convolutions), and a value beyond its tolerance is a bug
    trained   trained on the device too, with the CPU's random numbers and few steps: rounding, amplified by training
    plain     as users run it: nothing may fail, and the scale rows, which no random number of a GPU reaches, agree

In a rehearsal the CPU stands for the GPU, with factors of products rounded as TF32 rounds them.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tools.gpu.common import Part, Setting, each
from tools.gpu.devices import RoundedProducts, random_numbers_of_the_cpu, torch_device
from tools.gpu.suites import COSTS, SCALE, SUITES, Values, run_as_users_do, run_here, written

NAMES = ("smoke", "smoke_translation")
FEW_IMAGES = {"images": 128}  # of training, where rounding is amplified: chaos doubles it every few steps
# What TF32 may move a value by: relative to it, plus an absolute term. TF32 keeps 10 bits of mantissa, so a factor is
# off by at most 2^-11 = 5e-4, and a sum of many products by about as much of its standard deviation. Each tolerance is
# four times or more what this rounding, done on the CPU, moved the value by (docs/gpu.md has the shares it used).
CONTINUOUS = (0.01, 5e-4)  # distances and scores: smooth in the features
LIKELIHOODS = (2e-4, 1e-4)  # bits/dim: a mean over all pixels, where errors cancel
SHARES = (0.0, 0.02)  # counts among 100 samples: two of them may change sides, each by a hair
TOLERANCES = {
    "precision": SHARES, "recall": SHARES, "memorised": SHARES, "class_accuracy": SHARES, "prompt_agreement": SHARES,
    "bits_per_dim": LIKELIHOODS, "bits_per_dim_iwae": LIKELIHOODS, "bits_per_dim_ode": LIKELIHOODS,
}  # fmt: skip
AMPLIFIED = 3.0  # times the tolerance after four to eight steps of training, which pass errors on and enlarge them


def parts(setting: Setting) -> list[Part]:
    """A process for each suite and comparison."""
    return each([f"{way}-{name}" for name in NAMES for way in RUNS], "tools.gpu.smoke:compared", seconds=30.0)


def compared(setting: Setting, item: str) -> dict[str, Any]:
    """The values of one run, and those beyond their tolerance. Raises RuntimeError where a cell fails."""
    way, _, name = item.partition("-")
    values, failed = RUNS[way](setting, name)
    if failed:
        raise RuntimeError("; ".join(failed))
    if way == "cpu":
        return {"values": values}
    of = partial(on_the_cpu, setting, name, **({"budget": FEW_IMAGES} if way == "trained" else {}))
    rows = beside(of()[0], values, way)
    return {"values": values, "beyond": [row for row in rows if row["share"] > 1], "widest": widest(rows)}


def on_the_cpu(setting: Setting, name: str, **changes: Any) -> tuple[Values, list[str]]:
    """The suite without timings on the CPU; done work is not repeated."""
    store = Path(setting.work) / "-".join(["smoke-cpu", *changes])
    return run_here(untimed(setting, name, store, **changes), store, "cpu")


def with_its_weights(setting: Setting, name: str) -> tuple[Values, list[str]]:
    """The suite on the device, from the weights that the CPU trained."""
    on_the_cpu(setting, name)
    store = Path(setting.work) / "smoke-weights"
    trained = Path(setting.work) / "smoke-cpu" / "weights"
    shutil.copytree(trained, store / "weights", dirs_exist_ok=True)
    return run_here(untimed(setting, name, store), store, str(torch_device(setting.device)), alike(setting))


def trained(setting: Setting, name: str) -> tuple[Values, list[str]]:
    """The suite trained on the device with the CPU's random numbers, on few images."""
    store = Path(setting.work) / "smoke-trained"
    suite = untimed(setting, name, store, budget=FEW_IMAGES)
    return run_here(suite, store, str(torch_device(setting.device)), alike(setting))


def plain(setting: Setting, name: str) -> tuple[Values, list[str]]:
    """The suite as users run it."""
    store = Path(setting.work) / "smoke-plain"
    return run_as_users_do(written(name, store, setting.tiny), store, setting.device)


RUNS: dict[str, Callable[[Setting, str], tuple[Values, list[str]]]] = {
    "cpu": on_the_cpu, "weights": with_its_weights, "trained": trained, "plain": plain,
}  # fmt: skip


def untimed(setting: Setting, name: str, folder: Path, **changes: Any) -> Path:
    """The suite's file without the metrics that a clock decides."""
    import yaml

    listed = yaml.safe_load((SUITES / f"{name}.yaml").read_text())["metrics"]
    return written(name, folder, setting.tiny, metrics=[m for m in listed if m not in COSTS], **changes)


def alike(setting: Setting) -> Callable[[], AbstractContextManager[Any]]:
    """What makes a device's numbers comparable: the CPU's random numbers; on the CPU, TF32's rounding."""

    @contextmanager
    def entered() -> Iterator[None]:
        if setting.device == "cpu":
            with RoundedProducts():
                yield
            return
        with random_numbers_of_the_cpu(torch_device(setting.device)):
            yield

    return entered


def beside(cpu: Values, device: Values, way: str) -> list[dict[str, Any]]:
    """A row for each value: the CPU's, the device's, and their difference as a share of the tolerance."""
    rows = []
    for name in sorted({*cpu, *device}):
        metric = name.rsplit(" ", 1)[1]
        if way == "plain" and not name.startswith(SCALE):
            continue
        a, b = cpu.get(name, math.inf), device.get(name, math.inf)
        relative, absolute = TOLERANCES.get(metric, CONTINUOUS)
        allowed = (relative * abs(a) + absolute) * (AMPLIFIED if way == "trained" else 1.0)
        share = abs(a - b) / allowed if math.isfinite(a) and math.isfinite(b) else 1e9
        rows.append({"name": name, "cpu": cpu.get(name), "device": device.get(name), "share": share})
    return rows


def widest(rows: list[dict[str, Any]]) -> dict[str, float]:
    """By metric the largest share of its tolerance that was used."""
    used: dict[str, float] = {}
    for row in rows:
        metric = row["name"].rsplit(" ", 1)[1]
        used[metric] = max(used.get(metric, 0.0), row["share"])
    return used
