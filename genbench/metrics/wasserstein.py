"""Sliced 2-Wasserstein distance of pixels (Rabin et al. 2012; Bonneel et al. 2015).

    SW = sqrt( mean over directions t of W2^2(t'F, t'R) ),  t uniform on the unit sphere of R^P

Without further factors it is a root mean square over pixels: for a shift by m it is |m| / sqrt(P), and between
N(0, a^2 I) and N(0, b^2 I) it is |a - b|. In one dimension W2^2 is the integral over u in 0..1 of the squared
difference of the two quantile functions. They are step functions, so the integral is a finite sum, exact also for
N other than M, without interpolation. The directions are seeded, part of the protocol, and the same for every model.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from genbench.errors import CellFailure, GenbenchError
from genbench.metrics.arrays import Z95, Array
from genbench.metrics.base import Metric, Value
from genbench.metrics.degenerate import refuse_equal_rows
from genbench.metrics.readings import PIXELS

_PROJECTIONS, _DIRECTION_SEED = 1000, 2020
_BLOCK = 1024  # rows converted to float64 at a time
_DIRECTION_BLOCK = 50  # directions in memory at a time


class QuantileSteps(NamedTuple):
    """The pieces of 0..1 on which both quantile functions are constant, for N fake and M real samples by rank.

    length (Q,), Q at most N + M - 1; fake, real (Q,): whose steps they are. left, right (N - 1,): the real steps on
    either side of where one fake step ends and the next begins, mostly the same.
    """

    length: Array
    fake: np.ndarray
    real: np.ndarray
    left: np.ndarray
    right: np.ndarray


def quantile_steps(n: int, m: int) -> QuantileSteps:
    """The pieces, counted in whole parts of 1 / (n m)."""
    edges = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    ends = np.arange(1, n) * m
    return QuantileSteps(np.diff(edges) / (n * m), edges[:-1] // m, edges[:-1] // n, (ends - 1) // n, ends // n)


def blocks(rows: np.ndarray) -> Iterator[np.ndarray]:
    """The rows, _BLOCK at a time."""
    return (rows[i : i + _BLOCK] for i in range(0, len(rows), _BLOCK))


def pixels(name: str, rows: Any) -> np.ndarray:
    """An array (N, P) of at least 2 rows in its own type, so that large sets are not copied; raises as the distance."""
    array = np.asarray(rows)
    if array.ndim != 2 or len(array) < 2:
        raise GenbenchError(f"{name}: found an array of shape {array.shape}, allowed: (N, P) with N at least 2")
    bad = sum(int((~np.isfinite(block)).any(axis=1).sum()) for block in blocks(array))
    if bad:
        raise CellFailure(f"{name}: {bad} of {len(array)} rows hold a value that is not finite")
    return array


def directions(size: int, count: int, seed: int) -> Array:
    """Directions (count, size), uniform on the unit sphere."""
    t = np.random.default_rng(seed).standard_normal((count, size))
    return np.asarray(t / np.linalg.norm(t, axis=1, keepdims=True))


def project(rows: np.ndarray, t: Array) -> Array:
    """Rows (N, P) along directions t (L, P): (L, N)."""
    return np.concatenate([t @ block.T.astype(np.float64) for block in blocks(rows)], axis=1)


def transport(fake: Array, real: Array, cut: QuantileSteps) -> tuple[Array, Array]:
    """Squared distances (L,) of projections fake (L, N) and real (L, M), and each row's effect on their sum (N,).

    Mass moved from one sorted sample to the next, a to b, passes the end of a step, where the real quantile is y: it
    costs (b - y)^2 - (a - y)^2. These costs summed from the smallest sample on are the effects up to a constant.
    """
    order = fake.argsort(axis=1)
    x, y = np.take_along_axis(fake, order, axis=1), np.sort(real, axis=1)
    squared = np.square(x[:, cut.fake] - y[:, cut.real]) @ cut.length
    costs = np.diff(x, axis=1) * (x[:, 1:] + x[:, :-1] - y[:, cut.left] - y[:, cut.right])
    effects = np.zeros_like(x)
    np.put_along_axis(effects, order[:, 1:], costs.cumsum(axis=1), axis=1)
    return squared, effects.sum(axis=0)


def squared_distance(fake: Any, real: Any, projections: int, seed: int) -> tuple[float, Array]:
    """SW^2, and the first-order effect (N,) of each fake row on it up to a constant; raises as the public function."""
    fake, real = pixels("fake", fake), pixels("real", real)
    if fake.shape[1] != real.shape[1]:
        raise GenbenchError(f"fake has {fake.shape[1]} pixels a row and real {real.shape[1]}; must agree")
    if projections < 1:
        raise GenbenchError(f"projections: found {projections}, allowed: at least 1")
    refuse_equal_rows("sliced_wasserstein", "reference", real)
    return mean_squared_distance(fake, real, directions(fake.shape[1], projections, seed))


def mean_squared_distance(fake: np.ndarray, real: np.ndarray, along: Array) -> tuple[float, Array]:
    """Mean of W2^2 along directions (L, P), and the first-order effect (N,) of each fake row on it up to a constant."""
    cut, total, effects = quantile_steps(len(fake), len(real)), 0.0, np.zeros(len(fake))
    for start in range(0, len(along), _DIRECTION_BLOCK):
        t = along[start : start + _DIRECTION_BLOCK]
        squared, more = transport(project(fake, t), project(real, t), cut)
        total, effects = total + float(squared.sum()), effects + more
    return total / len(along), effects / len(along)


def sliced_wasserstein_distance(
    *, fake: Any, real: Any, projections: int = _PROJECTIONS, seed: int = _DIRECTION_SEED
) -> float:
    """Sliced 2-Wasserstein distance (the root) of pixels fake (N, P) and real (M, P), in their unit; 0 is best.

    Biased upwards at small N or M. Raises GenbenchError for shapes that do not fit, fewer than two rows or no
    projection; Degenerate when all rows of real are the same, CellFailure for values that are not finite.

        real = np.random.default_rng(0).random((200, 64))  # images of 8 x 8 pixels in [0, 1]
        metrics.sliced_wasserstein_distance(fake=real + 0.1, real=real)  # 0.10
    """
    return squared_distance(fake, real, projections, seed)[0] ** 0.5


def sliced_wasserstein(*, fake: Any, real: Any) -> Value:
    """sliced_wasserstein_distance with an interval over the fake samples, the reference and the directions fixed."""
    squared, effects = squared_distance(fake, real, _PROJECTIONS, _DIRECTION_SEED)
    half = Z95 * float(effects.std(ddof=1)) / len(effects) ** 0.5
    how = (
        "normal 95 %: roots of the squared distance +- 1.96 standard errors of the first-order effect of each "
        "generated sample, the reference and the directions fixed; small-sample bias not included"
    )
    return Value(squared**0.5, max(0.0, squared - half) ** 0.5, (squared + half) ** 0.5, how)


SLICED_WASSERSTEIN = Metric(
    name="sliced_wasserstein",
    title="Sliced W2",
    version=1,
    better="lower",
    unit="pixel range",
    reads=PIXELS,
    compute=sliced_wasserstein,
    least={"fake": 2, "real": 2},
    protocol={
        "distance": "root of the mean squared W2 over unit directions",
        "projections": _PROJECTIONS,
        "seed": _DIRECTION_SEED,
        "pixels": "in [0, 1]",
        "arithmetic": "float64",
    },
    cannot_detect="Does not detect what is small in pixel values, such as blurred detail, nor copies of train images.",
)
