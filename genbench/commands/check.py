"""`genbench check`: whether a model satisfies the contract."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

from genbench.check import CheckResult, check_model
from genbench.contract import DataSpec, Draws
from genbench.errors import GenbenchError
from genbench.machine import choose_device
from genbench.options import nearest
from genbench.registry import resolve_model


class CheckedModel(NamedTuple):
    """A class, the images it is built for, and changes to its config and sampler."""

    kind: type[Draws]
    data: DataSpec
    config: dict[str, Any]
    sampler: dict[str, Any]


def run_checks(name: str, suite: Path | None, shape: str, levels: int, device: str, say: Callable[[str], None]) -> bool:
    """Says a line for each conformance check of a model as it ends; whether all passed.

    suite: name is the label of one of its rows, which is checked with its config and sampler and the suite's images.
    """
    subject = CheckedModel(resolve_model(name), _spec(shape, levels), {}, {}) if suite is None else _row(name, suite)
    results: list[CheckResult] = []

    def report(result: CheckResult) -> None:
        results.append(result)
        say(f"{'ok    ' if result.passed else 'FAILED'} {result.name}{': ' + result.message if result.message else ''}")

    torch.set_num_threads(1)  # on images this small, more threads only wait for each other
    check_model(*subject, device=choose_device(device), report=report)
    passed = sum(r.passed for r in results)
    say(f"{name}: {passed} of {len(results)} checks passed")
    return passed == len(results)


def _spec(shape: str, levels: int) -> DataSpec:
    sizes = shape.split("x")
    if len(sizes) != 3 or not all(part.isdigit() and int(part) for part in sizes):
        raise GenbenchError(f"--shape: found '{shape}', allowed: channels x height x width, e.g. 1x8x8")
    channels, height, width = map(int, sizes)
    return DataSpec(channels, height, width, levels, classes=10)


def _row(label: str, path: Path) -> CheckedModel:
    from genbench.plan.planner import make_plan  # late: a check without a suite needs none of it
    from genbench.sources.network import NetworkSource
    from genbench.suite.schema import read_suite

    plan = make_plan(read_suite(path))
    rows = {cell.label: cell.source for cell in plan.cells if isinstance(cell.source, NetworkSource)}
    if label not in rows and label in {cell.label for cell in plan.cells}:
        raise GenbenchError(f"{path}: row '{label}' has images and no model to check; allowed: {', '.join(rows)}")
    if label not in rows:
        raise GenbenchError(f"{path}: no row '{label}'{nearest(label, rows) or ';'} allowed: {', '.join(rows)}")
    network = rows[label].network
    return CheckedModel(network.resolve(), plan.data.spec, network.config, network.sampler)
