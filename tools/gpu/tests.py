"""Step `tests`: the fast tests, and every conformance check of every zoo model on the device."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import Any

from tools.gpu.common import ROOT, Part, Setting, each
from tools.gpu.devices import torch_device

GROUPS = {
    "pytest-device": ["tests/test_device.py", "tests/test_smoke_suite.py"],
    "pytest-zoo": ["tests/zoo"],
    "pytest-metrics": ["tests/metrics"],
    "pytest-speed": ["tests/speed"],
    "pytest-rest": ["tests", "--ignore=tests/zoo", "--ignore=tests/metrics", "--ignore=tests/speed",
                    "--ignore=tests/test_smoke_suite.py", "--ignore=tests/test_device.py"],
}  # fmt: skip
TINY = {"pytest-device": ["tests/test_device.py", "-k", "vae or gan"]}
WORKERS = 6
COUNTS = re.compile(r"(\d+) (passed|failed|error|skipped|deselected|xfailed|warning)")
SHOWN = 40  # names of failed tests


def parts(setting: Setting) -> list[Part]:
    """First the conformance checks of all models, in one process; then groups of tests, the device's own first."""
    from genbench.registry import MODELS

    models = ("vae",) if setting.tiny else tuple(MODELS.built_in)
    checks = Part(tuple(f"check-{model}" for model in models), "tools.gpu.tests:check")
    return [checks, *each(TINY if setting.tiny else GROUPS, "tools.gpu.tests:pytest", seconds=30.0)]


def check(setting: Setting, name: str) -> dict[str, Any]:
    """What `genbench check MODEL --device DEVICE` says; raises ValueError where a check fails."""
    from genbench.check import check_model
    from genbench.contract import DataSpec
    from genbench.registry import resolve_model

    kind = resolve_model(name.removeprefix("check-"))
    results = check_model(kind, DataSpec(1, 8, 8, 17, 10), device=torch_device(setting.device))
    broken = [f"{r.name}: {r.message}" for r in results if not r.passed]
    if broken:
        raise ValueError("; ".join(broken))
    return {"passed": len(results)}


def pytest(setting: Setting, name: str) -> dict[str, Any]:
    """How many tests of a group passed, and which failed. Raises RuntimeError where pytest could not run them."""
    chosen = (TINY if setting.tiny else GROUPS)[name]
    workers = [] if setting.tiny else ["-n", str(WORKERS)]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *workers, *chosen]
    place = "cpu" if setting.device == "other" else setting.device
    variables = {**os.environ, "GENBENCH_TEST_DEVICE": place, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=variables)
    lines = done.stdout.splitlines()
    if done.returncode > 1:
        raise RuntimeError(f"pytest ended with code {done.returncode}: {' '.join([*lines, done.stderr][-3:])[-300:]}")
    counts = {what: int(n) for n, what in COUNTS.findall(lines[-1])}
    failed = [line.partition(" ")[2] for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"counts": counts, "failed": failed[:SHOWN], "last": lines[-1]}
