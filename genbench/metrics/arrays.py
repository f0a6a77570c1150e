"""Arrays as metrics read them: float64, two-dimensional, finite; and the normal interval that several metrics use."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from genbench.errors import CellFailure, GenbenchError
from genbench.metrics.base import Value

Array = NDArray[np.float64]
Known = dict[str, Array] | None  # what a metric keeps about the reference: Metric.of_reference
ROW_BLOCK = 4096  # rows tested at a time
Z95 = 1.959963984540054  # 97.5 % quantile of the standard normal


def matrix(name: str, rows: Any, least: int) -> Array:
    """An array (N, D) as float64; raises as `checked_rows`."""
    return checked_rows(name, rows, least).astype(np.float64, copy=False)


def checked_rows(name: str, rows: Any, least: int) -> NDArray[Any]:
    """An array (N, D) in its own precision, so that a large one is not copied; integers become float64.

    Raises GenbenchError for another shape or fewer than `least` rows, CellFailure when a value is not finite.
    """
    array = np.asarray(rows)
    array = array if array.dtype.kind == "f" else array.astype(np.float64)
    if array.ndim != 2:
        raise GenbenchError(f"{name}: found an array of shape {array.shape}, allowed: (N, D)")
    if len(array) < least:
        raise GenbenchError(f"{name}: found {len(array)} rows, allowed: at least {least}")
    with np.errstate(over="ignore", invalid="ignore"):
        certainly_finite = np.isfinite(array.sum())  # a sum of finite values may overflow
    if not certainly_finite:
        _refuse_values_not_finite(name, array)
    return array


def _refuse_values_not_finite(name: str, array: NDArray[Any]) -> None:
    bad = sum(int((~np.isfinite(array[i : i + ROW_BLOCK])).any(axis=1).sum()) for i in range(0, len(array), ROW_BLOCK))
    if bad:
        raise CellFailure(f"{name}: {bad} of {len(array)} rows hold a value that is not finite")


def pair(fake: Any, real: Any) -> tuple[Array, Array]:
    """Features fake (N, D) and real (M, D) as float64; raises as `checked_pair`."""
    checked = checked_pair(fake, real)
    return checked[0].astype(np.float64, copy=False), checked[1].astype(np.float64, copy=False)


def checked_pair(fake: Any, real: Any, least: int = 2) -> tuple[NDArray[Any], NDArray[Any]]:
    """Features fake (N, D) and real (M, D) as `checked_rows`; raises as that, and GenbenchError when D differs."""
    checked = checked_rows("fake", fake, least), checked_rows("real", real, least)
    if checked[0].shape[1] != checked[1].shape[1]:
        raise GenbenchError(f"fake has {checked[0].shape[1]} features a row and real {checked[1].shape[1]}; must agree")
    return checked


def standard_error(terms: Array) -> float:
    """The standard error of the mean of terms (N,), N >= 2."""
    centred, n = terms - terms.mean(), len(terms)
    return float(centred @ centred / (n * (n - 1))) ** 0.5


def with_normal_interval(
    value: float, scores: Array, how: str, *, kind: str = "", least: float = -np.inf, most: float = np.inf
) -> Value:
    """A value with value +- 1.96 standard errors, where scores (N,) are each sample's contribution.

    N = 1: no interval. least, most: the lowest and the highest possible value; the interval is cut there.
    """
    if len(scores) < 2:
        return Value(value, kind=kind)
    how = f"normal 95 %: +- 1.96 standard errors {how}"
    return normal_interval(value, float(scores.var(ddof=1)) / len(scores), how, kind=kind, least=least, most=most)


def normal_interval(
    value: float, variance: float, how: str, *, kind: str = "", least: float = -np.inf, most: float = np.inf
) -> Value:
    """A value with value +- 1.96 sqrt(variance), cut at `least` and `most`; how: describes the interval."""
    half = Z95 * variance**0.5
    lo, hi = max(least, value - half), min(most, value + half)
    return Value(value, min(lo, value), max(hi, value), how, kind)  # rounding may put a value beyond its bounds
