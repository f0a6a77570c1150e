"""Many cells and many records: genbench's own time and memory.

    python tests/faults/load.py cells 500
    python tests/faults/load.py records 100000

cells: a suite of that many cells: five models of one class, each with its own configuration, which draw noise without
training, with many seeds; one metric, the mean of the pixels. No two cells share anything: each opens its model and the
dataset, draws 20 images of 4x4 pixels, and stores them and the value.
Own time is the CPU time of the command, of its workers and of the server that starts them, divided by the cells.
Imports and planning, which happen once, are listed apart. records: reading and aggregating that many records, and the
page.
"""

from __future__ import annotations

import cProfile
import io
import os
import pstats
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import yaml
from rich.console import Console

from faults.tiny import NOISE
from genbench.records import Record, read_records, write_records
from genbench.screen import Screen

MODELS = 5
FIRST = 10  # cells after which the processes have started
MORE = """
from dataclasses import dataclass

from genbench.metrics import readings
from genbench.metrics.base import Metric, Value


@dataclass(frozen=True)
class Config:
    number: int = 0


Noise.Config = Config


def brightness(*, fake, real):
    return Value(float(fake.mean()))


BRIGHTNESS = Metric("brightness", "Brightness", 1, "lower", "grey range", readings.PIXELS, brightness)
"""


def cells(count: int, folder: Path) -> None:
    """Plans and runs a suite of trivial models."""
    (folder / "noise.py").write_text(NOISE + MORE)
    np.savez(folder / "data.npz", images=np.random.default_rng(0).integers(0, 256, (60, 4, 4), dtype=np.uint8))
    models = [
        {"name": "m", "label": f"m{i}", "source": "noise.py:Noise", "config": {"number": i}} for i in range(MODELS)
    ]
    suite = {"suite": "load", "dataset": {"name": "npz", "path": "data.npz"}, "features": "pixels", "samples": 20}
    suite |= {"block": 20, "metrics": ["noise.py:BRIGHTNESS"], "models": models}
    suite |= {"seeds": list(range(count // MODELS))}
    (folder / "load.yaml").write_text(yaml.safe_dump(suite))
    os.environ["GENBENCH_CACHE"] = str(folder / "cache")

    began = time.process_time()
    import genbench.runner.run as runner
    from genbench.plan.planner import make_plan
    from genbench.suite.schema import read_suite

    imported = time.process_time()
    planned = make_plan(read_suite(folder / "load.yaml"))
    end = time.process_time()
    print(f"{len(planned.cells)} cells; imports {imported - began:.2f} s, planning {end - imported:.2f} s of CPU time")
    watch = Watch(len(planned.cells))
    began = time.process_time()
    if os.environ.get("PROFILE"):
        with cProfile.Profile() as profile:
            runner.run(folder / "load.yaml", out=folder / "out", device="cpu", screen=watch)
        pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
    else:
        runner.run(folder / "load.yaml", out=folder / "out", device="cpu", screen=watch)
    watch.tell(time.process_time() - began)


class Watch(Screen):
    """Prints nothing; notes memory, and CPU time of the command and of the workers, after ten cells and after all."""

    def __init__(self, count: int) -> None:
        super().__init__(Console(file=io.StringIO()))
        self.command, self.seen = psutil.Process(), list[tuple[float, float, float]]()
        self.ended, self.count = 0, count

    def end(self, name: str, text: str, failed: bool = False) -> None:
        """Notes CPU seconds of the command, of ended workers, and MiB of the command."""
        assert not failed, text
        self.ended += 1
        if self.ended not in (FIRST, self.count):
            return
        children = [child.cpu_times() for child in self.command.children(recursive=True)]
        workers = sum(t.user + t.system + t.children_user + t.children_system for t in children)
        self.seen.append((time.process_time(), workers, self.command.memory_info().rss / 2**20))

    def tell(self, whole: float) -> None:
        """Prints means for each cell, and memory after the tenth cell and after the last."""
        (first, last), n = self.seen, self.count - FIRST
        own, workers = (1000 * (last[i] - first[i]) / n for i in (0, 1))
        print(f"for each cell: {own:.1f} ms of the command and {workers:.1f} ms of workers and their server (CPU time)")
        print(f"memory of the command: {first[2]:.0f} MiB after {FIRST} cells, {last[2]:.0f} MiB after {self.count}")
        print(f"the whole run, page included: {whole:.1f} s of the command's CPU time")


def records(count: int, folder: Path) -> None:
    """Reads, aggregates and renders a result of this many records: ten metrics, twenty seeds."""
    write_records(folder / "records.jsonl", made_records(count))
    size = (folder / "records.jsonl").stat().st_size / 2**20
    began, process = time.process_time(), psutil.Process()
    from genbench.report import render

    imported = time.process_time()
    found = read_records(folder / "records.jsonl")
    read = time.process_time()
    print(f"{len(found):,} records, {size:.0f} MiB; reading {read - imported:.1f} s of CPU time")
    del found
    if os.environ.get("PROFILE"):
        with cProfile.Profile() as profile:
            render(folder)
        pstats.Stats(profile).sort_stats("cumulative").print_stats(60)
    else:
        render(folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    print(f"reading, aggregating and rendering {time.process_time() - read:.1f} s; imports {imported - began:.1f} s")
    print(f"peak memory {peak:.0f} MiB, now {process.memory_info().rss / 2**20:.0f}")


def made_records(count: int) -> Iterator[Record]:
    """Records of many models, with protocols like those of a real run."""
    names = ("fid", "kid", "precision", "recall", "density", "coverage", "vendi", "bits_per_dim", "is", "sfid")
    for number in range(count):
        name, seed, model = names[number % 10], number // 10 % 20, f"m{number // 200}"
        protocol = {
            "data": {"name": "digits", "fingerprint": "0" * 64, "n_fake": 2000, "reference": "train", "n_real": 1438},
            "features": {"extractor": "classifier", "extractor_weights": "1" * 64, "resize": "none"},
            "metric": {"centre": "mean", "covariance": "n - 1"},
            "model": {"config": {f"option{i}": i for i in range(8)}, "sampler": {"steps": 50}, "precision": "fp32"},
        }
        lower = name in ("fid", "kid", "sfid", "bits_per_dim")
        value = 0.1 + (number * 7919 % 10007) / 20000
        yield Record(
            "load", 1, f"{model}/digits/s{seed}", model, "digits", seed, name, 1, value=value, lo=value - 0.05,
            hi=value + 0.05, interval="95 %", unit="" if name != "bits_per_dim" else "bits/dim",
            better="lower" if lower else "higher", kind="bound" if name == "bits_per_dim" else "", n_fake=2000,
            n_real=1438, protocol=protocol, protocol_hash=f"{number % 10:012d}", key=f"{number:064d}", family="gan",
            device="cpu", run="r", time="2026-01-01T00:00:00+00:00", genbench="0.2.0", revision="a" * 40, dirty=False,
        )  # fmt: skip


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        {"cells": cells, "records": records}[sys.argv[1]](int(sys.argv[2]), Path(name))
