"""A test problem of the selftest: it has a known answer, and the code that measures models measures it."""

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

EXACT, MONTE_CARLO, GRID = "", "4 s.e.", "grid"
STANDARD_ERRORS = 4


@dataclass(frozen=True)
class Measurement:
    """The measured and the true value, the largest difference allowed, and what that tolerance allows for.

    basis: EXACT, rounding errors only; MONTE_CARLO, four standard errors over repeats with fixed seeds, plus the error
    of the method; or GRID, the error of an integral over cells.
    """

    measured: float
    true: float
    tolerance: float
    basis: str = EXACT


@dataclass(frozen=True)
class KnownProblem:
    """A problem with a known answer: its name and unit, the paper or identity behind the answer, its measurement."""

    name: str
    source: str
    measure: Callable[[], Measurement]


@dataclass(frozen=True)
class ProblemResult:
    """A line of the table. measured, true, tolerance: None when measuring raised an exception; message is its text."""

    problem: str
    measured: float | None
    true: float | None
    tolerance: float | None
    ok: bool
    source: str
    seconds: float
    basis: str = EXACT
    message: str = ""


def measure_problem(problem: KnownProblem) -> ProblemResult:
    """Measures one problem; an exception makes the row fail, and its text is the message."""
    start = time.perf_counter()
    try:
        result = problem.measure()
    except Exception as error:  # the other problems are still measured
        message = str(error) if isinstance(error, GenbenchError) else f"{type(error).__name__}: {error}"
        return ProblemResult(
            problem.name, None, None, None, False, problem.source, time.perf_counter() - start, message=message
        )
    ok = abs(result.measured - result.true) <= result.tolerance  # False for NaN
    seconds = time.perf_counter() - start
    return ProblemResult(
        problem.name, result.measured, result.true, result.tolerance, ok, problem.source, seconds, result.basis
    )  # fmt: skip


def average(repeats: Any, true: float, bias: float = 0.0) -> Measurement:
    """The mean of independent repeats (N,) and its true value; tolerance: four standard errors plus a known bias."""
    values = np.asarray(repeats, dtype=np.float64)
    error = float(values.std(ddof=1)) / len(values) ** 0.5
    return Measurement(float(values.mean()), true, STANDARD_ERRORS * error + bias, MONTE_CARLO)


def measured(metric: str, **inputs: Any) -> float:
    """The value of a registered metric, computed as it is for a model."""
    return get(metric).compute(**inputs).value


def zoo(name: str, data: DataSpec, sampler: dict[str, Any] | None = None, **config: Any) -> Any:
    """A zoo model as a suite builds it. The type is Any, because problems replace its networks by exact ones."""
    return load_model(name, data=data, sampler=sampler, **config)
