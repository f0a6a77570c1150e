"""`genbench check`: whether a model satisfies the contract."""

from __future__ import annotations

from genbench.check import check_model
from genbench.commands.shapes import read_shape
from genbench.machine import choose_device
from genbench.registry import resolve_model


def run_checks(name: str, shape: str, levels: int, device: str) -> tuple[str, bool]:
    """A line for each conformance check of a model, and whether all passed."""
    data, place = read_shape(shape, levels), choose_device(device)
    results = check_model(resolve_model(name), data, device=place)
    lines = [f"{'ok    ' if r.passed else 'FAILED'} {r.name}{': ' + r.message if r.message else ''}" for r in results]
    passed = sum(r.passed for r in results)
    return "\n".join([*lines, f"{name}: {passed} of {len(results)} checks passed"]), passed == len(results)
