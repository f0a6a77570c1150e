"""Arrays as metrics read them: float64, two-dimensional, finite; and the normal interval that several of them give."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from genbench.errors import CellFailure, GenbenchError
from genbench.metrics.base import Value

Array = NDArray[np.float64]
Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal


def matrix(name: str, rows: Any, least: int) -> Array:
    """An array (N, D) as float64.

    Raises GenbenchError for another shape or fewer than `least` rows, CellFailure when a value is not finite.
    """
    array = np.asarray(rows, dtype=np.float64)
    if array.ndim != 2:
        raise GenbenchError(f"{name}: found an array of shape {array.shape}, allowed: (N, D)")
    if len(array) < least:
        raise GenbenchError(f"{name}: found {len(array)} rows, allowed: at least {least}")
    bad = int((~np.isfinite(array)).any(axis=1).sum())
    if bad:
        raise CellFailure(f"{name}: {bad} of {len(array)} rows hold a value that is not finite")
    return array


def pair(fake: Any, real: Any, least: int = 2) -> tuple[Array, Array]:
    """Features fake (N, D) and real (M, D) as float64; raises as `matrix`, and GenbenchError when D differs."""
    checked = matrix("fake", fake, least), matrix("real", real, least)
    if checked[0].shape[1] != checked[1].shape[1]:
        raise GenbenchError(f"fake has {checked[0].shape[1]} features a row and real {checked[1].shape[1]}; must agree")
    return checked


def with_normal_interval(value: float, scores: Array, how: str, *, kind: str = "=", least: float = -np.inf) -> Value:
    """A value with value +- 1.96 standard errors, scores (N,) being each sample's share of it (N = 1: no interval).

    least: what the value cannot fall below; the interval is cut there.
    """
    if len(scores) < 2:
        return Value(value, kind=kind)
    half = Z95 * float(scores.std(ddof=1)) / len(scores) ** 0.5
    return Value(value, max(least, value - half), value + half, f"normal 95 %: +- 1.96 standard errors {how}", kind)
