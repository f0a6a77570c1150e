"""What a world of the selftest is: something with a known answer, measured by the code that measures models."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from genbench.contract import DataSpec
from genbench.errors import GenbenchError
from genbench.metrics import get
from genbench.sources.build import load_model

ROUNDING, MONTE_CARLO, GRID = "", "4 s.e.", "grid"
STANDARD_ERRORS = 4


@dataclass(frozen=True)
class Found:
    """What was measured and what is true, the largest difference allowed, and what that tolerance stands for.

    basis: ROUNDING of the arithmetic; MONTE_CARLO, four standard errors over repeats with fixed seeds and the
    error that the method itself has; or GRID, what an integral over cells leaves.
    """

    measured: float
    true: float
    tolerance: float
    basis: str = ROUNDING


@dataclass(frozen=True)
class World:
    """A known answer: its name and unit in words, the paper or identity that it follows from, and how to measure it."""

    name: str
    source: str
    measure: Callable[[], Found]


@dataclass(frozen=True)
class Row:
    """One line of the table. measured, true, tolerance: None when measuring raised; message is then what it said."""

    world: str
    measured: float | None
    true: float | None
    tolerance: float | None
    ok: bool
    source: str
    seconds: float
    basis: str = ROUNDING
    message: str = ""


def row(world: World) -> Row:
    """Measures one world; whatever it raises makes the row off and is its message."""
    start = time.perf_counter()
    try:
        found = world.measure()
    except Exception as error:  # the other worlds still have something to say
        message = str(error) if isinstance(error, GenbenchError) else f"{type(error).__name__}: {error}"
        return Row(world.name, None, None, None, False, world.source, time.perf_counter() - start, message=message)
    ok = abs(found.measured - found.true) <= found.tolerance  # False for NaN
    seconds = time.perf_counter() - start
    return Row(
        world.name, found.measured, found.true, found.tolerance, ok, world.source, seconds, found.basis
    )  # fmt: skip


def average(repeats: Any, true: float, bias: float = 0.0) -> Found:
    """The mean of independent repeats (N,) against the truth: four standard errors, and a known bias, are allowed."""
    values = np.asarray(repeats, dtype=np.float64)
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    return Found(float(values.mean()), true, STANDARD_ERRORS * error + bias, MONTE_CARLO)


def measured(metric: str, **inputs: Any) -> float:
    """The value of a registered metric, computed as for a model."""
    return get(metric).compute(**inputs).value


def zoo(name: str, data: DataSpec, sampler: dict[str, Any] | None = None, **config: Any) -> Any:
    """A zoo model as a suite builds it; Any, as worlds put their own exact networks into it."""
    return load_model(name, data=data, sampler=sampler, **config)
